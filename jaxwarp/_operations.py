"""What `sample`, `splat` and `correlate` compute: one visit to every corner.

Each is written for how XLA compiles it; the comments say what was measured.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from jaxwarp import _taps
from jaxwarp._corners import Corner, Points, chain_factors, fold_corners, locate, times
from jaxwarp._form import Form
from jaxwarp._sharding import zeros

_T = TypeVar("_T")
_Arrays = tuple[jax.Array, ...]


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
    # Three numbers are added one by one, four at once.
    width = 4 if on_cpu and isinstance(channels, int) and channels == 3 else channels

    def add(image: jax.Array, chunk: _Chunk, start: Any) -> jax.Array:
        rows = chunk.values if form.channels_last else jnp.moveaxis(chunk.values, 1, -1)
        rows = jnp.pad(rows.astype(grid.dtype), ((0, 0), (0, 0), (0, width - channels)))

        def visit(image: jax.Array, corner: Corner) -> jax.Array:
            weighed = rows * corner.weigh(chunk.scale)[..., None]
            return jax.vmap(_add_rows)(image, corner, weighed)

        return fold_corners(visit, image, chunk.points, form)

    def empty(count: Any) -> jax.Array:
        return zeros((batch, math.prod(form.spatial), width), grid)

    parts = _fold_chunks(add, empty, _all_points(points, values, scale, form), form, on_cpu)
    image = sum(parts[1:], parts[0])[..., :channels]
    image = image if form.channels_last else jnp.moveaxis(image, -1, 1)
    shape, dtype = form.result("splat", operands)
    return image.reshape(shape).astype(dtype)


def _correlate(operands: dict[str, Any], form: Form, on_cpu: bool) -> jax.Array:
    values, grid = operands["values"], operands["grid"]
    points = locate(grid, operands.get("window"), form)
    pixels = _flatten(operands["image"], form)

    # One array for each term: interleaved they would not be computed eight at a time.
    def write(out: _Arrays, chunk: _Chunk, start: Any) -> _Arrays:
        values = chunk.values.astype(grid.dtype)
        one = _opaque_one(start, grid.dtype)

        def visit(totals: _Arrays, corner: Corner) -> _Arrays:
            dot = _dot(pixels, values, corner, form) / one
            return tuple(t + dot * w for t, w in zip(totals, corner.weights, strict=True))

        none = zeros(chunk.points.positions[0].shape, grid)
        totals = fold_corners(visit, (none,) * len(form.orders), chunk.points, form)
        return tuple(
            lax.dynamic_update_slice_in_dim(term, total, start, axis=1)
            for term, total in zip(out, totals, strict=True)
        )

    def empty(count: Any) -> _Arrays:
        return (zeros((grid.shape[0], count), grid),) * len(form.orders)

    parts = _fold_chunks(write, empty, _all_points(points, values, None, form), form, on_cpu)
    terms = [jnp.concatenate(term, axis=1) for term in zip(*parts, strict=True)]
    out = jnp.stack([term.reshape(grid.shape[:-1]) for term in terms], axis=-1)
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


def _add_rows(pixels: jax.Array, corner: Corner, rows: jax.Array) -> jax.Array:
    """Add rows to pixels; what is outside goes nowhere, whatever it is."""
    beyond = jnp.where(corner.inside, corner.pixel, pixels.shape[0])
    return pixels.at[beyond].add(rows, mode="drop", wrap_negative_indices=False)


_FEW_CHANNELS = 4


def _has_few(values: jax.Array, form: Form) -> bool:
    channels = values.shape[form.channel_axis]
    return isinstance(channels, int) and 0 < channels <= _FEW_CHANNELS


def _dot(pixels: jax.Array, values: jax.Array, corner: Corner, form: Form) -> jax.Array:
    """Dot the gathered pixels with the values over the channels, (N, *out)."""
    axis = form.channel_axis
    if not _has_few(values, form):
        return (_read(pixels, corner, form, values.dtype) * values).sum(axis)
    # A reduction over 3 channels runs as a loop of its own; unrolled it fuses.
    terms = []
    for c in range(values.shape[axis]):
        plane, value = (lax.index_in_dim(x, c, axis, keepdims=False) for x in (pixels, values))
        pixel = jax.vmap(_take_last)(plane, corner.pixel).astype(value.dtype)
        terms.append(jnp.where(corner.inside, pixel, 0) * value)
    return sum(terms[1:], terms[0])


def _opaque_one(start: Any, dtype: Any) -> Any:
    """Return a one that the compiler cannot see through, to divide by.

    Of what has several users XLA makes a copy for each, which computes it again, unless
    it is expensive; and a division it holds to be. (By one divisor for all: a divisor
    of its own would become a multiplication.)
    """
    return (start >= 0).astype(dtype) if isinstance(start, jax.Array) else 1


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

    @property
    def held(self) -> tuple[Any, ...]:
        """What is worth carrying along: all but the bounds."""
        return self.points.positions, self.values, self.scale

    def holding(self, positions: _Arrays, values: jax.Array, scale: Any) -> "_Chunk":
        """Return the same points with other arrays for what is held."""
        return _Chunk(self.points._replace(positions=positions), values, scale)


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


def _merge_points(x: jax.Array, out: Sequence[Any]) -> jax.Array:
    """Merge the output axes of (N, *out), or of (N, 1, ..., 1), which all points share."""
    shared = all(isinstance(d, int) and d == 1 for d in x.shape[1:])
    if shared:
        return x.reshape(-1, 1)
    return jnp.broadcast_to(x, (x.shape[0], *out)).reshape(x.shape[0], -1)


def _fold_chunks(
    step: Callable[[_T, _Chunk, Any], _T],
    empty: Callable[[Any], _T],
    everything: _Chunk,
    form: Form,
    on_cpu: bool,
) -> list[_T]:
    """Fold ``step(total, chunk, start)`` over chunks of the points, from ``empty(points)``.

    The points are cut into as many parts as there are totals; ``start`` counts from a
    part's first point.
    """
    count = everything.points.positions[0].shape[1]
    length = _chunk_length(everything.values, form)
    if not on_cpu or length is None or count <= length:
        return [step(empty(count), everything, 0)]

    # Chunks that are carried along lie together in memory. Cut where they are used, from a
    # batch, every tap reads them in strides and not eight numbers at a time. Otherwise two parts
    # of the points side by side are faster: a scatter runs on one core.
    several_taps, batch = _taps.count(form.rule) > 1, everything.values.shape[0]
    carried = _has_few(everything.values, form) and batch > 1 and several_taps
    parts = 1 if carried else 2
    turns = -(-count // (length * parts))
    length = count // (turns * parts)
    span = turns * length
    firsts = [k * span for k in range(parts)]

    def advance(i: Any, carry: Any) -> Any:
        totals, held = carry
        chunks = [_cut(everything, form, first + i * length, length) for first in firsts]
        if carried:
            chunks = [chunk.holding(*arrays) for chunk, arrays in zip(chunks, held, strict=True)]
        totals = [step(t, c, i * length) for t, c in zip(totals, chunks, strict=True)]
        return totals, hold(jnp.minimum(i + 1, turns - 1) * length)

    def hold(start: Any) -> list[Any]:
        if not carried:
            return []
        return [_cut(everything, form, first + start, length).held for first in firsts]

    rest = count - parts * span
    sizes = [span] * (parts - 1) + [span + rest]
    totals, _ = lax.fori_loop(0, turns, advance, ([empty(size) for size in sizes], hold(0)))
    if rest:
        totals[-1] = step(totals[-1], _cut(everything, form, count - rest, rest), span)
    return totals


def _cut(everything: _Chunk, form: Form, start: Any, length: int) -> _Chunk:
    points, values, scale = everything
    cut = partial(lax.dynamic_slice_in_dim, start_index=start, slice_size=length)

    def cut_bound(x: Any) -> Any:
        return cut(x, axis=1) if isinstance(x, jax.Array) and x.shape[1] != 1 else x

    return _Chunk(
        Points(
            tuple(cut(p, axis=1) for p in points.positions),
            tuple(map(cut_bound, points.firsts)),
            tuple(map(cut_bound, points.sizes)),
        ),
        cut(values, axis=1 if form.channels_last else 2),
        None if scale is None else cut(scale, axis=1),
    )


def _chunk_length(values: jax.Array, form: Form) -> int | None:
    """Return how many points of each batch element make a chunk; None if sizes are symbolic."""
    if not all(isinstance(d, int) for d in values.shape):
        return None
    batch, channels = values.shape[0], values.shape[form.channel_axis]
    points = min(_CHUNK_POINTS, _CHUNK_VALUES // max(channels, 1))
    return max(1, points // max(batch, 1))
