"""Thin-plate splines as modules: control points that are fixed, or learned."""

from collections.abc import Sequence

import jax
from flax import nnx
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float

from jaxwarp import _checks
from jaxwarp._spline import arguments
from jaxwarp._spline.fit import spline_grid
from jaxwarp._spline.operator import ThinPlateOperator, make_operator
from jaxwarp.nn._buffer import Buffer
from jaxwarp.nn._signature import show_constructor


@show_constructor
class TPSGrid(nnx.Module):
    """Turn source points into a sampling grid, for fixed target points.

    The spline maps output to input: the grid makes the pixel *at* a target point read the
    input at the corresponding source point. What depends on the target points and the
    size alone is one matrix, computed here once, in float64, and kept in buffers: it moves
    with the module, is never differentiated and never updated, and no ``state_dict`` of
    torch needs to have it.

    Args:
        target: Control points in the output, (T, n), or one set per batch element,
            (N, T, n); normalised, listed (x, y, z).
        size: The output's size, (N, *spatial, C) or (N, C, *spatial) as channel_axis says;
            the spatial sizes alone, (H, W) for n = 2, will do.
        align_corners: Where -1 and 1 lie, as in `jaxwarp.affine_grid`.
        smoothing: As in `jaxwarp.tps_grid`.
        channel_axis: Where size has its channels: -1, the default of all modules, or 1,
            that of all functions.

    Attributes:
        target: The control points, (N or 1, T, n): a `Buffer`.
        base: The pixel centres, (1, *size, n): a `Buffer`.
        matrix: The influence of each point on each pixel, (N or 1, H * W, T): a `Buffer`.

    Raises:
        TypeError: target is not a floating-point array, or is traced; size holds no
            integers.
        ValueError: target is not (T, n) or (N, T, n) with n axes like size's, or its
            points determine no spline.

    Equals the torch module that inverts the spline's matrix in its constructor, but for
    its rounding errors.

    Example:
        >>> import jax.numpy as jnp
        >>> corners = jnp.array([[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]])
        >>> to_grid = TPSGrid(corners, (2, 2))
        >>> to_grid(corners[None] + 0.25)[0, :, :, 0]
        Array([[-0.25,  0.75],
               [-0.25,  0.75]], dtype=float32)
    """

    def __init__(
        self,
        target: Float[ArrayLike, "T n"] | Float[ArrayLike, "N T n"],
        size: Sequence[int],
        align_corners: bool | None = False,
        *,
        smoothing: float = 0.0,
        channel_axis: int = -1,
    ):
        # The operator is made on the host, also where the module is made in a traced function.
        with arguments.concretely(target=target, smoothing=smoothing):
            points, size = _control_points(target, size, channel_axis)
            shape = (len(points), 1, *size)
            operator = make_operator(
                *arguments.for_operator(points, shape, align_corners, smoothing, 1)
            )
        self.target = Buffer(operator.target, persistent=False)
        self.base = Buffer(operator.base, persistent=False)
        self.matrix = Buffer(operator.matrix, persistent=False)

    def __call__(self, source: Float[ArrayLike, "N T n"]) -> Float[Array, "N *size n"]:
        """Return the grid (N, *size, n) for source points (N, T, n).

        Raises:
            TypeError: source is not a floating-point array.
            ValueError: source does not have the target's number of points and axes.
        """
        return ThinPlateOperator(self.base[...], self.matrix[...], self.target[...])(source)


@show_constructor
class LearnedTPSGrid(nnx.Module):
    """Turn source points into a sampling grid, for target points that are learned too.

    As `TPSGrid`, but the target points are a parameter, so that the spline is fitted
    anew in every call, in the precision of its operands. Where training drives them together
    or onto one line there is no spline: the grid is NaN, which the sampler reads as black.

    Args:
        target: Initial control points in the output, (T, n) or (N, T, n); normalised,
            listed (x, y, z).
        size: As in `TPSGrid`.
        align_corners: As in `TPSGrid`.
        smoothing: As in `TPSGrid`.
        channel_axis: As in `TPSGrid`.

    Attributes:
        target: The control points, (N or 1, T, n): an ``nnx.Param``.

    Raises:
        TypeError: target is not a floating-point array; size holds no integers.
        ValueError: target is not (T, n) or (N, T, n) with n axes like size's.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> points = jnp.array([[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]])
        >>> to_grid = LearnedTPSGrid(points, (2, 2))
        >>> list(nnx.grad(lambda m: m(points[None]).sum())(to_grid))
        ['target']
    """

    def __init__(
        self,
        target: Float[ArrayLike, "T n"] | Float[ArrayLike, "N T n"],
        size: Sequence[int],
        align_corners: bool | None = False,
        *,
        smoothing: float = 0.0,
        channel_axis: int = -1,
    ):
        points, self.size = _control_points(target, size, channel_axis)
        self.target = nnx.Param(points)
        self.align_corners = _checks.flag("align_corners", align_corners)
        self.smoothing = smoothing

    def __call__(self, source: Float[ArrayLike, "N T n"]) -> Float[Array, "N *size n"]:
        """Return the grid (N, *size, n) for source points (N, T, n).

        Raises:
            TypeError: source is not a floating-point array.
            ValueError: source does not have the target's number of points and axes.
        """
        source = _checks.float_array("source", source)
        size = (source.shape[0], 1, *self.size)
        return spline_grid(
            *arguments.for_grid(
                self.target[...], source, size, self.align_corners, self.smoothing, 1
            )
        )


def _control_points(
    target: ArrayLike, size: Sequence[int], channel_axis: int
) -> tuple[jax.Array, tuple[int, ...]]:
    """Check the points and the size, and give the points their batch axis."""
    target = _checks.float_array("target", target)
    count = len(_checks.output_size("size", size, range(1, 6), "(*spatial) or a whole image's"))
    # Three sizes may be those of a volume, or of a batch of signals with their channels.
    n = count - 2 if count > 3 or (target.shape[-1:] == (1,) and count == 3) else count
    size = _checks.spatial_size("size", size, n, channel_axis)
    holds = target.ndim in (2, 3) and target.shape[-1] == n
    _checks.shape("target", target, f"(T, {n}) or (N, T, {n}) for a size {size}", holds)
    return (target if target.ndim == 3 else target[None]), size
