"""What `sample`, `splat` and `correlate` compute: one visit to every corner.

These forms suit every platform, sizes that are symbols, and a batch spread over devices,
which stays an axis of its own. With ``one_cpu``, `_once` and `_adjoints` compute the same sums
faster where they can.
"""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxwarp import _adjoints, _once
from jaxwarp._corners import Corner, Points, chain_factors, fold_corners, locate, times
from jaxwarp._form import Form
from jaxwarp._sharding import zeros


def _sample(operands: dict[str, Any], form: Form, one_cpu: bool) -> jax.Array:
    grid, channel = operands["grid"], form.channel_axis
    shape, dtype = form.result("sample", operands)
    pixels = _flatten(operands["image"], form)

    def gather(points: Points) -> jax.Array:
        scale = _scale(operands, points, form)

        def visit(total: Any, corner: Corner) -> Any:
            weight = jnp.expand_dims(corner.weigh(scale), channel)
            return total + _read(pixels, corner, form, grid.dtype) * weight

        return fold_corners(visit, zeros(shape, grid), points, form).astype(dtype)

    find = partial(locate, grid, operands.get("window"), form)
    if not one_cpu:
        return gather(find())
    return _once.sample(find, gather, grid, jax.ShapeDtypeStruct(shape, dtype), form)


def _splat(operands: dict[str, Any], form: Form, one_cpu: bool) -> jax.Array:
    values, grid = operands["values"], operands["grid"]
    points = locate(grid, operands.get("window"), form)
    scale = _scale(operands, points, form)
    shape, dtype = form.result("splat", operands)
    if one_cpu and _adjoints.fit(values, form):
        return _adjoints.splat(points, values, scale, grid, form).reshape(shape).astype(dtype)
    rows = values if form.channels_last else jnp.moveaxis(values, 1, -1)
    rows = rows.astype(grid.dtype)

    def visit(image: jax.Array, corner: Corner) -> jax.Array:
        return jax.vmap(_add_rows)(image, corner, rows * corner.weigh(scale)[..., None])

    image = zeros((grid.shape[0], math.prod(form.spatial), rows.shape[-1]), grid)
    image = fold_corners(visit, image, points, form)
    image = image if form.channels_last else jnp.moveaxis(image, -1, 1)
    return image.reshape(shape).astype(dtype)


def _correlate(operands: dict[str, Any], form: Form, one_cpu: bool) -> jax.Array:
    values, grid, image = operands["values"], operands["grid"], operands["image"]
    points = locate(grid, operands.get("window"), form)
    shape, _ = form.result("correlate", operands)
    if one_cpu and _adjoints.fit(values, form):
        terms = _adjoints.correlate(points, image, values, grid, form)
    else:
        pixels, axis = _flatten(image, form), form.channel_axis

        def visit(terms: Any, corner: Corner) -> Any:
            dot = (_read(pixels, corner, form, grid.dtype) * values.astype(grid.dtype)).sum(axis)
            return tuple(t + dot * w for t, w in zip(terms, corner.weights, strict=True))

        none = zeros(grid.shape[:-1], grid)
        terms = fold_corners(visit, (none,) * len(form.orders), points, form)
    out = jnp.stack([term.reshape(shape[:-1]) for term in terms], axis=-1)
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
