"""The numerics of a thin-plate spline: its kernel, its sum over control points, its linear system.

A spline's kernel is the Green's function of the bending energy, a function of
``s = r^2`` alone, with SciPy's signs (so that smoothing adds to the diagonal)::

    1-D  r^3           2-D  r^2 log r           3-D  -r

Taking ``s`` instead of ``r`` leaves one singular point, ``s = 0``, and the *double*
``where`` in `kernel` is what keeps it harmless: a single one is right in value, but its
derivative is ``0 * inf = NaN`` at every query that lies on a control point.
"""

from typing import Any

import jax
import jax.numpy as jnp

_OF_SQUARED_DISTANCE = {
    1: lambda s, xp: s * xp.sqrt(s),
    2: lambda s, xp: 0.5 * s * xp.log(s),
    3: lambda s, xp: -xp.sqrt(s),
}

# Kernel values that one step of `kernel_sum` holds: big enough to fill a GPU, small
# enough to stay in a CPU's cache.
_VALUES_AT_ONCE = 2**20


def squared_distances(points: Any, knots: Any) -> Any:
    """Return |p - k|^2 for points (P, n) and knots (T, n) as (P, T), from direct differences.

    The usual expansion ``p.p - 2 p.k + k.k`` is no faster and cancels away from the origin.
    """
    axes = range(points.shape[-1])
    return sum((points[:, None, a] - knots[None, :, a]) ** 2 for a in axes)


def kernel(s: Any, ndim: int, xp: Any = jnp) -> Any:
    """Return the kernel at squared distances ``s``; 0, with every derivative 0, at ``s = 0``."""
    apart = s > 0
    return xp.where(apart, _OF_SQUARED_DISTANCE[ndim](xp.where(apart, s, 1), xp), 0)


def affine_terms(points: Any, xp: Any = jnp) -> Any:
    """Return the rows (1, x[, y[, z]]) of points (P, n) as (P, 1 + n)."""
    return xp.concatenate([xp.ones_like(points[:, :1]), points], axis=1)
