"""Thin-plate splines: the smoothest map that takes given points to given points.

A spline maps *target* points to *source* points, output to input, as `grid_sample` wants.
Its definition is in `_spline`.
"""

from collections.abc import Sequence

from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float

from jaxwarp._spline import arguments
from jaxwarp._spline.evaluate import map_points
from jaxwarp._spline.fit import fit_spline, spline_grid
from jaxwarp._spline.operator import ThinPlateOperator, make_operator
from jaxwarp._spline.spline import ThinPlateSpline


def tps_fit(
    target: Float[ArrayLike, "#N T n"],
    source: Float[ArrayLike, "N T n"],
    *,
    smoothing: float | Float[ArrayLike, ""] = 0.0,
) -> ThinPlateSpline:
    """Fit the thin-plate spline that maps ``target`` points to ``source`` points.

    The map runs from output to input, as a sampling grid does: what was at ``source`` in
    the image appears at ``target`` in the result. Torch has no equivalent; the values are
    those of ``scipy.interpolate.RBFInterpolator(target, source, kernel="thin_plate_spline",
    degree=1, smoothing=smoothing)``.

    Args:
        target: control points after the warp, (N, T, n) with n = 1, 2 or 3 coordinates
            (x, y, z) and T > n; or (1, T, n), to serve every source. Any unit will do;
            for a sampling grid it is normalised coordinates.
        source: control points before the warp, (N, T, n).
        smoothing: scalar >= 0; 0 interpolates, more lets the map miss the source points in
            favour of bending less. SciPy's convention; it scales with the square of the
            coordinates' unit (1-D: its cube; 3-D: the unit itself).

    Returns:
        The spline, of the operands' dtype and at least float32. Where target points
        coincide (without smoothing), lie on one line (3-D: plane; 1-D: point) or are not
        finite there is none: a ValueError says so where they are concrete, and under a trace
        that batch element, and no other, is NaN. Points that nearly coincide lose accuracy
        in float32: smooth, use float64, or `tps_operator`.

    Raises:
        TypeError: an operand is not an array of real floating-point numbers.
        ValueError: shapes do not fit, ``smoothing`` is negative, or (where concrete) the target
            points determine no spline.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxwarp import tps_apply, tps_fit
        >>> target = jnp.array([[[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]]])
        >>> spline = tps_fit(target, target + jnp.array([0.5, 0.0]))
        >>> tps_apply(spline, jnp.array([[[0.0, 0.25]]])).round(3).tolist()
        [[[0.5, 0.25]]]
    """
    return fit_spline(*arguments.for_fit(target, source, smoothing))


def tps_apply(
    spline: ThinPlateSpline, points: Float[ArrayLike, "N *out n"]
) -> Float[Array, "N *out n"]:
    """Map points through a thin-plate spline, from its target's side to its source's.

    Differentiable to any order in the spline and the points. At a knot itself, where the
    2-D kernel has no second and the 3-D kernel no first derivative, the knot's own term
    contributes 0 to it. The kernel's values are never all held in memory.

    Args:
        spline: from `tps_fit`, of batch N or 1.
        points: (N, ..., n), (x, y, z) in the unit of the spline's target points.

    Returns:
        The mapped points, (N, ..., n), in the wider dtype of spline and points.

    Raises:
        TypeError: ``spline`` is not a `ThinPlateSpline`, or ``points`` not an array of real
            floating-point numbers.
        ValueError: the shape of ``points`` does not fit the spline.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxwarp import tps_apply, tps_fit
        >>> target = jnp.array([[[-1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]])
        >>> spline = tps_fit(target, 2 * target)
        >>> tps_apply(spline, jnp.array([[0.5, 0.25]])).round(3).tolist()
        [[1.0, 0.5]]
    """
    return map_points(*arguments.for_query(spline, points))


def tps_grid(
    target: Float[ArrayLike, "#N T n"],
    source: Float[ArrayLike, "N T n"],
    size: Sequence[int],
    align_corners: bool | None = False,
    *,
    smoothing: float | Float[ArrayLike, ""] = 0.0,
    channel_axis: int = 1,
) -> Float[Array, "N *out n"]:
    """Make the sampling grid of the thin-plate spline from ``target`` to ``source`` points.

    Where the target points are known beforehand `tps_operator` is faster and more exact.

    Args:
        target: control points in the output, (N, T, n) or (1, T, n), in normalised (x, y, z).
        source: where they come from in the input, (N, T, n), in normalised (x, y, z).
        size: output size (N, C, *out), or (N, *out, C) with ``channel_axis=-1``, with
            n = len(out) spatial axes (torch: `affine_grid`).
        align_corners: where -1 and 1 are, the outer pixels' edges (False, None) or centres
            (True); pass the same to `grid_sample`.
        smoothing: scalar >= 0, see `tps_fit`.
        channel_axis: where size has its channels: 1, the default of all functions, or -1,
            that of all modules.

    Returns:
        The grid (N, *out, n), of the operands' dtype and at least float32; if source equals
        target, exactly the pixel centres. NaN in a batch element whose target points
        determine no spline, under a trace; see `tps_fit`. `grid_sample` reads zero there:
        a picture that turns black, or with other paddings into a single colour, may mean
        that. The guide has a check that works under ``jit``.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: shapes do not fit each other or ``size``, ``smoothing`` is negative, or (where
            concrete) the target points determine no spline.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxwarp import tps_grid
        >>> target = jnp.array([[[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]]])
        >>> tps_grid(target, target, (1, 3, 2, 2))[0, 0].tolist()
        [[-0.5, -0.5], [0.5, -0.5]]
    """
    return spline_grid(
        *arguments.for_grid(target, source, size, align_corners, smoothing, channel_axis)
    )


def tps_operator(
    target: Float[ArrayLike, "N T n"],
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
    # Concrete points give a concrete operator, in a function that is being traced, too.
    with arguments.concretely(target=target, smoothing=smoothing):
        return make_operator(
            *arguments.for_operator(target, size, align_corners, smoothing, channel_axis)
        )
