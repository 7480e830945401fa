r"""Thin-plate splines: the smoothest map that takes given points to given points.

A spline maps *target* points to *source* points, output to input, as `grid_sample` wants::

    f(p)   = p + a_0 + A p + sum_t w_t U(|p - target_t|)        f(target_t) = source_t

    [ K + smoothing I   H ] [ w ]   [ source - target ]         K_ij = U(|target_i - target_j|)
    [ H^T               0 ] [ a ] = [        0        ]         H_i  = (1, target_i)

    U(r) = r^3 (1-D), r^2 log r (2-D), -r (3-D)

which minimises ``sum_t |f(target_t) - source_t|^2 + smoothing * w^T K w`` or, without
smoothing, interpolates with the least bending energy (Bookstein 1989; Duchon 1977)::

    E(f) = integral of sum_ij |d^2 f / dp_i dp_j|^2 = c * trace(w^T K w)     c = 12, 8 pi, 8 pi

The right-hand side is the *displacement*, which gives the same spline (it reproduces
affine maps) and keeps rounding relative to how far points move: points that stay put
give the identity exactly. All is computed in coordinates centred on the target points and
divided by their half-width, which matters in float32. `smoothing` is SciPy's: divide by 2
for the kernel r^2 log r^2, and multiply it by s^2 (1-D s^3, 3-D s) when all coordinates are
multiplied by s.
"""

from collections.abc import Sequence
from functools import partial
from numbers import Real
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from jaxwarp import _checks, _coords
from jaxwarp._tps_kernel import require_fit
from jaxwarp._tps_spline import ThinPlateSpline, everywhere, fit, move


def tps_fit(target: Any, source: Any, *, smoothing: Any = 0.0) -> ThinPlateSpline:
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
    target, source, smoothing = _operands(target, source, smoothing)
    require_fit(target, smoothing)
    return _fit(target, source, smoothing)


def tps_apply(spline: ThinPlateSpline, points: Any) -> jax.Array:
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
        TypeError: ``spline`` is none, or ``points`` not an array of real floating-point numbers.
        ValueError: the shape of ``points`` does not fit the spline.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxwarp import tps_apply, tps_fit
        >>> target = jnp.array([[[-1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]])
        >>> spline = tps_fit(target, 2 * target)
        >>> tps_apply(spline, jnp.array([[0.5, 0.25]])).round(3).tolist()
        [[1.0, 0.5]]
    """
    spline, points = query(spline, points)
    return _apply(spline, points)


def tps_grid(
    target: Any,
    source: Any,
    size: Sequence[Any],
    align_corners: bool | None = False,
    *,
    smoothing: Any = 0.0,
    channel_axis: int = 1,
) -> jax.Array:
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
    target, source, smoothing = _operands(target, source, smoothing)
    align_corners = _checks.flag("align_corners", align_corners)
    spatial = spatial_size(size, source, channel_axis)
    require_fit(target, smoothing)
    return _grid(target, source, smoothing, spatial, align_corners)


_fit = jax.jit(fit)


@jax.jit
def _apply(spline: ThinPlateSpline, points: jax.Array) -> jax.Array:
    return everywhere(move, spline, points)


@partial(jax.jit, static_argnums=(3, 4))
def _grid(
    target: jax.Array,
    source: jax.Array,
    smoothing: jax.Array,
    spatial: tuple[Any, ...],
    align_corners: bool,
) -> jax.Array:
    base = _coords.identity_grid(spatial, align_corners, target.dtype)
    return everywhere(move, fit(target, source, smoothing), base[None])


def _operands(target: Any, source: Any, smoothing: Any) -> tuple[jax.Array, ...]:
    """Return the checked operands of a fit, all in the dtype it is computed in."""
    target, source = control_points("target", target), control_points("source", source)
    like = f"(N, {target.shape[1]}, {target.shape[2]}), as target has {target.shape[1]} points"
    _checks.shape("source", source, like, source.shape[1:] == target.shape[1:])
    if target.shape[0] != 1:
        _checks.same_batch(target=target, source=source)
    dtype = _coords.coordinate_dtype(target.dtype, source.dtype)
    return target.astype(dtype), source.astype(dtype), smoothing_scalar(smoothing).astype(dtype)


def control_points(name: str, x: Any) -> jax.Array:
    """Return checked control points (N, T, n)."""
    x = _checks.float_array(name, x)
    fits = x.ndim == 3 and x.shape[2] in (1, 2, 3)
    _checks.shape(name, x, "(N, T, n) with n = 1, 2 or 3 coordinates", fits)
    ndim = x.shape[2]
    _checks.shape(name, x, f"(N, T, {ndim}) with at least {ndim + 1} points", x.shape[1] > ndim)
    return x


def smoothing_scalar(value: Any) -> jax.Array:
    """Return a smoothing as a scalar array, checked to be >= 0 where it is concrete."""
    if isinstance(value, Real) and not isinstance(value, bool):
        value = np.asarray(value, float)
    scalar = _checks.float_array("smoothing", value)
    _checks.shape("smoothing", scalar, "a scalar", scalar.ndim == 0)
    if not isinstance(value, Tracer) and not 0 <= float(value) < float("inf"):
        raise ValueError(f"smoothing must be finite and >= 0, got {value}")
    return scalar


def spatial_size(
    size: Sequence[Any], points: jax.Array, channel_axis: int, shared: bool = False
) -> tuple[Any, ...]:
    """Return the spatial part of ``size``, checked against the control points it is for."""
    count, spatial = _checks.image_size("size", size, channel_axis)
    batch, _, ndim = points.shape
    if len(spatial) != ndim:
        came = tuple(size)
        raise ValueError(f"size must have {ndim + 2} entries for {ndim}-D points, got {came}")
    if batch != count and not (shared and batch == 1):
        came = tuple(size)
        raise ValueError(f"size must begin with the points' batch size {batch}, got {came}")
    return spatial


def fitted(name: str, spline: Any) -> ThinPlateSpline:
    """Return the spline, or raise if it is none."""
    if not isinstance(spline, ThinPlateSpline):
        raise TypeError(f"{name} must be a ThinPlateSpline, got {type(spline).__name__}")
    return spline


def query(spline: ThinPlateSpline, points: Any) -> tuple[ThinPlateSpline, jax.Array]:
    """Return a spline and checked points (N, ..., n) for it, both in the wider dtype."""
    spline = fitted("spline", spline)
    points = _checks.float_array("points", points)
    batch, _, ndim = spline.weights.shape
    fits = points.ndim >= 2 and points.shape[-1] == ndim
    _checks.shape("points", points, f"(N, ..., {ndim}), as the spline has {ndim} axes", fits)
    if batch != 1:
        _checks.same_batch(spline=spline.weights, points=points)
    dtype = _coords.coordinate_dtype(spline.weights.dtype, points.dtype)
    return jax.tree.map(lambda x: x.astype(dtype), (spline, points))
