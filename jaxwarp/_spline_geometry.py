"""What a thin-plate spline does to space: how much it bends, where it folds, its inverse."""

from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float

from jaxwarp import _checks
from jaxwarp._spline import arguments, geometry
from jaxwarp._spline.spline import ThinPlateSpline


def bending_energy(spline: ThinPlateSpline) -> Float[Array, " N"]:
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
        >>> abs(bending_energy(tps_fit(target, 2 * target + 1))) < 1e-5
        Array([ True], dtype=bool)
        >>> twist = jnp.array([[0.1, 0.0], [-0.1, 0.0], [-0.1, 0.0], [0.1, 0.0]])
        >>> bending_energy(tps_fit(target, target + twist)).round(4)
        Array([0.3626], dtype=float32)
    """
    return geometry.energy(arguments.fitted("spline", spline))


def tps_jacobian_determinant(
    spline: ThinPlateSpline, points: Float[ArrayLike, "N *out n"]
) -> Float[Array, " N *out"]:
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
        TypeError: ``spline`` is not a `ThinPlateSpline`, or ``points`` not an array of real
            floating-point numbers.
        ValueError: the shape of ``points`` does not fit the spline.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxwarp import tps_fit, tps_jacobian_determinant
        >>> target = jnp.array([[[-1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]])
        >>> mirrored = tps_fit(target, target * jnp.array([-1.0, 1.0]))
        >>> tps_jacobian_determinant(mirrored, jnp.array([[0.5, 0.25]])).round(3)
        Array([-1.], dtype=float32)
    """
    spline, points = arguments.for_query(spline, points)
    return geometry.jacobian_determinant(spline, points)


def tps_invert(
    spline: ThinPlateSpline, points: Float[ArrayLike, "N *out n"], *, steps: int = 8
) -> Float[Array, "N *out n"]:
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
        TypeError: ``spline`` is not a `ThinPlateSpline`, ``points`` not an array of real
            floating-point numbers, or ``steps`` not an integer.
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
    spline, points = arguments.for_query(spline, points)
    steps = _checks.count("steps", steps)
    return geometry.invert(spline, points, steps)
