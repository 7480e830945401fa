"""A thin-plate spline from its control points."""

from functools import partial

import jax
import jax.numpy as jnp
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
    matrix = jax.vmap(system)(knots, in_frame(smoothing, scale, ndim))
    displacement = jnp.pad(source - target, ((0, 0), (0, ndim + 1), (0, 0)))
    solution = solve(matrix, displacement)
    solution = jnp.where((fault > 0)[:, None, None], jnp.nan, solution)
    return ThinPlateSpline(center, scale, knots, solution[:, :count], solution[:, count:])


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
