"""The form for TPUs: one image at a time, and the neighbours of a point as one row.

A TPU gathers and scatters row by row in a serial loop, at a cost that hardly depends on what
a row holds, as long as all of it lies beside each other and the image in fast memory. With
few channels a row has room for all neighbours of a point; with many, a row is one pixel.
"""

import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from jaxwarp._layout import Layout
from jaxwarp._sampler.backends.blocks import Block, Cut, cut_of, fold_blocks, merge, split
from jaxwarp._sampler.backends.portable import chained_scale
from jaxwarp._sampler.neighbours import Points, chain_factors, locate, times
from jaxwarp._sampler.spec import SampleSpec, Shaped
from jaxwarp._sharding import zeros

# A row of so many numbers is one row of the machine's registers, filled or not.
_LANES = 128
# So many numbers, rows filled up, may lie in fast memory at once.
_MAX_NUMBERS = 2**24

_Operands = Mapping[str, jax.Array]
_One = Callable[[_Operands, SampleSpec, Cut], jax.Array]


def supports(op: str, operands: Mapping[str, Shaped], spec: SampleSpec) -> bool:
    """Tell whether all sizes are known and a row holds more than a pixel."""
    source = operands["values" if op == "splat" else "image"]
    if not all(isinstance(n, int) for n in (*source.shape, *operands["grid"].shape, *spec.spatial)):
        return False
    cut = _cut(spec.layout.channels(source.shape), spec)
    filled = 0 not in (*source.shape, *operands["grid"].shape) and cut is not None
    return filled and not ("window" in operands and any(axis.joined for axis in cut or ()))


def sample(operands: _Operands, spec: SampleSpec) -> jax.Array:
    """Gather a row for every point, and weigh its pixels."""
    return _arranged("sample", _each_image(_sample_one, "image", operands, spec), operands, spec)


def splat(operands: _Operands, spec: SampleSpec) -> jax.Array:
    """Add a row for every point, and then what lies upon each other."""
    return _arranged("splat", _each_image(_splat_one, "values", operands, spec), operands, spec)


def correlate(operands: _Operands, spec: SampleSpec) -> jax.Array:
    """Gather a row for every point, and dot its pixels with the values."""
    dots = _each_image(_correlate_one, "image", operands, spec)
    out = operands["grid"].shape[1:-1]
    return jnp.moveaxis(dots.reshape(*dots.shape[:2], *out), 1, -1)


def _arranged(op: str, x: jax.Array, operands: _Operands, spec: SampleSpec) -> jax.Array:
    """Bring a result, channels first and its other axes merged or not, into the layout."""
    shape, _ = spec.result(op, operands)
    x = x.reshape(*x.shape[:2], *spec.layout.spatial(shape))
    return spec.layout.channels_from_end(jnp.moveaxis(x, 1, -1))


def _each_image(one: _One, source: str, operands: _Operands, spec: SampleSpec) -> jax.Array:
    """Compute image by image, channels first and the points in one line."""
    cut = _cut(spec.layout.channels(operands[source].shape), spec)
    assert cut is not None
    first = spec._replace(layout=Layout(channels_last=False))
    lined_up = _lined_up(operands, spec)
    return lax.map(lambda operands: one(operands, first, cut), lined_up)


def _lined_up(operands: _Operands, spec: SampleSpec) -> _Operands:
    """Make everything (N, ..., points): what a row of registers holds are points."""
    out = operands["grid"].shape[1:-1]
    found = dict(operands)
    for name in found.keys() & {"image", "values"}:
        found[name] = jnp.moveaxis(spec.layout.channels_to_end(found[name]), -1, 1)
    for name in found.keys() & {"grid", "scale"}:
        found[name] = jnp.moveaxis(found[name], -1, 1)
    if "window" in found:
        window = jnp.moveaxis(found["window"], (-2, -1), (1, 2))
        found["window"] = jnp.broadcast_to(window, (*window.shape[:3], *out))
    for name in found.keys() - {"image"}:
        kept = found[name].ndim - len(out)
        found[name] = found[name].reshape(*found[name].shape[:kept], math.prod(out))
    return found


def _cut(channels: int, spec: SampleSpec) -> Cut | None:
    """Cut along as many axes as a row holds; None where it holds no more than a pixel."""
    for axes in range(len(spec.spatial), 0, -1):
        cut = cut_of(spec, axes)
        rows = math.prod(cut.counts) * math.prod(spec.spatial[:-axes])
        if 0 < cut.area * channels <= _LANES and rows * _LANES <= _MAX_NUMBERS:
            return cut
    return None


# One image: (C, *spatial), its values (C, points) -----------------------------


def _sample_one(operands: _Operands, spec: SampleSpec, cut: Cut) -> jax.Array:
    grid, points, scale = _located(operands, spec)
    rows = _rows(operands["image"], cut)

    def visit(total: jax.Array, block: Block) -> jax.Array:
        read = _read(rows, block, cut, grid.dtype)
        for pixel, weight in zip(read, _by_pixel(block.weigh(scale)), strict=True):
            total = total + pixel * weight[None]
        return total

    shape = (operands["image"].shape[0], *grid.shape[1:-1])
    total = fold_blocks(visit, zeros(shape, grid), points, spec, cut)
    return total.astype(spec.dtype)


def _correlate_one(operands: _Operands, spec: SampleSpec, cut: Cut) -> jax.Array:
    grid, points, _ = _located(operands, spec)
    rows, values = _rows(operands["image"], cut), operands["values"].astype(grid.dtype)

    def visit(terms: tuple[jax.Array, ...], block: Block) -> tuple[jax.Array, ...]:
        dots = [(p * values).sum(0) for p in _read(rows, block, cut, grid.dtype)]
        weights = [_by_pixel(weight) for weight in block.weights]
        for number, dot in enumerate(dots):
            terms = tuple(t + dot * w[number] for t, w in zip(terms, weights, strict=True))
        return terms

    none = zeros(grid.shape[1:-1], grid)
    terms = fold_blocks(visit, (none,) * len(spec.orders), points, spec, cut)
    factors = chain_factors(grid, points, spec)
    return times(jnp.stack(terms, axis=-1)[None], factors)[0].T


def _splat_one(operands: _Operands, spec: SampleSpec, cut: Cut) -> jax.Array:
    grid, points, scale = _located(operands, spec)
    values = operands["values"].astype(grid.dtype)
    before = spec.spatial[: len(spec.spatial) - len(cut)]
    count, channels = math.prod((*before, *cut.counts)), values.shape[0]

    def visit(image: jax.Array, block: Block) -> jax.Array:
        pixels = zip(_by_pixel(block.inside), _by_pixel(block.weigh(scale)), strict=True)
        added = [jnp.where(inside[None], values * weight[None], 0) for inside, weight in pixels]
        at = jnp.where(block.inside[0].any(-1), block.number[0], count)
        return _add(image, at, jnp.concatenate(added).T)

    rows = zeros((count, cut.area * channels), grid)
    rows = fold_blocks(visit, rows, points, spec, cut)
    shape = (channels, *before, *cut.counts)
    blocks = [pixels.reshape(shape) for pixels in jnp.split(_turned(rows), cut.area)]
    return merge(blocks, cut).astype(spec.dtype)


def _located(operands: _Operands, spec: SampleSpec) -> tuple[jax.Array, Points, jax.Array | None]:
    """Return an image's grid, points and scales, as `locate` knows them: in a batch of one."""
    names = operands.keys() & {"grid", "window", "scale"}
    batched = {name: jnp.moveaxis(operands[name], -1, 0)[None] for name in names}
    points = locate(batched["grid"], batched.get("window"), spec)
    return batched["grid"], points, chained_scale(batched, points, spec)


def _by_pixel(x: jax.Array) -> list[jax.Array]:
    """Split what a batch of one has for the pixels of its blocks into one (points,) for each."""
    return [x[0, ..., pixel] for pixel in range(x.shape[-1])]


# Rows -------------------------------------------------------------------------


def _rows(image: jax.Array, cut: Cut) -> jax.Array:
    """Turn an image into its blocks (blocks, area * C)."""
    pixels = split(image, cut)
    return jnp.concatenate([x.reshape(image.shape[0], -1) for x in pixels]).T


def _read(rows: jax.Array, block: Block, cut: Cut, dtype: DTypeLike) -> list[jax.Array]:
    """Gather (C, points) for each pixel; what is outside reads zero, whatever is there."""
    read = rows.at[block.number[0]].get(mode="promise_in_bounds", wrap_negative_indices=False)
    turned = _turned(read).reshape(cut.area, -1, read.shape[0])
    pixels = zip(turned, _by_pixel(block.inside), strict=True)
    return [jnp.where(inside[None], pixel.astype(dtype), 0) for pixel, inside in pixels]


def _turned(rows: jax.Array) -> jax.Array:
    """Return rows' columns one behind the other, in one line.

    If they were not in one line, XLA would leave the rows as they lie, and all that is computed
    from them, too: a few numbers each, filled up to a whole row of registers.
    """
    return lax.optimization_barrier(rows.T.reshape(-1))


def _add(image: jax.Array, at: jax.Array, rows: jax.Array) -> jax.Array:
    """Add rows to an image's, sorted by where they go.

    XLA sorts them anyway, but then reads them in that order in a loop of its own kind, which
    takes four times the bundles of a gather. The barrier keeps it from finding that loop again.
    """
    # To be stable takes one operand more, and nearly twice the time to compile.
    order = jnp.arange(at.size, dtype=jnp.int32)
    at, order = lax.sort((at, order), num_keys=1, is_stable=False)
    rows = rows.at[order].get(mode="promise_in_bounds", wrap_negative_indices=False)
    rows = lax.optimization_barrier(rows)
    return image.at[at].add(rows, mode="drop", wrap_negative_indices=False, indices_are_sorted=True)
