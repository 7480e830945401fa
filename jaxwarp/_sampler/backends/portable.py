"""The portable backend: one visit to every neighbour, in plain `jax.numpy` and `lax`.

It suits every platform, sizes that are symbols, and a batch spread over devices by the
compiler, where the batch stays an axis of its own. The other backends are compared with it.
"""

import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from jaxwarp._sampler.neighbours import (
    Neighbour,
    Points,
    chain_factors,
    fold_neighbours,
    locate,
    times,
)
from jaxwarp._sampler.spec import SampleSpec, Shaped
from jaxwarp._sharding import zeros

# Reads a neighbour's pixels in all channels, clamped where they are outside.
Reader = Callable[[Neighbour], jax.Array]


def supports(op: str, operands: Mapping[str, Shaped], spec: SampleSpec) -> bool:
    """Tell that everything can be computed here."""
    del op, operands, spec
    return True


def sample(operands: Mapping[str, jax.Array], spec: SampleSpec) -> jax.Array:
    """Gather the neighbours and weigh them: (N, C, *out) or (N, *out, C)."""
    return weigh_all(operands, spec, _reader(operands["image"], spec))


def weigh_all(operands: Mapping[str, jax.Array], spec: SampleSpec, read: Reader) -> jax.Array:
    """Sample with another way to read the neighbours."""
    grid, channel = operands["grid"], spec.layout.channel_axis
    shape, dtype = spec.result("sample", operands)
    points = locate(grid, operands.get("window"), spec)
    scales = chained_scales(operands, points, spec)

    def visit(total: jax.Array, neighbour: Neighbour) -> jax.Array:
        weight = jnp.expand_dims(neighbour.weigh(scales), channel)
        return total + masked(read(neighbour), neighbour, spec, grid.dtype) * weight

    return fold_neighbours(visit, zeros(shape, grid), points, spec).astype(dtype)


def splat(operands: Mapping[str, jax.Array], spec: SampleSpec) -> jax.Array:
    """Add weighed values to the neighbours: (N, C, *spatial) or (N, *spatial, C)."""
    values, grid = operands["values"], operands["grid"]
    points = locate(grid, operands.get("window"), spec)
    scales = chained_scales(operands, points, spec)
    shape, dtype = spec.result("splat", operands)
    rows = spec.layout.channels_to_end(values).astype(grid.dtype)

    def visit(image: jax.Array, neighbour: Neighbour) -> jax.Array:
        return jax.vmap(_add_rows)(image, neighbour, rows * neighbour.weigh(scales)[..., None])

    image = zeros((grid.shape[0], math.prod(spec.spatial), rows.shape[-1]), grid)
    image = fold_neighbours(visit, image, points, spec)
    return spec.layout.channels_from_end(image).reshape(shape).astype(dtype)


def correlate(operands: Mapping[str, jax.Array], spec: SampleSpec) -> jax.Array:
    """Gather the neighbours and dot them with the values: one number a term, (N, *out, M)."""
    values, read = operands["values"], _reader(operands["image"], spec)
    dtype, channel = operands["grid"].dtype, spec.layout.channel_axis

    def dot(neighbour: Neighbour) -> jax.Array:
        rows = masked(read(neighbour), neighbour, spec, dtype)
        return (rows * values.astype(dtype)).sum(channel)

    return jnp.stack(dot_all(operands, spec, dot), axis=-1)


def dot_all(
    operands: Mapping[str, jax.Array],
    spec: SampleSpec,
    dot: Callable[[Neighbour], jax.Array],
) -> tuple[jax.Array, ...]:
    """Return the terms (N, *out), with another way to dot a neighbour's channels."""
    grid = operands["grid"]
    points = locate(grid, operands.get("window"), spec)

    def visit(terms: tuple[jax.Array, ...], neighbour: Neighbour) -> tuple[jax.Array, ...]:
        product = dot(neighbour)
        return tuple(t + product * w for t, w in zip(terms, neighbour.weights, strict=True))

    none = zeros(grid.shape[:-1], grid)
    terms = fold_neighbours(visit, (none,) * len(spec.orders), points, spec)
    return times(terms, chain_factors(grid, points, spec))


def chained_scales(
    operands: Mapping[str, jax.Array], points: Points, spec: SampleSpec
) -> tuple[jax.Array, ...] | None:
    """Return each term's scale (N, *out) times its chain-rule factor, if there are scales."""
    if "scale" not in operands:
        return None
    scales = [operands["scale"][..., m] for m in range(len(spec.orders))]
    return times(scales, chain_factors(operands["grid"], points, spec))


# Pixels -----------------------------------------------------------------------


def _flatten(image: jax.Array, spec: SampleSpec) -> jax.Array:
    """Merge the spatial axes: (N, C, pixels) or (N, pixels, C)."""
    channels = spec.layout.channels(image.shape)
    return image.reshape(spec.layout.arrange(image.shape[0], channels, [math.prod(spec.spatial)]))


def _reader(image: jax.Array, spec: SampleSpec) -> Reader:
    """Gather (N, C, *out) or (N, *out, C), the batch an axis of its own."""
    take = _take_last if spec.layout.channels_last else _take_first
    pixels = _flatten(image, spec)
    return lambda neighbour: jax.vmap(take)(pixels, neighbour.pixel)


def masked(rows: jax.Array, neighbour: Neighbour, spec: SampleSpec, dtype: DTypeLike) -> jax.Array:
    """Let what is outside read zero, whatever is there."""
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
