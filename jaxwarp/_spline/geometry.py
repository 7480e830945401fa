"""What a thin-plate spline does to space: how much it bends, where it folds, its inverse.

With J the Jacobian of the spline f, which is a sum of kernel derivatives::

    energy       E(f) = c s^(n-4) trace(w^T K w)           c = 12, 8 pi, 8 pi in 1-D, 2-D, 3-D
    folding      det J(p) < 0
    inverse      p <- p - J(p)^-1 (f(p) - goal)            Newton's method

where s is the half-width that the spline's knots were divided by. The derivatives of the
inverse come from the implicit function theorem, not from the steps.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from jaxwarp import _small_matrix
from jaxwarp._spline.degenerate import faults
from jaxwarp._spline.evaluate import everywhere, move
from jaxwarp._spline.fit import fit_spline
from jaxwarp._spline.kernel import ENERGY_FACTOR, in_frame, kernel
from jaxwarp._spline.spline import ThinPlateSpline


@jax.jit
def energy(spline: ThinPlateSpline) -> jax.Array:
    """Return the bending energy of each spline, (N,)."""
    ndim = spline.weights.shape[2]
    bending = jax.vmap(lambda knots: kernel(knots[:, None], knots[None]))(spline.knots)
    bent = jnp.matmul(bending, spline.weights, precision=lax.Precision.HIGHEST)
    trace = jnp.sum(spline.weights * bent, axis=(1, 2))
    return ENERGY_FACTOR[ndim] * in_frame(trace, spline.scale, ndim)


@jax.jit
def jacobian_determinant(spline: ThinPlateSpline, points: jax.Array) -> jax.Array:
    """Return det df/dp at points (N, ..., n), (N, ...)."""

    def at(spline: ThinPlateSpline, point: jax.Array) -> jax.Array:
        return _small_matrix.determinant(jax.jacfwd(move, argnums=1)(spline, point))

    return everywhere(at, spline, points)


@partial(jax.jit, static_argnums=2)
def invert(spline: ThinPlateSpline, points: jax.Array, steps: int) -> jax.Array:
    """Map points (N, ..., n) backwards by so many Newton steps."""
    target = spline.knots * spline.scale[:, None, None] + spline.center[:, None]
    source, exactly = everywhere(move, spline, target), jnp.zeros((), points.dtype)
    swapped = fit_spline(source, target, exactly, faults(source, exactly))
    start = lax.stop_gradient(everywhere(move, swapped, points))
    return everywhere(partial(_invert_point, steps=steps), spline, points, start)


def _invert_point(
    spline: ThinPlateSpline, goal: jax.Array, start: jax.Array, steps: int
) -> jax.Array:
    """Return the point near ``start`` that one spline maps to ``goal``, or NaN."""

    def miss(point: jax.Array) -> jax.Array:
        return move(spline, point) - goal

    def iterate(miss: Callable[..., jax.Array], point: jax.Array) -> jax.Array:
        return lax.fori_loop(0, steps, lambda _, point: point - _newton_step(miss, point), point)

    found = lax.custom_root(miss, start, iterate, _solve_linear)
    # How far the next step would go is how far the last one was from the goal.
    off = lax.stop_gradient(_newton_step(miss, found))
    tolerance = jnp.sqrt(jnp.finfo(goal.dtype).eps) * spline.scale
    return jnp.where(jnp.max(jnp.abs(off)) <= tolerance, found, jnp.nan)


def _newton_step(miss: Callable[..., jax.Array], point: jax.Array) -> jax.Array:
    value, tangents = jax.linearize(miss, point)
    return _solve_linear(tangents, value)


def _solve_linear(linear: Callable[..., jax.Array], right: jax.Array) -> jax.Array:
    """Solve linear(x) = right (n,)."""
    matrix = jax.vmap(linear, out_axes=1)(jnp.eye(len(right), dtype=right.dtype))
    inverse = _small_matrix.inverse(matrix)
    return jnp.sum(inverse * right[None], axis=1)
