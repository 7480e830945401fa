"""What a thin-plate spline does to space: how much it bends, where it folds, its inverse."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxwarp._tps import query
from jaxwarp._tps_kernel import ENERGY_FACTOR, in_frame, kernel
from jaxwarp._tps_spline import ThinPlateSpline, everywhere, fit, move


def bending_energy(spline: ThinPlateSpline) -> jax.Array:
    """Measure how much a thin-plate spline bends; 0 for an affine map."""
    return _energy(spline)


def tps_jacobian_determinant(spline: ThinPlateSpline, points: Any) -> jax.Array:
    """Measure how a thin-plate spline scales area around points; negative where it folds over."""
    spline, points = query(spline, points)
    return _jacobian_determinant(spline, points)


def tps_invert(spline: ThinPlateSpline, points: Any, *, steps: int = 8) -> jax.Array:
    """Map points backwards through a thin-plate spline, from its source's side to its target's."""
    spline, points = query(spline, points)
    return _invert(spline, points, steps)


@jax.jit
def _energy(spline: ThinPlateSpline) -> jax.Array:
    ndim = spline.weights.shape[2]
    bending = jax.vmap(lambda k: kernel(k[:, None], k[None]))(spline.knots)
    bent = jnp.matmul(bending, spline.weights, precision=lax.Precision.HIGHEST)
    trace = jnp.sum(spline.weights * bent, axis=(1, 2))
    # in_frame(1, scale): energy is in source units^2 times target units^(n - 4)
    return ENERGY_FACTOR[ndim] * in_frame(trace, spline.scale, ndim)


@jax.jit
def _jacobian_determinant(spline: ThinPlateSpline, points: jax.Array) -> jax.Array:
    return everywhere(lambda s, p: _determinant(jax.jacfwd(move, 1)(s, p)), spline, points)


def _determinant(j: jax.Array) -> jax.Array:
    """Return the determinant of one small matrix (n, n), as a polynomial."""
    if len(j) == 1:
        return j[0, 0]
    if len(j) == 2:
        return j[0, 0] * j[1, 1] - j[0, 1] * j[1, 0]
    return jnp.dot(j[0], jnp.cross(j[1], j[2]))


def _solve(j: jax.Array, right: jax.Array) -> jax.Array:
    """Solve j x = right for one small matrix; its adjugate is the derivative of its determinant."""
    determinant, cofactors = jax.value_and_grad(_determinant)(j)
    return jnp.sum(cofactors * right[:, None], axis=0) / determinant


@partial(jax.jit, static_argnums=2)
def _invert(spline: ThinPlateSpline, points: jax.Array, steps: int) -> jax.Array:
    # The spline with its ends swapped is nearly the inverse: Newton starts there.
    target = spline.knots * spline.scale[:, None, None] + spline.center[:, None]
    interpolate = jnp.zeros((), points.dtype)
    swapped = fit(everywhere(move, spline, target), target, interpolate)
    start = lax.stop_gradient(everywhere(move, swapped, points))
    return everywhere(partial(_newton, steps=steps), spline, points, start)


def _newton(spline: ThinPlateSpline, goal: jax.Array, start: jax.Array, steps: int) -> jax.Array:
    def miss(point: jax.Array) -> jax.Array:
        return move(spline, point) - goal

    def newton(miss: Any, point: jax.Array) -> jax.Array:
        def step(_: int, point: jax.Array) -> jax.Array:
            return point - _solve(jax.jacfwd(miss)(point), miss(point))

        return lax.fori_loop(0, steps, step, point)

    def solve_tangent(linear: Any, right: jax.Array) -> jax.Array:
        return _solve(jax.vmap(linear, out_axes=1)(jnp.eye(len(right), dtype=right.dtype)), right)

    found = lax.custom_root(miss, start, newton, solve_tangent)
    tolerance = jnp.sqrt(jnp.finfo(goal.dtype).eps) * spline.scale
    return jnp.where(jnp.max(jnp.abs(miss(found))) <= tolerance, found, jnp.nan)
