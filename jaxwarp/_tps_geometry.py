"""What a thin-plate spline does to space: how much it bends, where it folds, its inverse.

With J the Jacobian of the spline f, which is a sum of kernel derivatives::

    energy       E(f) = c s^(n-4) trace(w^T K w)           c = 12, 8 pi, 8 pi in 1-D, 2-D, 3-D
    folding      det J(p) < 0
    inverse      p <- p - J(p)^-1 (f(p) - goal)            Newton's method

where s is the half-width that the spline's knots were divided by. The derivatives of the
inverse come from the implicit function theorem, not from the steps.
"""

import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxwarp._tps import fitted, query
from jaxwarp._tps_kernel import ENERGY_FACTOR, in_frame, kernel
from jaxwarp._tps_spline import ThinPlateSpline, everywhere, fit, move


def bending_energy(spline: ThinPlateSpline) -> jax.Array:
    """Measure how much a thin-plate spline bends.

    The integral over all of space of the sum of its squared second derivatives, added up
    over the coordinates it maps to. It is what the spline minimises, a natural penalty on
    learned control points, and 0 for affine maps.

    Args:
        spline: from `tps_fit`, of batch N.

    Returns:
        The energy of each spline, (N,), in its dtype. Its unit is the source's squared times the
        target's to the power n - 4: it does not depend on the number of pixels.

    Raises:
        TypeError: ``spline`` is not a `ThinPlateSpline`.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxwarp import bending_energy, tps_fit
        >>> target = jnp.array([[[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]]])
        >>> bending_energy(tps_fit(target, 2 * target + 1)).round(4)
        Array([0.], dtype=float32)
        >>> twist = jnp.array([[0.1, 0.0], [-0.1, 0.0], [-0.1, 0.0], [0.1, 0.0]])
        >>> bending_energy(tps_fit(target, target + twist)).round(4)
        Array([0.3626], dtype=float32)
    """
    return _energy(fitted("spline", spline))


def tps_jacobian_determinant(spline: ThinPlateSpline, points: Any) -> jax.Array:
    """Measure how a thin-plate spline scales area around points, and where it folds.

    The determinant is the area (1-D: length; 3-D: volume) in the source that a unit of area
    in the target is read from: above 1 the image shrinks there, below 1 it grows, and where
    the determinant is negative the map has folded over, so that it has no inverse.

    Args:
        spline: from `tps_fit`, of batch N or 1.
        points: (N, ..., n), (x, y, z) in the unit of the spline's target points; for every
            pixel, the identity grid.

    Returns:
        det df/dp at each point, (N, ...), in the wider dtype of spline and points.

    Raises:
        TypeError: ``spline`` is none, or ``points`` not an array of real floating-point numbers.
        ValueError: the shape of ``points`` does not fit the spline.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxwarp import tps_fit, tps_jacobian_determinant
        >>> target = jnp.array([[[-1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]])
        >>> mirrored = tps_fit(target, target * jnp.array([-1.0, 1.0]))
        >>> tps_jacobian_determinant(mirrored, jnp.array([[0.5, 0.25]])).round(3)
        Array([-1.], dtype=float32)
    """
    spline, points = query(spline, points)
    return _jacobian_determinant(spline, points)


def tps_invert(spline: ThinPlateSpline, points: Any, *, steps: int = 8) -> jax.Array:
    """Map points backwards through a thin-plate spline, from its source's side to its target's.

    The inverse of a thin-plate spline is not one. The spline with target and source swapped
    is near it (in images, off by pixels); Newton's method starts from there, and three
    steps reach rounding where the map does not fold. Differentiable to any order in the spline
    and the points, in both modes.

    Args:
        spline: from `tps_fit`, of batch N or 1.
        points: (N, ..., n), (x, y, z) in the unit of the spline's source points.
        steps: Newton steps, a static integer of at least 1.

    Returns:
        Points p with ``tps_apply(spline, p) == points``, (N, ..., n), in the wider dtype of
        spline and points. Where the map folds there may be several, of which this is one;
        where Newton has not found any, NaN.

    Raises:
        TypeError: ``spline`` is none, ``points`` not an array of real floating-point numbers, or
            ``steps`` not an integer.
        ValueError: the shape of ``points`` does not fit the spline, or ``steps`` is below 1.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxwarp import tps_apply, tps_fit, tps_invert
        >>> target = jnp.array([[[-1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [0.0, 0.0]]])
        >>> source = target.at[0, 4].set(jnp.array([0.2, 0.1]))
        >>> spline = tps_fit(target, source)
        >>> tps_invert(spline, tps_apply(spline, jnp.array([[0.5, 0.25]]))).round(3).tolist()
        [[0.5, 0.25]]
    """
    spline, points = query(spline, points)
    if isinstance(steps, bool) or operator.index(steps) < 1:
        raise ValueError(f"steps must be an integer of at least 1, got {steps}")
    return _invert(spline, points, operator.index(steps))


@jax.jit
def _energy(spline: ThinPlateSpline) -> jax.Array:
    ndim = spline.weights.shape[2]
    bending = jax.vmap(lambda knots: kernel(knots[:, None], knots[None]))(spline.knots)
    bent = jnp.matmul(bending, spline.weights, precision=lax.Precision.HIGHEST)
    trace = jnp.sum(spline.weights * bent, axis=(1, 2))
    return ENERGY_FACTOR[ndim] * in_frame(trace, spline.scale, ndim)


@jax.jit
def _jacobian_determinant(spline: ThinPlateSpline, points: jax.Array) -> jax.Array:
    def at(spline: ThinPlateSpline, point: jax.Array) -> jax.Array:
        return _determinant(jax.jacfwd(move, argnums=1)(spline, point))

    return everywhere(at, spline, points)


@partial(jax.jit, static_argnums=2)
def _invert(spline: ThinPlateSpline, points: jax.Array, steps: int) -> jax.Array:
    target = spline.knots * spline.scale[:, None, None] + spline.center[:, None]
    swapped = fit(everywhere(move, spline, target), target, jnp.zeros((), points.dtype))
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
    """Solve linear(x) = right (n,). A matrix's cofactors are its determinant's derivative."""
    matrix = jax.vmap(linear, out_axes=1)(jnp.eye(len(right), dtype=right.dtype))
    determinant, cofactors = jax.value_and_grad(_determinant)(matrix)
    return jnp.sum(cofactors * right[:, None], axis=0) / determinant


def _determinant(matrix: jax.Array) -> jax.Array:
    """Return the determinant of one small matrix (n, n), as a polynomial."""
    first, *rest = matrix
    if not rest:
        return first[0]
    if len(rest) == 1:
        return first[0] * rest[0][1] - first[1] * rest[0][0]
    return jnp.sum(first * jnp.cross(*rest))
