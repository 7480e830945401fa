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

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike
from jaxtyping import Float

from jaxwarp import _checks, _coords
from jaxwarp._spline.kernel import affine_terms, frame, in_frame, kernel, system

# Rows of the matrix made at once: bounds the float64 workspace on the host.
_ROWS_AT_ONCE = 4096

# Terms of a sum that cost less than an ulp of the result; twice as many columns cost a fifth.
_SUMMED_AT_ONCE = 512


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

    def __call__(self, source: Float[ArrayLike, "N T n"]) -> Float[Array, "N *out n"]:
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
        return _apply(self, source)


def make_operator(
    target: jax.Array, spatial: tuple[int, ...], align_corners: bool, smoothing: float
) -> ThinPlateOperator:
    """Make the operator for checked, concrete target points (N or 1, T, n)."""
    target = target.astype(_coords.coordinate_dtype(target.dtype))
    base = np.asarray(_coords.identity_grid(spatial, align_corners, target.dtype))[None]
    points = base.astype(np.float64).reshape(-1, target.shape[2])
    matrix = np.stack([_influence(points, t, smoothing) for t in np.asarray(target)])
    base, matrix = jax.device_put((base, matrix))
    return ThinPlateOperator(base, matrix, target)


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
def _apply(operator: ThinPlateOperator, source: jax.Array) -> jax.Array:
    dtype = _coords.coordinate_dtype(operator.matrix.dtype, source.dtype)
    base, matrix, target = (
        x.astype(dtype) for x in (operator.base, operator.matrix, operator.target)
    )
    displacement = _in_blocks(source.astype(dtype) - target)
    product = partial(jnp.einsum, precision=lax.Precision.HIGHEST)
    if matrix.shape[0] == 1:  # one (P, T) x (T, N n) product rather than N thin ones
        moved = product("pt,btkn->bpkn", matrix[0], displacement)
    else:
        moved = product("bpt,btkn->bpkn", matrix, displacement)
    return base + moved.sum(2).reshape(-1, *base.shape[1:])


def _in_blocks(displacement: jax.Array) -> jax.Array:
    """Give each block of points (N, T, n) columns of its own, (N, T, blocks, n), else zero.

    XLA sums on a CPU term by term, and the more terms, the more digits are lost; on some
    processors 1024 were too many. The product of a part of the matrix would copy that part.
    """
    count = displacement.shape[1]
    blocks = -(-count // _SUMMED_AT_ONCE)
    if blocks == 1:
        return displacement[:, :, None]
    own = np.arange(count)[:, None] * blocks // count == np.arange(blocks)
    return jnp.where(own[None, :, :, None], displacement[:, :, None], 0)
