"""The form for TPUs: one image at a time, and the neighbours of a point as one row.

A TPU gathers and scatters row by row in a serial loop, at a cost that hardly depends on what
a row holds, as long as all of it lies beside each other and the image in fast memory. With
few channels a row has room for all neighbours of a point; with many, a row is one pixel.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxwarp._sampler import rules
from jaxwarp._sampler.backends import portable
from jaxwarp._sampler.backends.blocks import Block, Cut, cut_of, fold_blocks, merge, split
from jaxwarp._sampler.neighbours import locate
from jaxwarp._sampler.spec import SampleSpec
from jaxwarp._sharding import zeros

# A row of so many numbers is one row of the machine's registers, filled or not.
_LANES = 128
# So many numbers, rows filled up, may lie in fast memory at once.
_MAX_NUMBERS = 2**24

_Operands = Mapping[str, jax.Array]


def supports(op: str, operands: Mapping[str, Any], spec: SampleSpec) -> bool:
    """Tell whether all sizes are known and a row holds more than a pixel."""
    source = operands["values" if op == "splat" else "image"]
    if not all(isinstance(n, int) for n in (*source.shape, *operands["grid"].shape, *spec.spatial)):
        return False
    cut = _cut(spec.layout.channels(source.shape), spec)
    return cut is not None and not ("window" in operands and any(axis.joined for axis in cut))


def sample(operands: _Operands, spec: SampleSpec) -> jax.Array:
    """Gather a row for every point, and weigh its pixels."""
    return _each_image(_sample_one, "image", operands, spec)


def splat(operands: _Operands, spec: SampleSpec) -> jax.Array:
    """Add a row for every point, and then what lies upon each other."""
    return _each_image(_splat_one, "values", operands, spec)


def correlate(operands: _Operands, spec: SampleSpec) -> jax.Array:
    """Gather a row for every point, and dot its pixels with the values."""
    return _each_image(_correlate_one, "image", operands, spec)


def _each_image(
    one: Callable[[_Operands, SampleSpec, Cut], jax.Array],
    source: str,
    operands: _Operands,
    spec: SampleSpec,
) -> jax.Array:
    cut = _cut(spec.layout.channels(operands[source].shape), spec)
    assert cut is not None

    def body(operands: _Operands) -> jax.Array:
        return one({name: x[None] for name, x in operands.items()}, spec, cut)[0]

    return lax.map(body, dict(operands))


def _cut(channels: int, spec: SampleSpec) -> Cut | None:
    """Cut along as many axes as a row holds; None where it holds no more than a pixel."""
    for axes in range(len(spec.spatial), 0, -1):
        cut = cut_of(spec, axes)
        rows = math.prod(cut.counts) * math.prod(spec.spatial[:-axes])
        if 0 < cut.area * channels <= _LANES and rows * _LANES <= _MAX_NUMBERS:
            return cut
    return None


def _rows(image: jax.Array, spec: SampleSpec, cut: Cut) -> jax.Array:
    """Turn one image into its blocks (rows, area * C)."""
    pixels = jnp.moveaxis(spec.layout.channels_to_end(image)[0], -1, 0)
    blocks = jnp.moveaxis(split(pixels, cut), 0, -1)
    return blocks.reshape(-1, cut.area * pixels.shape[0])


def _sample_one(operands: _Operands, spec: SampleSpec, cut: Cut) -> jax.Array:
    grid, layout = operands["grid"], spec.layout
    points = locate(grid, operands.get("window"), spec)
    scale = portable.chained_scale(operands, points, spec)
    rows, out = _rows(operands["image"], spec, cut), grid.shape[1:-1]

    def visit(total: jax.Array, block: Block) -> jax.Array:
        read = _read(rows, block, cut, grid.dtype)
        weight = jnp.moveaxis(block.weigh(scale), -1, 0)[:, None]
        return total + (read * weight).sum(0)

    shape, dtype = spec.result("sample", operands)
    total = zeros((layout.channels(shape), 1, *out), grid)
    total = fold_blocks(visit, total, points, spec, cut).astype(dtype)
    return layout.channels_from_end(jnp.moveaxis(total, 0, -1))


def _correlate_one(operands: _Operands, spec: SampleSpec, cut: Cut) -> jax.Array:
    grid, layout = operands["grid"], spec.layout
    points = locate(grid, operands.get("window"), spec)
    rows = _rows(operands["image"], spec, cut)
    values = jnp.moveaxis(layout.channels_to_end(operands["values"]), -1, 0).astype(grid.dtype)

    def visit(terms: tuple[jax.Array, ...], block: Block) -> tuple[jax.Array, ...]:
        read = _read(rows, block, cut, grid.dtype)
        dots = (read * values[None]).sum(1)
        return tuple(
            t + (dots * jnp.moveaxis(w, -1, 0)).sum(0) for t, w in zip(terms, block.weights, strict=True)
        )

    none = zeros(grid.shape[:-1], grid)
    terms = fold_blocks(visit, (none,) * len(spec.orders), points, spec, cut)
    return portable.times(jnp.stack(terms, axis=-1), portable.chain_factors(grid, points, spec))


def _read(rows: jax.Array, block: Block, cut: Cut, dtype: jax.typing.DTypeLike) -> jax.Array:
    """Gather (area, C, 1, *out); what is outside reads zero, whatever is there."""
    read = rows.at[block.number.reshape(-1)].get(
        mode="promise_in_bounds", wrap_negative_indices=False
    )
    read = read.T.reshape(cut.area, -1, *block.number.shape).astype(dtype)
    return jnp.where(jnp.moveaxis(block.inside, -1, 0)[:, None], read, 0)


def _splat_one(operands: _Operands, spec: SampleSpec, cut: Cut) -> jax.Array:
    values, grid, layout = operands["values"], operands["grid"], spec.layout
    points = locate(grid, operands.get("window"), spec)
    scale = portable.chained_scale(operands, points, spec)
    before = spec.spatial[: len(spec.spatial) - len(cut)]
    count = math.prod(before) * math.prod(cut.counts)
    channels = layout.channels(values.shape)
    values = jnp.moveaxis(layout.channels_to_end(values), -1, 0).astype(grid.dtype)

    def visit(image: jax.Array, block: Block) -> jax.Array:
        inside = jnp.moveaxis(block.inside, -1, 0)
        weight = jnp.moveaxis(block.weigh(scale), -1, 0)
        added = jnp.where(inside[:, None], values[None] * weight[:, None], 0)
        at = jnp.where(inside.any(0), block.number, count).reshape(-1)
        at, order = lax.sort_key_val(at, jnp.arange(at.size, dtype=jnp.int32))
        added = added.reshape(cut.area * channels, -1).T
        added = added.at[order].get(mode="promise_in_bounds", wrap_negative_indices=False)
        added = lax.optimization_barrier(added)
        return image.at[at].add(
            added, mode="drop", wrap_negative_indices=False, indices_are_sorted=True
        )

    image = fold_blocks(visit, zeros((count, cut.area * channels), grid), points, spec, cut)
    image = image.T.reshape(cut.area, channels, *before, *cut.counts)
    image = merge(jnp.moveaxis(image, 0, -1), cut)
    _, dtype = spec.result("splat", operands)
    return layout.channels_from_end(jnp.moveaxis(image, 0, -1)[None]).astype(dtype)
