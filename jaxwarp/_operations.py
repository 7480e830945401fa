"""What `sample`, `splat` and `correlate` compute: one visit to every corner.

Each is written for how XLA compiles it; the comments say what was measured.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxwarp._corners import Corner, Points, chain_factors, fold_corners, locate, times
from jaxwarp._form import Form
from jaxwarp._sharding import zeros


def _sample(operands: dict[str, Any], form: Form, on_cpu: bool) -> jax.Array:
    grid = operands["grid"]
    points = locate(grid, operands.get("window"), form)
    scale = _scale(operands, points, form)
    pixels = _flatten(operands["image"], form)
    channel = form.channel_axis

    def visit(total: Any, corner: Corner) -> Any:
        weight = jnp.expand_dims(corner.weigh(scale), channel)
        return total + _read(pixels, corner, form, grid.dtype) * weight

    shape, dtype = form.result("sample", operands)
    total = zeros(shape, grid)
    return fold_corners(visit, total, points, form).astype(dtype)


def _splat(operands: dict[str, Any], form: Form, on_cpu: bool) -> jax.Array:
    values, grid = operands["values"], operands["grid"]
    points = locate(grid, operands.get("window"), form)
    scale = _scale(operands, points, form)
    batch, channels = grid.shape[0], values.shape[form.channel_axis]

    def add(image: jax.Array, chunk: _Chunk, start: Any) -> jax.Array:
        rows = chunk.values if form.channels_last else jnp.moveaxis(chunk.values, 1, -1)
        rows = rows.astype(grid.dtype)

        def visit(image: jax.Array, corner: Corner) -> jax.Array:
            weighed = rows * corner.weigh(chunk.scale)[..., None]
            weighed = jnp.where(corner.inside[..., None], weighed, 0)
            return jax.vmap(_ADD_ROWS[on_cpu])(image, corner, weighed)

        return fold_corners(visit, image, chunk.points, form)

    image = zeros((batch, math.prod(form.spatial), channels), grid)
    image = _fold_chunks(add, image, _all_points(points, values, scale, form), form, on_cpu)
    if not form.channels_last:
        image = jnp.moveaxis(image, -1, 1)
        return image.reshape(batch, channels, *form.spatial).astype(form.dtype)
    return image.reshape(batch, *form.spatial, channels).astype(form.dtype)


def _correlate(operands: dict[str, Any], form: Form, on_cpu: bool) -> jax.Array:
    values, grid = operands["values"], operands["grid"]
    points = locate(grid, operands.get("window"), form)
    pixels = _flatten(operands["image"], form)

    def write(out: jax.Array, chunk: _Chunk, start: Any) -> jax.Array:
        values = chunk.values.astype(grid.dtype)

        def visit(totals: tuple[jax.Array, ...], corner: Corner) -> tuple[jax.Array, ...]:
            # Behind a barrier, or every term would gather the same pixels again.
            dot = lax.optimization_barrier(_dot(pixels, values, corner, form))
            return tuple(t + dot * w for t, w in zip(totals, corner.weights, strict=True))

        none = zeros(chunk.points.positions[0].shape, grid)
        totals = fold_corners(visit, (none,) * len(form.orders), chunk.points, form)
        return lax.dynamic_update_slice_in_dim(out, jnp.stack(totals, axis=-1), start, axis=1)

    everything = _all_points(points, values, None, form)
    shape = everything.points.positions[0].shape
    out = zeros((*shape, len(form.orders)), grid)
    out = _fold_chunks(write, out, everything, form, on_cpu)
    out = out.reshape(*grid.shape[:-1], len(form.orders))
    return times(out, chain_factors(grid, points, form))


OPERATIONS = {"sample": _sample, "splat": _splat, "correlate": _correlate}


def _scale(operands: dict[str, Any], points: Points, form: Form) -> jax.Array | None:
    scale = operands.get("scale")
    return None if scale is None else times(scale, chain_factors(operands["grid"], points, form))


# Pixels -----------------------------------------------------------------------


def _flatten(image: jax.Array, form: Form) -> jax.Array:
    """Merge the spatial axes: (N, C, pixels) or (N, pixels, C)."""
    pixels = math.prod(form.spatial)
    if form.channels_last:
        return image.reshape(image.shape[0], pixels, image.shape[-1])
    return image.reshape(image.shape[0], image.shape[1], pixels)


def _read(pixels: jax.Array, corner: Corner, form: Form, dtype: Any) -> jax.Array:
    """Gather (N, C, *out) or (N, *out, C); what is outside reads zero, whatever is there."""
    rows = jax.vmap(_take_last if form.channels_last else _take_first)(pixels, corner.pixel)
    inside = jnp.expand_dims(corner.inside, form.channel_axis)
    return jnp.where(inside, rows.astype(dtype), 0)


def _take_first(pixels: jax.Array, index: jax.Array) -> jax.Array:
    return pixels.at[:, index].get(mode="promise_in_bounds", wrap_negative_indices=False)


def _take_last(pixels: jax.Array, index: jax.Array) -> jax.Array:
    return pixels.at[index].get(mode="promise_in_bounds", wrap_negative_indices=False)


def _add_every_row(pixels: jax.Array, corner: Corner, rows: jax.Array) -> jax.Array:
    return pixels.at[corner.pixel].add(rows, mode="promise_in_bounds", wrap_negative_indices=False)


def _add_inside_rows(pixels: jax.Array, corner: Corner, rows: jax.Array) -> jax.Array:
    beyond = jnp.where(corner.inside, corner.pixel, pixels.shape[0])
    return pixels.at[beyond].add(rows, mode="drop", wrap_negative_indices=False)


# What lies outside is zero by now. On a CPU adding it to an edge pixel is cheaper than
# a test; where updates are atomic, all of them would wait for the same few pixels.
_ADD_ROWS = {True: _add_every_row, False: _add_inside_rows}

_FEW_CHANNELS = 4


def _dot(pixels: jax.Array, values: jax.Array, corner: Corner, form: Form) -> jax.Array:
    """Dot the gathered pixels with the values over the channels, (N, *out)."""
    axis = form.channel_axis
    product = _read(pixels, corner, form, values.dtype) * values
    channels = pixels.shape[axis]
    if not isinstance(channels, int) or not 0 < channels <= _FEW_CHANNELS:
        return product.sum(axis)
    # A reduction over 3 channels runs as a loop of its own; unrolled it fuses.
    terms = [lax.index_in_dim(product, c, axis, keepdims=False) for c in range(channels)]
    return sum(terms[1:], terms[0])


# Chunks -----------------------------------------------------------------------

# Points per chunk, and numbers per chunk over all channels. A scatter's indices and
# rows are arrays of their own, and XLA makes those of every corner before it uses the
# first. Chunks keep them in cache, and below the size at which the allocator maps
# fresh, zeroed pages for every call: 2 to 3 times as fast as all points at once.
_CHUNK_POINTS = 2**15
_CHUNK_VALUES = 2**17


class _Chunk(NamedTuple):
    """Points on one axis (N, P), with the values and scales that belong to them."""

    points: Points
    values: jax.Array
    scale: jax.Array | None


def _all_points(points: Points, values: jax.Array, scale: Any, form: Form) -> _Chunk:
    """Merge the output axes into one."""
    batch, *out = points.positions[0].shape
    total = math.prod(out)
    channels = values.shape[form.channel_axis]
    shape = (batch, total, channels) if form.channels_last else (batch, channels, total)
    return _Chunk(
        Points(
            tuple(p.reshape(batch, total) for p in points.positions),
            *(
                tuple(_merge_points(x, out) if isinstance(x, jax.Array) else x for x in bounds)
                for bounds in (points.firsts, points.sizes)
            ),
        ),
        values.reshape(shape),
        None if scale is None else scale.reshape(batch, total, scale.shape[-1]),
    )


def _cut_points(cut: Callable[..., jax.Array], x: Any, start: Any) -> Any:
    varies = isinstance(x, jax.Array) and x.shape[1] != 1
    return cut(x, start, axis=1) if varies else x


def _merge_points(x: jax.Array, out: Sequence[Any]) -> jax.Array:
    """Merge the output axes of (N, *out), or of (N, 1, ..., 1), which all points share."""
    shared = all(isinstance(d, int) and d == 1 for d in x.shape[1:])
    if shared:
        return x.reshape(-1, 1)
    return jnp.broadcast_to(x, (x.shape[0], *out)).reshape(x.shape[0], -1)


def _fold_chunks(
    step: Callable[[jax.Array, _Chunk, Any], jax.Array],
    total: jax.Array,
    everything: _Chunk,
    form: Form,
    on_cpu: bool,
) -> jax.Array:
    """Fold ``step(total, chunk, start)`` over chunks of the points."""
    count = everything.points.positions[0].shape[1]
    length = _chunk_length(everything.values, form)
    if not on_cpu or length is None or count <= length:
        return step(total, everything, 0)

    def piece(cut: Callable[..., jax.Array], start: Any) -> _Chunk:
        points, values, scale = everything
        return _Chunk(
            Points(*(tuple(_cut_points(cut, x, start) for x in xs) for xs in points)),
            cut(values, start, axis=1 if form.channels_last else 2),
            None if scale is None else cut(scale, start, axis=1),
        )

    whole, rest = divmod(count, length)
    cut = partial(lax.dynamic_slice_in_dim, slice_size=length)
    total = lax.fori_loop(
        0, whole, lambda i, total: step(total, piece(cut, i * length), i * length), total
    )
    if rest:
        tail = partial(lax.slice_in_dim, limit_index=count)
        total = step(total, piece(tail, whole * length), whole * length)
    return total


def _chunk_length(values: jax.Array, form: Form) -> int | None:
    """Return how many points of each batch element make a chunk; None if sizes are symbolic."""
    if not all(isinstance(d, int) for d in values.shape):
        return None
    batch, channels = values.shape[0], values.shape[form.channel_axis]
    points = min(_CHUNK_POINTS, _CHUNK_VALUES // max(channels, 1))
    return max(1, points // max(batch, 1))
