"""A thin-plate spline from its control points."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxwarp import _coords
from jaxwarp._coords import Dim
from jaxwarp._spline.evaluate import everywhere, move
from jaxwarp._spline.kernel import frame, in_frame, system
from jaxwarp._spline.solve import solve
from jaxwarp._spline.spline import ThinPlateSpline


@jax.jit
def fit_spline(
    target: jax.Array, source: jax.Array, smoothing: jax.Array, fault: jax.Array
) -> ThinPlateSpline:
    """Fit control points (N or 1, T, n) and (N, T, n); NaN where the target has a ``fault``."""
    count, ndim = target.shape[1:]
    # The map does not depend on the frame, so neither do its derivatives.
    center, scale = lax.stop_gradient(jax.vmap(frame)(target))
    knots = (target - center[:, None]) / scale[:, None, None]
    order = _elimination_order(count)
    matrix = jax.vmap(system)(_listed(knots, order), in_frame(smoothing, scale, ndim))
    displacement = _listed(source - target, order)
    displacement = jnp.pad(displacement, ((0, 0), (0, ndim + 1), (0, 0)))
    solution = solve(matrix, displacement)
    solution = jnp.where((fault > 0)[:, None, None], jnp.nan, solution)
    weights = _listed(solution, np.argsort(order))
    return ThinPlateSpline(center, scale, knots, weights, solution[:, count:])


def _elimination_order(count: int) -> np.ndarray:
    """Return an order of the points in which the first few are always spread over all of them.

    Neighbours in a list are often neighbours in space. Eliminated one after the other, lattices
    and clusters cost accuracy in float32 (up to forty times the error in the suite's clusters,
    by which BLAS runs). Multiples of the golden ratio, modulo 1, fill the interval evenly.
    """
    return np.argsort(np.arange(count) * (5**0.5 - 1) / 2 % 1)


def _listed(points: jax.Array, order: np.ndarray) -> jax.Array:
    """List points (N, T, ...) in another order, none twice: their gradient needs no atomics."""
    return points.at[:, order].get(mode="promise_in_bounds", unique_indices=True)


@partial(jax.jit, static_argnums=(4, 5))
def spline_grid(
    target: jax.Array,
    source: jax.Array,
    smoothing: jax.Array,
    fault: jax.Array,
    spatial: tuple[Dim, ...],
    align_corners: bool,
) -> jax.Array:
    """Fit a spline and map every pixel centre through it, (N, *spatial, n)."""
    centers = _coords.identity_grid(spatial, align_corners, target.dtype)
    return everywhere(move, fit_spline(target, source, smoothing, fault), centers[None])
