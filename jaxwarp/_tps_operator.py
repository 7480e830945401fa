"""Thin-plate splines with fixed target points: one precomputed matrix.

A spline is linear in its source points. With the target points and the size known in
advance, the whole path from source points to grid is therefore one matrix, and because
a spline reproduces the identity, it is enough to let it act on the displacement::

    M    = [R_gpt, H_gpt] [[R_cpt + smoothing I, H_cpt], [H_cpt^T, 0]]^-1 [:, :T]
    grid = base + M (source - target)

The matrix is made on the host, in float64 whatever the precision of JAX, and rounded
once. So source = target gives the identity bit for bit, and the error of a float32 grid is
that of one dot product, whatever the number of control points and however badly they
lie; a spline fitted in float32 loses up to the condition number of its system.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxwarp import _checks, _coords
from jaxwarp._tps_kernel import affine_terms, kernel, squared_distances

# Rows of M that are computed at once: bounds the float64 workspace on the host.
_ROWS_AT_ONCE = 8192


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ThinPlateOperator:
    """The linear map from source points to sampling grid, for fixed target points.

    A pytree of three arrays; call it on source points. Pass it to a jitted function as an
    argument, or keep it in a variable collection: closing over it embeds the matrix in the
    program. `tps_operator` rebuilds it from the target points, so a checkpoint need not hold it.

    Attributes:
        base: pixel centres, (1, *out, n), normalised (x, y, z).
        matrix: the influence of each control point on each pixel, (N or 1, prod(out), T).
        target: the fixed target points, (N or 1, T, n).
    """

    base: jax.Array
    matrix: jax.Array
    target: jax.Array

    def __call__(self, source: Any) -> jax.Array:
        """Return the grid (N, *out, n) that maps the target points to ``source`` (N, T, n).

        An operator whose target has a batch of one serves any batch of sources.
        """
        source = _checks.float_array("source", source)
        control = self.target.shape[1:]
        rule = f"(N, {control[0]}, {control[1]}), like the operator's target"
        _checks.shape("source", source, rule, source.shape[1:] == control)
        if self.target.shape[0] != 1:
            _checks.same_batch(target=self.target, source=source)
        return _apply_operator(self, source)


@jax.jit
def _apply_operator(operator: ThinPlateOperator, source: jax.Array) -> jax.Array:
    base, matrix, target = operator.base, operator.matrix, operator.target
    dtype = _coords.coordinate_dtype(matrix.dtype, source.dtype)
    displacement = source.astype(dtype) - target.astype(dtype)
    # A shared matrix is one (P, T) x (T, N n) product, not N separate ones.
    shared = matrix.shape[0] == 1
    subscripts = "pt,btn->bpn" if shared else "bpt,btn->bpn"
    matrix = (matrix[0] if shared else matrix).astype(dtype)
    moved = jnp.einsum(subscripts, matrix, displacement, precision=lax.Precision.HIGHEST)
    return base.astype(dtype) + moved.reshape(-1, *base.shape[1:])


def tps_operator(
    target: Any,
    size: Sequence[int],
    align_corners: bool | None = False,
    *,
    smoothing: float = 0.0,
) -> ThinPlateOperator:
    """Precompute the map from source points to sampling grid, for fixed target points."""
    align_corners = _checks.flag("align_corners", align_corners)
    size = _checks.output_size("size", size)
    target = np.asarray(_checks.float_array("target", target))
    dtype = _coords.coordinate_dtype(target.dtype)
    base = _coords.identity_grid(size[2:], align_corners, dtype)
    points = np.asarray(base, np.float64).reshape(-1, target.shape[-1])
    matrix = np.stack([_influence(t.astype(np.float64), points, smoothing, dtype) for t in target])
    return ThinPlateOperator(base[None], jnp.asarray(matrix), jnp.asarray(target, dtype))


def _influence(target: np.ndarray, points: np.ndarray, smoothing: float, dtype: Any) -> np.ndarray:
    """Return M for one batch element, (P, T), computed in float64 and rounded once."""
    count, ndim = target.shape
    center = target.mean(axis=0)
    scale = np.abs(target - center).max()
    knots, points = (target - center) / scale, (points - center) / scale
    smoothing = smoothing / scale ** (4 - ndim)
    affine = affine_terms(knots, np)
    corner = np.zeros((ndim + 1, ndim + 1))
    bending = kernel(squared_distances(knots, knots), ndim, np) + smoothing * np.eye(count)
    cardinal = np.linalg.solve(
        np.block([[bending, affine], [affine.T, corner]]), np.eye(count + ndim + 1, count)
    )
    matrix = np.empty((len(points), count), dtype)
    for start in range(0, len(points), _ROWS_AT_ONCE):
        some = points[start : start + _ROWS_AT_ONCE]
        reach = kernel(squared_distances(some, knots), ndim, np)
        matrix[start : start + _ROWS_AT_ONCE] = (
            reach @ cardinal[:count] + affine_terms(some, np) @ cardinal[count:]
        )
    return matrix
