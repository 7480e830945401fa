"""The numerics of a thin-plate spline: its kernel, its linear system, when that is singular.

A spline's kernel is the Green's function of the bending energy. It depends on the squared
distance ``s = r^2`` alone, and has SciPy's sign, so that smoothing adds to the diagonal::

    1-D  r^3           2-D  r^2 log r           3-D  -r

The functions that take ``xp`` serve both JAX and, in float64 on the host, NumPy.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

_OF_SQUARED_DISTANCE = {
    1: lambda s, xp: s * xp.sqrt(s),
    2: lambda s, xp: 0.5 * s * xp.log(s),
    3: lambda s, xp: -xp.sqrt(s),
}

# Energy per unit of trace(w^T K w): the inverse of the Green's function's constant.
ENERGY_FACTOR = {1: 12.0, 2: 8.0 * jnp.pi, 3: 8.0 * jnp.pi}

_FAULTS = {
    1: "it holds a NaN or an infinity",
    2: "it holds the same point twice (smoothing > 0 would allow that)",
    3: "its points all lie on one point, line or plane, which determines no spline",
}


def kernel(points: Any, knots: Any, xp: Any = jnp) -> Any:
    """Return the kernel between points (..., n) and knots (..., n) that broadcast, (...).

    The distance comes from direct differences: the expansion ``p.p - 2 p.k + k.k`` is no
    faster and cancels away from the origin. Each axis is taken out first: the loop then reads
    contiguous memory, and XLA vectorises it (on a CPU eight times as fast).

    The *double* where makes every derivative at ``s = 0`` exactly 0; a single one would be
    right in value, with the derivative 0 * inf = NaN.
    """
    of_squared_distance = _OF_SQUARED_DISTANCE[knots.shape[-1]]
    s = _squared_distance(points, knots)
    apart = s > 0
    return xp.where(apart, of_squared_distance(xp.where(apart, s, 1), xp), 0)


def _squared_distance(points: Any, knots: Any) -> Any:
    return sum((points[..., axis] - knots[..., axis]) ** 2 for axis in range(knots.shape[-1]))


def affine_terms(points: Any, xp: Any = jnp) -> Any:
    """Return the rows (1, x[, y[, z]]) of points (..., n) as (..., 1 + n)."""
    return xp.concatenate([xp.ones_like(points[..., :1]), points], axis=-1)


def frame(target: Any, xp: Any = jnp) -> tuple[Any, Any]:
    """Return the centre (n,) and the half-width () of the points (T, n).

    A spline does not depend on the frame it is computed in, only its rounding does.
    """
    center = xp.mean(target, axis=0)
    reach = xp.max(xp.abs(target - center[None]))
    return center, xp.where(reach > 0, reach, 1)


def in_frame(smoothing: Any, scale: Any, ndim: int) -> Any:
    """Return the smoothing that means the same once coordinates are divided by ``scale``."""
    return smoothing / scale ** (4 - ndim)


def system(knots: Any, smoothing: Any, xp: Any = jnp) -> Any:
    """Return the matrix [[K + smoothing I, H], [H^T, 0]] of points (T, n), (T+n+1, T+n+1)."""
    count, ndim = knots.shape
    bending = kernel(knots[:, None], knots[None], xp)
    bending = bending + smoothing * xp.eye(count, dtype=knots.dtype)
    affine = affine_terms(knots, xp)
    corner = xp.zeros((ndim + 1, ndim + 1), knots.dtype)
    return xp.block([[bending, affine], [affine.T, corner]])


def require_fit(target: jax.Array, smoothing: jax.Array) -> None:
    """Raise a ValueError if the concrete points ``target`` (N, T, n) determine no spline."""
    found = faults(target, smoothing)
    if isinstance(found, Tracer) or not found.is_fully_addressable:
        return
    for element, fault in enumerate(np.asarray(found)):
        if fault:
            raise ValueError(f"target has no spline in batch element {element}: {_FAULTS[fault]}")


@jax.jit
def faults(target: jax.Array, smoothing: jax.Array) -> jax.Array:
    """Return what is wrong with each batch element of control points, (N,); 0 is nothing."""
    return jax.vmap(_fault, in_axes=(0, None))(target, smoothing)


def _fault(target: jax.Array, smoothing: jax.Array) -> jax.Array:
    center, scale = frame(target)
    knots = (target - center[None]) / scale
    # Points on a line are only as straight as their coordinates are exact.
    exactness = jnp.finfo(target.dtype).eps * jnp.max(jnp.abs(target)) / scale
    flat = _thickness(knots) <= 16 * exactness
    # Each point coincides with itself; none may with another.
    coincide = jnp.sum(_squared_distance(knots[:, None], knots[None]) == 0) > knots.shape[0]
    found = jnp.where(coincide & (smoothing == 0), 2, 0)
    found = jnp.where(flat, 3, found)
    return jnp.where(jnp.all(jnp.isfinite(target)), found, 1)


def _thickness(points: jax.Array) -> jax.Array:
    """Return how far points (T, n) are from lying on a point, line or plane."""
    rest = points - points[:1]
    most = jnp.zeros((), points.dtype)
    for _ in range(points.shape[1]):
        # Take out the direction of the point that sticks out most (pivoted Gram-Schmidt).
        lengths = jnp.sqrt(jnp.sum(rest**2, axis=1))
        most = jnp.max(lengths)
        axis = rest[jnp.argmax(lengths)] / jnp.where(most > 0, most, 1)
        along = jnp.matmul(rest, axis, precision=lax.Precision.HIGHEST)
        rest = rest - along[:, None] * axis[None]
    return most
