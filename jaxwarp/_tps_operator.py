"""Thin-plate splines with fixed target points: one precomputed matrix.

A spline is linear in its source points. Where the target points and the size are known in
advance, the whole way from source points to grid is therefore one matrix, and because a
spline reproduces the identity, it is enough that it acts on the displacement::

    M    = [R_gpt  H_gpt] [[R_cpt + smoothing I, H_cpt], [H_cpt^T, 0]]^-1 [:, :T]
    grid = base + M (source - target)

with kernel R and affine terms H of the grid's points (gpt) and the control points (cpt).
The matrix is made on the host, in float64 whatever JAX's precision, and rounded once. So
source = target gives the identity bit for bit, and the error of a float32 grid is that of
one dot product however many control points there are and however badly they lie, where
a spline fitted in float32 loses up to the condition number of its system.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from jaxwarp import _checks, _coords
from jaxwarp._tps import control_points, smoothing_scalar, spatial_size
from jaxwarp._tps_kernel import affine_terms, frame, in_frame, kernel, require_fit, system

# Rows of the matrix made at once: bounds the float64 workspace on the host.
_ROWS_AT_ONCE = 4096


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ThinPlateOperator:
    """The linear map from source points to sampling grid, made by `tps_operator`.

    A pytree of three arrays, to be called on source points. Hand it to a jitted function as an
    argument, or keep it in a variable collection: closing over it puts the matrix into
    the program. `tps_operator` rebuilds it, so it need not be in checkpoints.

    Attributes:
        base: pixel centres, (1, *out, n), normalised (x, y, z).
        matrix: influence of each control point on each pixel, (N or 1, prod(out), T).
        target: the fixed target points, (N or 1, T, n).

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxwarp import tps_operator
        >>> target = jnp.array([[[-1.0, -1.0], [1.0, -1.0], [0.0, 1.0]]])
        >>> to_grid = tps_operator(target, (1, 3, 4, 6))
        >>> to_grid.base.shape, to_grid.matrix.shape
        ((1, 4, 6, 2), (1, 24, 3))
        >>> bool((to_grid(target) == to_grid.base).all())
        True
    """

    base: jax.Array
    matrix: jax.Array
    target: jax.Array

    def __call__(self, source: Any) -> jax.Array:
        """Return the grid of the spline from the target points to ``source``.

        Args:
            source: control points before the warp, (N, T, n), in normalised (x, y, z); any
                N where the target has a batch of one.

        Returns:
            The grid (N, *out, n), in the wider dtype of operator and source.

        Raises:
            TypeError: ``source`` is not an array of real floating-point numbers.
            ValueError: its shape does not fit the target points.
        """
        source = _checks.float_array("source", source)
        batch, count, ndim = self.target.shape
        fits = source.ndim == 3 and source.shape[1:] == (count, ndim)
        _checks.shape("source", source, f"(N, {count}, {ndim}), like the operator's target", fits)
        if batch != 1:
            _checks.same_batch(target=self.target, source=source)
        return _apply_operator(self, source)


def tps_operator(
    target: Any,
    size: Sequence[int],
    align_corners: bool | None = False,
    *,
    smoothing: float = 0.0,
    channel_axis: int = 1,
) -> ThinPlateOperator:
    """Precompute the sampling grid of thin-plate splines whose target points are fixed.

    ``tps_operator(target, size)(source)`` is ``tps_grid(target, source, size)``, faster and, in
    float32, far more exact: a single matmul. It is differentiable in the source points, and
    takes prod(out) * T numbers of memory. Torch modules that keep the inverse of the spline's
    matrix in a buffer do the same.

    Args:
        target: control points in the output, (N, T, n), or (1, T, n) to serve every
            source, in normalised (x, y, z). Concrete: not an argument of a jitted function.
        size: output size (N, C, *out), or (N, *out, C) with ``channel_axis=-1``, with
            n = len(out) spatial axes.
        align_corners: where -1 and 1 are, the outer pixels' edges (False, None) or centres
            (True); pass the same to `grid_sample`.
        smoothing: number >= 0, see `tps_fit`.
        channel_axis: where size has its channels: 1, the default of all functions, or -1,
            that of all modules.

    Returns:
        A `ThinPlateOperator`, of the target's dtype and at least float32.

    Raises:
        TypeError: an argument has the wrong type, or ``target`` is not concrete.
        ValueError: shapes do not fit each other or ``size``, ``smoothing`` is negative, or the
            target points determine no spline (see `tps_fit`).

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxwarp import tps_operator
        >>> target = jnp.array([[[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]]])
        >>> to_grid = tps_operator(target, (1, 3, 2, 2))
        >>> to_grid(target)[0, 0].tolist()
        [[-0.5, -0.5], [0.5, -0.5]]
    """
    for name, x in {"target": target, "smoothing": smoothing}.items():
        if isinstance(x, Tracer):
            raise TypeError(f"{name} must be concrete, got a traced one, which tps_grid takes")
    # A module may build its buffers while it is itself being traced.
    with jax.ensure_compile_time_eval():
        target = control_points("target", target)
        align_corners = _checks.flag("align_corners", align_corners)
        spatial = spatial_size(size, target, channel_axis, shared=True)
        require_fit(target, smoothing_scalar(smoothing).astype(target.dtype))
        target = target.astype(_coords.coordinate_dtype(target.dtype))
        base = _coords.identity_grid(spatial, align_corners, target.dtype)[None]
        points = np.asarray(base, np.float64).reshape(-1, target.shape[2])
        matrix = [_influence(points, t, float(smoothing)) for t in np.asarray(target)]
        return ThinPlateOperator(base, jnp.asarray(np.stack(matrix)), target)


def _influence(points: np.ndarray, target: np.ndarray, smoothing: float) -> np.ndarray:
    """Return the matrix (P, T) from displacements of the targets (T, n) to those of the points."""
    count, ndim = target.shape
    matrix = np.empty((len(points), count), target.dtype)
    target = target.astype(np.float64)
    center, scale = frame(target, np)
    knots = (target - center) / scale
    left = system(knots, in_frame(smoothing, scale, ndim), np)
    # Column t holds the weights of the spline that moves target t by 1 and no other.
    cardinal = np.linalg.solve(left, np.eye(len(left), count))
    for start in range(0, len(points), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        u = (points[rows] - center) / scale
        bend = kernel(u[:, None], knots[None], np) @ cardinal[:count]
        matrix[rows] = bend + affine_terms(u, np) @ cardinal[count:]
    return matrix


@jax.jit
def _apply_operator(operator: ThinPlateOperator, source: jax.Array) -> jax.Array:
    dtype = _coords.coordinate_dtype(operator.matrix.dtype, source.dtype)
    base, matrix, target = (
        x.astype(dtype) for x in (operator.base, operator.matrix, operator.target)
    )
    displacement = source.astype(dtype) - target
    if matrix.shape[0] == 1:  # one (P, T) x (T, N n) product rather than N thin ones
        moved = jnp.einsum("pt,btn->bpn", matrix[0], displacement, precision=lax.Precision.HIGHEST)
    else:
        moved = jnp.einsum("bpt,btn->bpn", matrix, displacement, precision=lax.Precision.HIGHEST)
    return base + moved.reshape(-1, *base.shape[1:])
