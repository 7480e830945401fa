"""The numerics of a thin-plate spline: its kernel, its frame, its linear system.

A spline's kernel is the Green's function of the bending energy. It depends on the squared
distance ``s = r^2`` alone, and has SciPy's sign, so that smoothing adds to the diagonal::

    1-D  r^3           2-D  r^2 log r           3-D  -r

The functions that take ``xp`` serve both JAX and, in float64 on the host, NumPy.
"""

from types import ModuleType
from typing import TypeVar, overload

import jax
import jax.numpy as jnp
import numpy as np

_A = TypeVar("_A", jax.Array, np.ndarray)

# Given s twice, the second time with 1 in place of (nearly) 0.
_OF_SQUARED_DISTANCE = {
    1: lambda s, safe, xp: s * xp.sqrt(safe),
    2: lambda s, safe, xp: 0.5 * s * xp.log(safe),
    3: lambda s, safe, xp: -s / xp.sqrt(safe),
}

# How far apart two roundings of one point may be in the frame, in units of eps; with room.
_ROUNDING = 8

# Energy per unit of trace(w^T K w): the inverse of the Green's function's constant.
ENERGY_FACTOR = {1: 12.0, 2: 8.0 * jnp.pi, 3: 8.0 * jnp.pi}


def kernel(points: _A, knots: _A, xp: ModuleType = jnp) -> _A:
    """Return the kernel between points (..., n) and knots (..., n) that broadcast, (...).

    The distance comes from direct differences: the expansion ``p.p - 2 p.k + k.k`` is no
    faster and cancels away from the origin. Each axis is taken out first: the loop then reads
    contiguous memory, and XLA vectorises it (on a CPU eight times as fast).

    Points and knots are in the spline's frame, where knots reach from -1 to 1. Nearer to each
    other than rounding can tell they are taken for one: XLA may compute a difference anew
    wherever it is read, one time with a fused multiply-add, so that a knot's distance to itself
    is 1e-16 in one place and 0 in another. In 3-D the derivative would then be a vector of length
    1 in no direction in particular (jaxlib 0.10, CPU: a compiled gradient was off by a quarter).

    The *double* where makes every derivative there exactly 0; a single one would be right in
    value, with the derivative 0 * inf = NaN.
    """
    of_squared_distance = _OF_SQUARED_DISTANCE[knots.shape[-1]]
    s = squared_distance(points, knots)
    apart = s > (_ROUNDING * jnp.finfo(s.dtype).eps) ** 2
    return xp.where(apart, of_squared_distance(s, xp.where(apart, s, 1), xp), 0)


def squared_distance(points: _A, knots: _A) -> _A:
    """Return the squared distance between points (..., n) and knots (..., n), (...)."""
    first, *rest = ((points[..., a] - knots[..., a]) ** 2 for a in range(knots.shape[-1]))
    return sum(rest, first)


def affine_terms(points: _A, xp: ModuleType = jnp) -> _A:
    """Return the rows (1, x[, y[, z]]) of points (..., n) as (..., 1 + n)."""
    return xp.concatenate([xp.ones_like(points[..., :1]), points], axis=-1)


def frame(target: _A, xp: ModuleType = jnp) -> tuple[_A, _A]:
    """Return the centre (n,) and the half-width () of the points (T, n).

    A spline does not depend on the frame it is computed in, only its rounding does.
    """
    center = xp.mean(target, axis=0)
    reach = xp.max(xp.abs(target - center[None]))
    return center, xp.where(reach > 0, reach, 1)


@overload
def in_frame(smoothing: jax.Array, scale: jax.Array, ndim: int) -> jax.Array: ...
@overload
def in_frame(smoothing: float, scale: np.ndarray, ndim: int) -> float: ...
def in_frame(
    smoothing: jax.Array | float, scale: jax.Array | np.ndarray, ndim: int
) -> jax.Array | np.ndarray | float:
    """Return the smoothing that means the same once coordinates are divided by ``scale``."""
    return smoothing / scale ** (4 - ndim)


def system(knots: _A, smoothing: jax.Array | float, xp: ModuleType = jnp) -> _A:
    """Return the matrix [[K + smoothing I, H], [H^T, 0]] of points (T, n), (T+n+1, T+n+1)."""
    count, ndim = knots.shape
    bending = kernel(knots[:, None], knots[None], xp)
    bending = bending + smoothing * xp.eye(count, dtype=knots.dtype)
    affine = affine_terms(knots, xp)
    nothing = xp.zeros((ndim + 1, ndim + 1), knots.dtype)
    return xp.block([[bending, affine], [affine.T, nothing]])
