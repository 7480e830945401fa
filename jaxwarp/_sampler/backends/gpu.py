"""The form for GPUs: gathers of single numbers that fuse, and scatters of whole vectors.

Compiled for a GPU, a gather of rows becomes kernels that write the rows and others that turn
them round; a gather of numbers from the flat batch fuses with all that follows, in either
layout. A scatter of rows of four numbers becomes one vector atomic on compute capability 9.0;
of single numbers it is a compare-and-swap loop with some versions of jaxlib
(github.com/jax-ml/jax/issues/38806). So a row is a block of four neighbours.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from jaxwarp._sampler.backends import portable
from jaxwarp._sampler.backends.blocks import AxisCut, Block, Cut, cut_of, fold_blocks, merge
from jaxwarp._sampler.backends.portable import Reader
from jaxwarp._sampler.neighbours import Neighbour, locate
from jaxwarp._sampler.spec import SampleSpec, Shaped
from jaxwarp._sharding import zeros

# A vector atomic adds so many numbers.
_VECTOR = 4
# Fewer rows are filled up with some that go nowhere: XLA takes vectors only where there are
# enough to keep every core busy (67584 on an H100).
_ENOUGH_ROWS = 2**17
# So many channels are dotted term by term, in the kernel that gathers them.
_MAX_TERMS = 16


def supports(op: str, operands: Mapping[str, Shaped], spec: SampleSpec) -> bool:
    """Tell whether all sizes are known, none is 0, and int32 numbers what is read or written."""
    source = operands["values" if op == "splat" else "image"]
    if not all(isinstance(n, int) for n in (*source.shape, *operands["grid"].shape, *spec.spatial)):
        return False
    if 0 in (*source.shape, *operands["grid"].shape):
        return False
    if op != "splat":
        return math.prod(source.shape) < 2**31
    cut, channels = _cut(spec), spec.layout.channels(source.shape)
    rows = source.shape[0] * channels * math.prod(_places(cut, spec))
    joined = any(axis.joined for axis in cut)
    # Of a window the ends are elsewhere than those of the image's blocks.
    return rows * cut.area < 2**31 and not (joined and "window" in operands)


def sample(operands: Mapping[str, jax.Array], spec: SampleSpec) -> jax.Array:
    """Gather number by number, and weigh."""
    image = operands["image"]
    channels = range(spec.layout.channels(image.shape))
    return portable.weigh_all(operands, spec, _reader(image, channels, spec))


def correlate(operands: Mapping[str, jax.Array], spec: SampleSpec) -> jax.Array:
    """Gather number by number, and dot with the values."""
    image, values, dtype = operands["image"], operands["values"], operands["grid"].dtype
    count, axis = spec.layout.channels(image.shape), spec.layout.channel_axis % values.ndim
    step = 1 if 0 < count <= _MAX_TERMS else count
    parts = [range(c, c + step) for c in range(0, count, step or 1)] or [range(0)]
    readers = [_reader(image, part, spec) for part in parts]
    cut = [lax.slice_in_dim(values, p.start, p.stop, axis=axis).astype(dtype) for p in parts]

    def dot(neighbour: Neighbour) -> jax.Array:
        rows = [portable.masked(read(neighbour), neighbour, spec, dtype) for read in readers]
        terms = [(row * some).sum(axis) for row, some in zip(rows, cut, strict=True)]
        return sum(terms[1:], terms[0])

    return _stacked(portable.dot_all(operands, spec, dot))


def _stacked(terms: Sequence[jax.Array]) -> jax.Array:
    """Stack terms along a last axis: as a sum of padded ones.

    A concatenation XLA makes a kernel of its own, and of what it shares with the splat of the
    same points two more (jaxlib 0.10.2; a ceiling of `parity_tests.compiled`, on the bytes of
    8x3x256x256 with channels last, is exceeded by it).
    """
    last = len(terms) - 1
    pads = [[(0, 0)] * term.ndim + [(m, last - m)] for m, term in enumerate(terms)]
    padded = [jnp.pad(term[..., None], pad) for term, pad in zip(terms, pads, strict=True)]
    return sum(padded[1:], padded[0])


def splat(operands: Mapping[str, jax.Array], spec: SampleSpec) -> jax.Array:
    """Add blocks of neighbours, a whole vector each, and then what lies upon each other."""
    values, grid, layout = operands["values"], operands["grid"], spec.layout
    points = locate(grid, operands.get("window"), spec)
    scales = portable.chained_scales(operands, points, spec)
    cut, channel = _cut(spec), layout.channel_axis % values.ndim
    channels = layout.channels(values.shape)
    target = layout.arrange(grid.shape[0], channels, _places(cut, spec))
    number, count = _numbering(target, range(channels), spec), math.prod(target)
    values = values.astype(grid.dtype)[..., None]

    def visit(image: jax.Array, block: Block) -> jax.Array:
        weight = jnp.expand_dims(block.weigh(scales), channel)
        inside = jnp.expand_dims(block.inside, channel)
        at = jnp.where(inside.any(-1), number(block.number), count).reshape(-1)
        added = jnp.where(inside, values * weight, 0).reshape(-1, cut.area)
        more = max(_ENOUGH_ROWS - at.size, 0)
        at = jnp.pad(at, (0, more), constant_values=count)
        added = jnp.pad(added, ((0, more), (0, 0)))
        return image.at[at].add(added, mode="drop", wrap_negative_indices=False)

    rows = zeros((count, cut.area), grid)
    rows = fold_blocks(visit, rows, points, spec, cut, pixel_axis=-1)
    rows = rows.reshape(*target, cut.area)
    rows = jnp.moveaxis(rows, -2, 1) if layout.channels_last else rows
    image = merge([rows[..., pixel] for pixel in range(cut.area)], cut)
    _, dtype = spec.result("splat", operands)
    return layout.channels_from_end(jnp.moveaxis(image, 1, -1)).astype(dtype)


def _cut(spec: SampleSpec) -> Cut:
    """Cut the image so that a block is one vector."""
    if spec.kernel.taps == 1:
        return Cut([AxisCut(spec.spatial[-1], _VECTOR, _VECTOR)])
    cut = cut_of(spec, 1)
    if cut.area < _VECTOR and len(spec.spatial) > 1:
        cut = cut_of(spec, 2)
    return cut if cut.area >= _VECTOR else Cut([cut[0]._replace(width=_VECTOR)])


def _places(cut: Cut, spec: SampleSpec) -> tuple[int, ...]:
    """Return how many blocks there are along every axis of the image."""
    return (*spec.spatial[: len(spec.spatial) - len(cut)], *cut.counts)


# Numbers in a flat batch ------------------------------------------------------


def _reader(image: jax.Array, channels: range, spec: SampleSpec) -> Reader:
    """Gather some channels from the flat batch."""
    flat, number = image.reshape(-1), _numbering(image.shape, channels, spec)

    def read(neighbour: Neighbour) -> jax.Array:
        at = number(neighbour.pixel)
        return flat.at[at].get(mode="promise_in_bounds", wrap_negative_indices=False)

    return read


def _numbering(
    shape: tuple[int, ...], channels: range, spec: SampleSpec
) -> Callable[[jax.Array], jax.Array]:
    """Return what numbers the places of an array in the layout (N, *out), in some channels."""
    layout, places = spec.layout, math.prod(spec.layout.spatial(shape))
    count = layout.channels(shape)
    of_channel, of_place = (1, count) if layout.channels_last else (places, 1)

    def number(place: jax.Array) -> jax.Array:
        ones = [1] * (place.ndim - 1)
        images = jnp.arange(shape[0], dtype=jnp.int32).reshape(-1, *ones, 1)
        some = jnp.arange(channels.start, channels.stop, dtype=jnp.int32).reshape(
            layout.arrange(1, -1, ones)
        )
        within = jnp.expand_dims(place, layout.channel_axis) * of_place
        return images * (places * count) + some * of_channel + within

    return number
