"""The portable backend: one visit to every neighbour, in plain `jax.numpy` and `lax`.

It suits every platform, sizes that are symbols, and a batch spread over devices by the
compiler, where the batch stays an axis of its own. The other backends are compared with it.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxwarp._sampler.neighbours import (
    Neighbour,
    Points,
    chain_factors,
    fold_neighbours,
    locate,
    times,
)
from jaxwarp._sampler.spec import SampleSpec
from jaxwarp._sharding import zeros


def supports(op: str, operands: Mapping[str, Any], spec: SampleSpec) -> bool:
    """Tell that everything can be computed here."""
    del op, operands, spec
    return True


def sample(operands: Mapping[str, jax.Array], spec: SampleSpec) -> jax.Array:
    """Gather the neighbours and weigh them: (N, C, *out) or (N, *out, C)."""
    grid, channel = operands["grid"], spec.layout.channel_axis
    shape, dtype = spec.result("sample", operands)
    pixels = _flatten(operands["image"], spec)
    points = locate(grid, operands.get("window"), spec)
    scale = chained_scale(operands, points, spec)

    def visit(total: jax.Array, neighbour: Neighbour) -> jax.Array:
        weight = jnp.expand_dims(neighbour.weigh(scale), channel)
        return total + _read(pixels, neighbour, spec, grid.dtype) * weight

    return fold_neighbours(visit, zeros(shape, grid), points, spec).astype(dtype)


def splat(operands: Mapping[str, jax.Array], spec: SampleSpec) -> jax.Array:
    """Add weighed values to the neighbours: (N, C, *spatial) or (N, *spatial, C)."""
    values, grid = operands["values"], operands["grid"]
    points = locate(grid, operands.get("window"), spec)
    scale = chained_scale(operands, points, spec)
    shape, dtype = spec.result("splat", operands)
    rows = spec.layout.channels_to_end(values).astype(grid.dtype)

    def visit(image: jax.Array, neighbour: Neighbour) -> jax.Array:
        return jax.vmap(_add_rows)(image, neighbour, rows * neighbour.weigh(scale)[..., None])

    image = zeros((grid.shape[0], math.prod(spec.spatial), rows.shape[-1]), grid)
    image = fold_neighbours(visit, image, points, spec)
    return spec.layout.channels_from_end(image).reshape(shape).astype(dtype)


def correlate(operands: Mapping[str, jax.Array], spec: SampleSpec) -> jax.Array:
    """Gather the neighbours and dot them with the values: one number a term, (N, *out, M)."""
    values, grid = operands["values"], operands["grid"]
    points = locate(grid, operands.get("window"), spec)
    pixels, channel = _flatten(operands["image"], spec), spec.layout.channel_axis

    def visit(terms: tuple[jax.Array, ...], neighbour: Neighbour) -> tuple[jax.Array, ...]:
        read = _read(pixels, neighbour, spec, grid.dtype)
        dot = (read * values.astype(grid.dtype)).sum(channel)
        return tuple(t + dot * w for t, w in zip(terms, neighbour.weights, strict=True))

    none = zeros(grid.shape[:-1], grid)
    terms = fold_neighbours(visit, (none,) * len(spec.orders), points, spec)
    return times(jnp.stack(terms, axis=-1), chain_factors(grid, points, spec))


def chained_scale(
    operands: Mapping[str, jax.Array], points: Points, spec: SampleSpec
) -> jax.Array | None:
    """Return the terms' scales times their chain-rule factors, if there are scales."""
    scale = operands.get("scale")
    return None if scale is None else times(scale, chain_factors(operands["grid"], points, spec))


# Pixels -----------------------------------------------------------------------


def _flatten(image: jax.Array, spec: SampleSpec) -> jax.Array:
    """Merge the spatial axes: (N, C, pixels) or (N, pixels, C)."""
    channels = spec.layout.channels(image.shape)
    return image.reshape(spec.layout.arrange(image.shape[0], channels, [math.prod(spec.spatial)]))


def _read(pixels: jax.Array, neighbour: Neighbour, spec: SampleSpec, dtype: Any) -> jax.Array:
    """Gather (N, C, *out) or (N, *out, C); what is outside reads zero, whatever is there."""
    take = _take_last if spec.layout.channels_last else _take_first
    rows = jax.vmap(take)(pixels, neighbour.pixel)
    inside = jnp.expand_dims(neighbour.inside, spec.layout.channel_axis)
    return jnp.where(inside, rows.astype(dtype), 0)


def _take_first(pixels: jax.Array, index: jax.Array) -> jax.Array:
    return pixels.at[:, index].get(mode="promise_in_bounds", wrap_negative_indices=False)


def _take_last(pixels: jax.Array, index: jax.Array) -> jax.Array:
    return pixels.at[index].get(mode="promise_in_bounds", wrap_negative_indices=False)


def _add_rows(pixels: jax.Array, neighbour: Neighbour, rows: jax.Array) -> jax.Array:
    """Add rows to pixels; what is outside goes nowhere, whatever it is."""
    beyond = jnp.where(neighbour.inside, neighbour.pixel, pixels.shape[0])
    return pixels.at[beyond].add(rows, mode="drop", wrap_negative_indices=False)
