"""The form for GPUs: gathers of single numbers that fuse, and scatters of whole vectors.

Compiled for a GPU, a gather of rows becomes kernels that write the rows and others that turn
them round; a gather of numbers from the flat batch fuses with all that follows, in either
layout. A scatter of rows of four numbers becomes one vector atomic on compute capability 9.0;
of single numbers it is a compare-and-swap loop with some versions of jaxlib (see README.md).
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxwarp._sampler import rules
from jaxwarp._sampler.backends import portable
from jaxwarp._sampler.backends.blocks import Block, Cut, fold_blocks, merge
from jaxwarp._sampler.backends.portable import Reader
from jaxwarp._sampler.neighbours import Neighbour, locate
from jaxwarp._sampler.spec import SampleSpec
from jaxwarp._sharding import zeros

# A vector atomic adds so many numbers.
_VECTOR = 4
# So many channels are dotted term by term, in the kernel that gathers them.
_MAX_TERMS = 16


def sample(operands: Mapping[str, jax.Array], spec: SampleSpec) -> jax.Array:
    """Gather number by number, and weigh."""
    image = operands["image"]
    if not numbered(image.shape):
        return portable.sample(operands, spec)
    channels = jnp.arange(spec.layout.channels(image.shape), dtype=jnp.int32)
    return portable.weigh_all(operands, spec, _reader(image, channels, spec))


def correlate(operands: Mapping[str, jax.Array], spec: SampleSpec) -> jax.Array:
    """Gather number by number, and dot with the values."""
    image, values = operands["image"], operands["values"]
    if not numbered(image.shape):
        return portable.correlate(operands, spec)
    dtype, layout = operands["grid"].dtype, spec.layout
    count, axis = layout.channels(image.shape), layout.channel_axis
    step = 1 if count <= _MAX_TERMS else count
    groups = [jnp.arange(c, c + step, dtype=jnp.int32) for c in range(0, count, step)]

    def dot(neighbour: Neighbour) -> jax.Array:
        terms = []
        for c, channels in enumerate(groups):
            rows = _reader(image, channels, spec)(neighbour)
            rows = portable.masked(rows, neighbour, spec, dtype)
            some = lax.slice_in_dim(values, c * step, (c + 1) * step, axis=axis % values.ndim)
            terms.append((rows * some.astype(dtype)).sum(axis))
        return sum(terms[1:], terms[0])

    return portable.dot_all(operands, spec, dot)


def splat(operands: Mapping[str, jax.Array], spec: SampleSpec) -> jax.Array:
    """Add rows of neighbours, a whole vector each, and then what lies upon each other."""
    values, grid = operands["values"], operands["grid"]
    shape, dtype = spec.result("splat", operands)
    if not numbered(shape, values.shape):
        return portable.splat(operands, spec)
    cut = _cut(spec)
    before = spec.spatial[: len(spec.spatial) - len(cut.spatial)]
    rows = (*before, *cut.counts)
    points = locate(grid, operands.get("window"), spec)
    scale = portable.chained_scale(operands, points, spec)
    layout, channel = spec.layout, spec.layout.channel_axis % values.ndim
    target = layout.arrange(grid.shape[0], layout.channels(values.shape), rows)
    number = _numbering(target, spec)
    values = values.astype(grid.dtype)[..., None]

    def visit(image: jax.Array, block: Block) -> jax.Array:
        weight = jnp.expand_dims(block.weigh(scale), channel)
        inside = jnp.expand_dims(block.inside, channel)
        added = jnp.where(inside, values * weight, 0)
        at = jnp.where(inside.any(-1), number(block.row), math.prod(target))
        return image.at[at].add(added, mode="drop", wrap_negative_indices=False)

    image = fold_blocks(visit, zeros((math.prod(target), cut.area), grid), points, spec, cut)
    image = image.reshape(*target, cut.area)
    if layout.channels_last:
        image = jnp.moveaxis(image, -2, 1)
    return layout.channels_from_end(jnp.moveaxis(merge(image, cut), 1, -1)).astype(dtype)


def _cut(spec: SampleSpec) -> Cut:
    """Cut the image so that a block is one vector."""
    taps, axes = rules.count(spec.rule), len(spec.spatial)
    if taps == 1:
        return Cut(spec.spatial[-1:], (_VECTOR,), (_VECTOR,))
    packed = 2 if taps == 2 and axes > 1 else 1
    width = _VECTOR if packed == 1 else 2
    return Cut(spec.spatial[-packed:], (width,) * packed, (1,) * packed)


def numbered(*shapes: tuple[Any, ...]) -> bool:
    """Whether int32 numbers the whole batch: not past 2**31, nor where a size is a symbol."""
    known = all(isinstance(n, int) for shape in shapes for n in shape)
    return known and all(math.prod(shape) < 2**31 for shape in shapes)


def _reader(image: jax.Array, channels: jax.Array, spec: SampleSpec) -> Reader:
    """Gather some channels from the flat batch."""
    flat, number = image.reshape(-1), _numbering(image.shape, spec, channels)

    def read(neighbour: Neighbour) -> jax.Array:
        at = number(neighbour.pixel)
        return flat.at[at].get(mode="promise_in_bounds", wrap_negative_indices=False)

    return read


def _numbering(
    shape: tuple[int, ...], spec: SampleSpec, channels: jax.Array | None = None
) -> Callable[[jax.Array], jax.Array]:
    """Return what numbers places of an image (N, *out) through a batch, for every channel."""
    layout, batch, count = spec.layout, shape[0], spec.layout.channels(shape)
    places = math.prod(layout.spatial(shape))
    channels = jnp.arange(count, dtype=jnp.int32) if channels is None else channels
    by_channel, by_place = (1, count) if layout.channels_last else (places, 1)

    def number(place: jax.Array) -> jax.Array:
        ones = [1] * (place.ndim - 1)
        n = jnp.arange(batch, dtype=jnp.int32).reshape(-1, *ones, 1) * (places * count)
        c = channels.reshape(layout.arrange(1, -1, ones)) * by_channel
        return n + c + jnp.expand_dims(place, layout.channel_axis) * by_place

    return number
