"""What `sample`, `splat` and `correlate` compute: sums over the product of the axes' taps.

A *corner* is one choice of a tap on every axis: a pixel, whether it is inside,
and a weight per term of the form. An operation visits the corners one after the
other, so that no array holds all the gathered pixels.

Each visit is written for how XLA compiles it; the comments say what was measured.
"""

import itertools
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

# Above this many corners the first axis is a loop: 3-D bicubic has 64, and
# unrolled they take a minute to compile.
_MAX_UNROLLED_CORNERS = 16


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


# Corners ----------------------------------------------------------------------


class _AxisTap(NamedTuple):
    """One tap along one axis, with its weight for each term of the form."""

    index: jax.Array
    inside: jax.Array
    weights: tuple[jax.Array, ...]


def _taps_of_axis(axis: int, grid: jax.Array, window: Any, form: Form) -> list[_AxisTap]:
    g = grid[..., _coords.xyz_order(range(len(form.spatial)))[axis]]
    bounds: tuple[Any, Any] = (0, None)
    if window is not None:
        per_point = (-1, *(1,) * (g.ndim - 1))
        bounds = (window[:, axis, 0].reshape(per_point), window[:, axis, 1].reshape(per_point))
    length = form.spatial[axis]
    taps: dict[int, list[Tap]] = {
        order: _taps.axis_taps(g, form.rule, order, length, *bounds)
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


def _fold_corners(
    visit: Callable[[_T, Corner], _T], carry: _T, grid: jax.Array, window: Any, form: Form
) -> _T:
    """Visit every corner, carrying a result; the program's size stays bounded."""
    lead, *rest = (_taps_of_axis(axis, grid, window, form) for axis in range(len(form.spatial)))

    def visit_lead(tap: _AxisTap, carry: _T) -> _T:
        for others in itertools.product(*rest):
            carry = visit(carry, _corner((tap, *others), form))
        return carry

    if len(lead) * math.prod(map(len, rest)) <= _MAX_UNROLLED_CORNERS:
        for tap in lead:
            carry = visit_lead(tap, carry)
        return carry
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *lead)
    return lax.fori_loop(
        0,
        len(lead),
        lambda t, carry: visit_lead(jax.tree.map(lambda x: x[t], stacked), carry),
        carry,
    )


def _weight(corner: Corner, scale: jax.Array | None) -> jax.Array:
    if scale is None:
        return corner.weights[0]
    terms = [scale[..., m] * weight for m, weight in enumerate(corner.weights)]
    return sum(terms[1:], terms[0])


# Operations -------------------------------------------------------------------


def _sample(operands: dict[str, Any], form: Form, chunked: bool) -> jax.Array:
    grid, scale, window = operands["grid"], operands.get("scale"), operands.get("window")
    pixels = _flatten(operands["image"], form)
    channel = -1 if form.channels_last else 1

    def visit(total: Any, corner: Corner) -> Any:
        term = _read(pixels, corner, form, grid.dtype)
        term = term * jnp.expand_dims(_weight(corner, scale), channel)
        return total + term

    channels = pixels.shape[channel]
    points = grid.shape[1:-1]
    shape = (*points, channels) if form.channels_last else (channels, *points)
    total = jnp.zeros((grid.shape[0], *shape), grid.dtype)
    return _fold_corners(visit, total, grid, window, form).astype(form.dtype)


def _splat(operands: dict[str, Any], form: Form, chunked: bool) -> jax.Array:
    values, grid, window = operands["values"], operands["grid"], operands.get("window")
    batch, channels = grid.shape[0], values.shape[-1 if form.channels_last else 1]

    def add(image: jax.Array, values: jax.Array, grid: jax.Array, scale: Any) -> jax.Array:
        rows = values if form.channels_last else jnp.moveaxis(values, 1, -1)
        rows = rows.astype(grid.dtype)

        def visit(image: jax.Array, corner: Corner) -> jax.Array:
            row = jnp.where(corner.inside[..., None], rows * _weight(corner, scale)[..., None], 0)
            return jax.vmap(_add_rows)(image, corner.index, row)

        return _fold_corners(visit, image, grid, window, form)

    image = jnp.zeros((batch, math.prod(form.spatial), channels), grid.dtype)
    image = _for_chunks(add, image, (values, grid, operands.get("scale")), form, chunked)
    if not form.channels_last:
        image = jnp.moveaxis(image, -1, 1)
        return image.reshape(batch, channels, *form.spatial).astype(form.dtype)
    return image.reshape(batch, *form.spatial, channels).astype(form.dtype)


def _correlate(operands: dict[str, Any], form: Form, chunked: bool) -> jax.Array:
    values, grid, window = operands["values"], operands["grid"], operands.get("window")
    pixels = _flatten(operands["image"], form)
    values = values.astype(grid.dtype)

    def visit(totals: tuple[jax.Array, ...], corner: Corner) -> tuple[jax.Array, ...]:
        dot = _dot(pixels, values, corner, form)
        return tuple(t + dot * w for t, w in zip(totals, corner.weights, strict=True))

    zeros = jnp.zeros(grid.shape[:-1], grid.dtype)
    totals = _fold_corners(visit, (zeros,) * len(form.orders), grid, window, form)
    return jnp.stack(totals, axis=-1)


OPERATIONS = {"sample": _sample, "splat": _splat, "correlate": _correlate}


# Pixels -----------------------------------------------------------------------


def _flatten(image: jax.Array, form: Form) -> jax.Array:
    """Merge the spatial axes: (N, C, pixels) or (N, pixels, C)."""
    pixels = math.prod(form.spatial)
    if form.channels_last:
        return image.reshape(image.shape[0], pixels, image.shape[-1])
    return image.reshape(image.shape[0], image.shape[1], pixels)


def _read(pixels: jax.Array, corner: Corner, form: Form, dtype: Any) -> jax.Array:
    """Gather (N, C, *out) or (N, *out, C); what is outside reads zero, whatever is there."""
    rows = jax.vmap(_take_last if form.channels_last else _take_first)(pixels, corner.index)
    inside = jnp.expand_dims(corner.inside, -1 if form.channels_last else 1)
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
    channel = pixels.ndim - 1 if form.channels_last else 1
    channels = pixels.shape[channel]
    if not isinstance(channels, int) or channels > _FEW_CHANNELS:
        return (_read(pixels, corner, form, values.dtype) * values).sum(
            -1 if form.channels_last else 1
        )
    # Unrolled, this fuses to one loop over the points: 5 times faster for 3 channels.
    total = jnp.zeros(corner.inside.shape, values.dtype)
    for c in range(channels):
        plane = lax.index_in_dim(pixels, c, channel, keepdims=False)
        value = lax.index_in_dim(values, c, -1 if form.channels_last else 1, keepdims=False)
        pixel = jax.vmap(_take_last)(plane, corner.index).astype(values.dtype)
        total = total + jnp.where(corner.inside, pixel, 0) * value
    return total


# Chunks -----------------------------------------------------------------------

# Points per chunk. A scatter's indices and rows are arrays of their own; chunks keep
# them in cache, and below the size at which the allocator maps fresh, zeroed pages
# for every call: twice as fast at 8x3x256x256 as one scatter over all points.
_CHUNK_POINTS = 32768


def _for_chunks(
    add: Callable[..., jax.Array],
    total: jax.Array,
    arrays: tuple[Any, Any, Any],
    form: Form,
    chunked: bool,
) -> jax.Array:
    """Fold ``add(total, values, grid, scale)`` over chunks of the first output axis."""
    values, grid, scale = arrays
    points = grid.shape[:-1]
    rows = _rows_per_chunk(points) if chunked else None
    if rows is None:
        return add(total, *arrays)
    axes = (1 if form.channels_last else 2, 1, 1)

    def piece(cut: Callable[..., jax.Array], start: Any) -> list[Any]:
        return [
            None if x is None else cut(x, start, axis=axis)
            for x, axis in zip((values, grid, scale), axes, strict=True)
        ]

    whole, rest = divmod(points[1], rows)
    cut = partial(lax.dynamic_slice_in_dim, slice_size=rows)
    total = lax.fori_loop(0, whole, lambda i, total: add(total, *piece(cut, i * rows)), total)
    if rest:
        tail = partial(lax.slice_in_dim, limit_index=points[1])
        total = add(total, *piece(tail, whole * rows))
    return total


def _rows_per_chunk(points: tuple[Any, ...]) -> int | None:
    """Return how many rows of the first output axis make a chunk; None for one chunk."""
    if len(points) < 2 or not all(isinstance(d, int) for d in points):
        return None
    row = points[0] * math.prod(points[2:])
    rows = max(1, _CHUNK_POINTS // max(row, 1))
    return rows if rows < points[1] else None
