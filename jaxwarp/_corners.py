"""What `sample`, `splat` and `correlate` compute: sums over the product of the axes' taps.

A *corner* is one choice of a tap on every axis: a pixel, whether it is inside,
and a weight per term of the form. An operation visits the corners one after the
other, so that no array holds all the gathered pixels.

Each visit is written for how XLA compiles it; the comments say what was measured.
"""

import functools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from jaxwarp import _coords, _taps
from jaxwarp._taps import Rule, Tap

_T = TypeVar("_T")

# Above this many corners the leading axes become loops: 3-D bicubic has 64, and
# unrolled they take a minute to compile.
_MAX_UNROLLED_CORNERS = 8


class Form(NamedTuple):
    """The static part of an operation.

    Layouts: ``image`` is (N, C, *spatial) or, with ``channels_last``,
    (N, *spatial, C); ``values`` likewise with *out; ``grid`` is (N, *out, n) listed
    (x, y, z); ``scale`` is (N, *out, M) for M terms; ``window`` is (N, n, 2), the
    first index and the size along each axis in array order.
    """

    rule: Rule
    channels_last: bool
    spatial: tuple[Any, ...]
    dtype: Any
    orders: tuple[tuple[int, ...], ...]

    def differentiate(self) -> list["Step"]:
        """List the terms of the derivative with respect to the grid."""
        n = len(self.spatial)
        return [
            Step(term, coordinate, (*order[:axis], order[axis] + 1, *order[axis + 1 :]))
            for term, order in enumerate(self.orders)
            for coordinate, axis in enumerate(_coords.xyz_order(range(n)))
            if order[axis] < self.rule.degree
        ]


class Step(NamedTuple):
    """One partial derivative: of which term, in which coordinate, and its new order."""

    term: int
    coordinate: int
    order: tuple[int, ...]


class Corner(NamedTuple):
    """One pixel for every point: flat index, mask, and a weight per term."""

    index: jax.Array
    inside: jax.Array
    weights: tuple[jax.Array, ...]


# Positions --------------------------------------------------------------------


class _Points(NamedTuple):
    """Where the points of a grid fall: one array of positions per axis, in array order.

    They are computed once, before any loop: computed again for every tap, as XLA
    would when it fuses them, they cost more than the sampling.
    """

    positions: tuple[jax.Array, ...]
    firsts: tuple[Any, ...]
    sizes: tuple[Any, ...]


def _locate(grid: jax.Array, window: jax.Array | None, form: Form) -> _Points:
    axes = range(len(form.spatial))
    firsts, sizes = (0,) * len(axes), form.spatial
    if window is not None:
        per_point = (-1, *(1,) * (grid.ndim - 2))
        firsts = tuple(window[:, axis, 0].reshape(per_point) for axis in axes)
        sizes = tuple(window[:, axis, 1].reshape(per_point) for axis in axes)
    coordinates = _axes_of(grid)
    return _Points(
        tuple(_taps.position(coordinates[a], form.rule, sizes[a]) for a in axes), firsts, sizes
    )


def _axes_of(grid: jax.Array) -> tuple[jax.Array, ...]:
    """Split a grid's coordinates, listed (x, y, z), into array axes (z, y, x)."""
    return _coords.xyz_order([grid[..., i] for i in range(grid.shape[-1])])


def _chain(grid: jax.Array, points: _Points, form: Form) -> list[jax.Array | None]:
    """Return each term's chain-rule factor, the product of slope ** order over the axes."""
    slopes = [
        _taps.slope(g, form.rule, size)
        for g, size in zip(_axes_of(grid), points.sizes, strict=True)
    ]
    factors: list[jax.Array | None] = []
    for order in form.orders:
        powers = [slope for slope, o in zip(slopes, order, strict=True) for _ in range(o)]
        factors.append(math.prod(powers[1:], start=powers[0]) if powers else None)
    return factors


def _times(x: jax.Array, factors: Sequence[jax.Array | None]) -> jax.Array:
    """Multiply each term of (N, *out, M) by its factor."""
    terms = [x[..., m] if f is None else x[..., m] * f for m, f in enumerate(factors)]
    return jnp.stack(terms, axis=-1)


# Corners ----------------------------------------------------------------------


class _AxisTap(NamedTuple):
    """One tap along one axis, with its weight for each term of the form."""

    index: jax.Array
    inside: jax.Array
    weights: tuple[jax.Array, ...]


def _taps_of_axis(axis: int, points: _Points, form: Form) -> list[_AxisTap]:
    where = (form.spatial[axis], points.sizes[axis], points.firsts[axis])
    taps: dict[int, list[Tap]] = {
        order: _taps.axis_taps(points.positions[axis], form.rule, order, *where)
        for order in {o[axis] for o in form.orders}
    }
    return [
        _AxisTap(same[0].index, same[0].inside, tuple(tap.weight for tap in same))
        for same in zip(*(taps[o[axis]] for o in form.orders), strict=True)
    ]


def _corner(taps: Sequence[_AxisTap], form: Form) -> Corner:
    index, inside, weights = taps[0]
    for tap, length in zip(taps[1:], form.spatial[1:], strict=True):
        index = index * length + tap.index
        inside = inside & tap.inside
        weights = tuple(a * b for a, b in zip(weights, tap.weights, strict=True))
    return Corner(index, inside, weights)


def _fold_corners(visit: Callable[[_T, Corner], _T], carry: _T, points: _Points, form: Form) -> _T:
    """Visit every corner, carrying a result; the program's size stays bounded."""
    axes = [_taps_of_axis(axis, points, form) for axis in range(len(form.spatial))]
    return _fold_axes(visit, carry, axes, (), form)


def _fold_axes(
    visit: Callable[[_T, Corner], _T],
    carry: _T,
    axes: Sequence[list[_AxisTap]],
    chosen: tuple[_AxisTap, ...],
    form: Form,
) -> _T:
    if not axes:
        return visit(carry, _corner(chosen, form))
    lead, *rest = axes

    def step(carry: _T, tap: _AxisTap) -> _T:
        return _fold_axes(visit, carry, rest, (*chosen, tap), form)

    if math.prod(map(len, axes)) <= _MAX_UNROLLED_CORNERS:
        return functools.reduce(step, lead, carry)
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *lead)
    pick = lambda t: jax.tree.map(lambda x: x[t], stacked)  # noqa: E731
    return lax.fori_loop(0, len(lead), lambda t, carry: step(carry, pick(t)), carry)


def _weight(corner: Corner, scale: jax.Array | None) -> jax.Array:
    if scale is None:
        return corner.weights[0]
    terms = [scale[..., m] * weight for m, weight in enumerate(corner.weights)]
    return sum(terms[1:], terms[0])


# Operations -------------------------------------------------------------------


def _sample(operands: dict[str, Any], form: Form, chunked: bool) -> jax.Array:
    grid = operands["grid"]
    points = _locate(grid, operands.get("window"), form)
    scale = _scale(operands, points, form)
    pixels = _flatten(operands["image"], form)
    channel = _channel_axis(form)

    def visit(total: Any, corner: Corner) -> Any:
        weight = jnp.expand_dims(_weight(corner, scale), channel)
        return total + _read(pixels, corner, form, grid.dtype) * weight

    shape, dtype = result("sample", operands, form)
    total = jnp.zeros(shape, grid.dtype)
    return _fold_corners(visit, total, points, form).astype(dtype)


def _splat(operands: dict[str, Any], form: Form, chunked: bool) -> jax.Array:
    values, grid = operands["values"], operands["grid"]
    points = _locate(grid, operands.get("window"), form)
    scale = _scale(operands, points, form)
    batch, channels = grid.shape[0], values.shape[_channel_axis(form)]

    def add(image: jax.Array, chunk: _Chunk, start: Any) -> jax.Array:
        rows = chunk.values if form.channels_last else jnp.moveaxis(chunk.values, 1, -1)
        rows = rows.astype(grid.dtype)

        def visit(image: jax.Array, corner: Corner) -> jax.Array:
            weighed = rows * _weight(corner, chunk.scale)[..., None]
            weighed = jnp.where(corner.inside[..., None], weighed, 0)
            return jax.vmap(_add_rows)(image, corner.index, weighed)

        return _fold_corners(visit, image, chunk.points, form)

    image = jnp.zeros((batch, math.prod(form.spatial), channels), grid.dtype)
    image = _fold_chunks(add, image, _all_points(points, values, scale, form), form, chunked)
    if not form.channels_last:
        image = jnp.moveaxis(image, -1, 1)
        return image.reshape(batch, channels, *form.spatial).astype(form.dtype)
    return image.reshape(batch, *form.spatial, channels).astype(form.dtype)


def _correlate(operands: dict[str, Any], form: Form, chunked: bool) -> jax.Array:
    values, grid = operands["values"], operands["grid"]
    points = _locate(grid, operands.get("window"), form)
    pixels = _flatten(operands["image"], form)

    def write(out: jax.Array, chunk: _Chunk, start: Any) -> jax.Array:
        values = chunk.values.astype(grid.dtype)

        def visit(totals: tuple[jax.Array, ...], corner: Corner) -> tuple[jax.Array, ...]:
            # Behind a barrier, or every term would gather the same pixels again.
            dot = lax.optimization_barrier(_dot(pixels, values, corner, form))
            return tuple(t + dot * w for t, w in zip(totals, corner.weights, strict=True))

        zeros = jnp.zeros(chunk.points.positions[0].shape, grid.dtype)
        totals = _fold_corners(visit, (zeros,) * len(form.orders), chunk.points, form)
        return lax.dynamic_update_slice_in_dim(out, jnp.stack(totals, axis=-1), start, axis=1)

    everything = _all_points(points, values, None, form)
    shape = everything.points.positions[0].shape
    out = jnp.zeros((*shape, len(form.orders)), grid.dtype)
    out = _fold_chunks(write, out, everything, form, chunked)
    out = out.reshape(*grid.shape[:-1], len(form.orders))
    return _times(out, _chain(grid, points, form))


OPERATIONS = {"sample": _sample, "splat": _splat, "correlate": _correlate}


def result(op: str, operands: dict[str, Any], form: Form) -> tuple[tuple[Any, ...], Any]:
    """Return the shape and dtype of an operation's result."""
    grid = operands["grid"]
    if op == "correlate":
        return (*grid.shape[:-1], len(form.orders)), grid.dtype
    source = operands["image" if op == "sample" else "values"]
    between = grid.shape[1:-1] if op == "sample" else form.spatial
    channels = source.shape[_channel_axis(form)]
    layout = (*between, channels) if form.channels_last else (channels, *between)
    return (grid.shape[0], *layout), form.dtype


def _scale(operands: dict[str, Any], points: _Points, form: Form) -> jax.Array | None:
    scale = operands.get("scale")
    return None if scale is None else _times(scale, _chain(operands["grid"], points, form))


# Pixels -----------------------------------------------------------------------


def _channel_axis(form: Form) -> int:
    return -1 if form.channels_last else 1


def _flatten(image: jax.Array, form: Form) -> jax.Array:
    """Merge the spatial axes: (N, C, pixels) or (N, pixels, C)."""
    pixels = math.prod(form.spatial)
    if form.channels_last:
        return image.reshape(image.shape[0], pixels, image.shape[-1])
    return image.reshape(image.shape[0], image.shape[1], pixels)


def _read(pixels: jax.Array, corner: Corner, form: Form, dtype: Any) -> jax.Array:
    """Gather (N, C, *out) or (N, *out, C); what is outside reads zero, whatever is there."""
    rows = jax.vmap(_take_last if form.channels_last else _take_first)(pixels, corner.index)
    inside = jnp.expand_dims(corner.inside, _channel_axis(form))
    return jnp.where(inside, rows.astype(dtype), 0)


def _take_first(pixels: jax.Array, index: jax.Array) -> jax.Array:
    return pixels.at[:, index].get(mode="promise_in_bounds", wrap_negative_indices=False)


def _take_last(pixels: jax.Array, index: jax.Array) -> jax.Array:
    return pixels.at[index].get(mode="promise_in_bounds", wrap_negative_indices=False)


def _add_rows(pixels: jax.Array, index: jax.Array, rows: jax.Array) -> jax.Array:
    return pixels.at[index].add(rows, mode="promise_in_bounds", wrap_negative_indices=False)


_FEW_CHANNELS = 4


def _dot(pixels: jax.Array, values: jax.Array, corner: Corner, form: Form) -> jax.Array:
    """Dot the gathered pixels with the values over the channels, (N, *out)."""
    axis = _channel_axis(form)
    product = _read(pixels, corner, form, values.dtype) * values
    channels = pixels.shape[axis]
    if not isinstance(channels, int) or not 0 < channels <= _FEW_CHANNELS:
        return product.sum(axis)
    # A reduction over 3 channels runs as a loop of its own; unrolled it fuses.
    terms = [lax.index_in_dim(product, c, axis, keepdims=False) for c in range(channels)]
    return sum(terms[1:], terms[0])


# Chunks -----------------------------------------------------------------------

# Points per chunk. A scatter's indices and rows are arrays of their own; chunks keep
# them in cache, and below the size at which the allocator maps fresh, zeroed pages
# for every call: twice as fast at 8x3x256x256 as one scatter over all points.
_CHUNK_POINTS = 32768


class _Chunk(NamedTuple):
    """Points on one axis (N, P), with the values and scales that belong to them."""

    points: _Points
    values: jax.Array
    scale: jax.Array | None


def _all_points(points: _Points, values: jax.Array, scale: Any, form: Form) -> _Chunk:
    """Merge the output axes into one."""
    batch, *out = points.positions[0].shape
    total = math.prod(out)
    channels = values.shape[_channel_axis(form)]
    shape = (batch, total, channels) if form.channels_last else (batch, channels, total)

    return _Chunk(
        _Points(
            tuple(p.reshape(batch, total) for p in points.positions),
            *(
                tuple(x.reshape(batch, 1) if isinstance(x, jax.Array) else x for x in bounds)
                for bounds in (points.firsts, points.sizes)
            ),
        ),
        values.reshape(shape),
        None if scale is None else scale.reshape(batch, total, scale.shape[-1]),
    )


def _fold_chunks(
    step: Callable[[jax.Array, _Chunk, Any], jax.Array],
    total: jax.Array,
    everything: _Chunk,
    form: Form,
    chunked: bool,
) -> jax.Array:
    """Fold ``step(total, chunk, start)`` over chunks of the points."""
    batch, count = everything.points.positions[0].shape
    known = isinstance(batch, int) and isinstance(count, int)
    length = max(1, _CHUNK_POINTS // max(batch, 1)) if known else 0
    if not chunked or not known or count <= length:
        return step(total, everything, 0)

    def piece(cut: Callable[..., jax.Array], start: Any) -> _Chunk:
        points, values, scale = everything
        return _Chunk(
            points._replace(positions=tuple(cut(p, start, axis=1) for p in points.positions)),
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
