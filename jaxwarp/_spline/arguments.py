"""Checks of what splines are fitted to and evaluated at.

``for_fit``, ``for_grid`` and ``for_operator`` return all that `fit`, `fit.spline_grid` and
`operator.make_operator` take, in their order; the last is called, and used, within `concretely`.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from numbers import Real

import jax
import jax.core
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxwarp import _checks, _coords
from jaxwarp._spline.degenerate import refuse_degenerate
from jaxwarp._spline.spline import ThinPlateSpline

_Operands = tuple[jax.Array, jax.Array, jax.Array]


def for_fit(
    target: ArrayLike, source: ArrayLike, smoothing: ArrayLike
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Return checked target, source and smoothing, and what is wrong with traced targets."""
    target, source, smoothing = _fit_operands(target, source, smoothing)
    return target, source, smoothing, refuse_degenerate(target, smoothing)


def for_grid(
    target: ArrayLike,
    source: ArrayLike,
    size: Sequence[int],
    align_corners: bool | None,
    smoothing: ArrayLike,
    channel_axis: int,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array, tuple[int, ...], bool]:
    """Return what `for_fit` does, the output's spatial sizes, and ``align_corners``."""
    target, source, smoothing = _fit_operands(target, source, smoothing)
    align_corners = _checks.flag("align_corners", align_corners)
    spatial = _spatial_size(size, source, channel_axis)
    fault = refuse_degenerate(target, smoothing)
    return target, source, smoothing, fault, spatial, align_corners


def for_operator(
    target: ArrayLike,
    size: Sequence[int],
    align_corners: bool | None,
    smoothing: float,
    channel_axis: int,
) -> tuple[jax.Array, tuple[int, ...], bool, float]:
    """Return checked target points, sizes, ``align_corners`` and smoothing."""
    points = _control_points("target", target)
    align_corners = _checks.flag("align_corners", align_corners)
    spatial = _spatial_size(size, points, channel_axis, shared=True)
    refuse_degenerate(points, _smoothing_scalar(smoothing).astype(points.dtype))
    return points, spatial, align_corners, float(smoothing)


def concretely(**operands: ArrayLike) -> AbstractContextManager[None]:
    """Let what is computed in this block be concrete, in a function that is traced, too.

    Raises a TypeError if one of the operands is traced.
    """
    for name, x in operands.items():
        to_array = getattr(x, "__jax_array__", None)  # what a Flax variable holds
        if isinstance(to_array() if to_array else x, Tracer):
            raise TypeError(f"{name} must be concrete, got a traced one, which tps_grid takes")
    # jax.ensure_compile_time_eval() would compile each operation of our programs for itself.
    return jax.core.eval_context()


def _fit_operands(target: ArrayLike, source: ArrayLike, smoothing: ArrayLike) -> _Operands:
    """Return the checked operands of a fit, all in the dtype it is computed in."""
    target, source = _control_points("target", target), _control_points("source", source)
    like = f"(N, {target.shape[1]}, {target.shape[2]}), as target has {target.shape[1]} points"
    _checks.shape("source", source, like, source.shape[1:] == target.shape[1:])
    if target.shape[0] != 1:
        _checks.same_batch(target=target, source=source)
    dtype = _coords.coordinate_dtype(target.dtype, source.dtype)
    return target.astype(dtype), source.astype(dtype), _smoothing_scalar(smoothing).astype(dtype)


def _control_points(name: str, x: ArrayLike) -> jax.Array:
    """Return checked control points (N, T, n)."""
    x = _checks.float_array(name, x)
    fits = x.ndim == 3 and x.shape[2] in (1, 2, 3)
    _checks.shape(name, x, "(N, T, n) with n = 1, 2 or 3 coordinates", fits)
    ndim = x.shape[2]
    _checks.shape(name, x, f"(N, T, {ndim}) with at least {ndim + 1} points", x.shape[1] > ndim)
    return x


def _smoothing_scalar(value: ArrayLike) -> jax.Array:
    """Return a smoothing as a scalar array, checked to be >= 0 where it is concrete."""
    if isinstance(value, Real) and not isinstance(value, bool):
        value = np.asarray(value, float)
    scalar = _checks.float_array("smoothing", value)
    _checks.shape("smoothing", scalar, "a scalar", scalar.ndim == 0)
    if not isinstance(value, Tracer) and not 0 <= float(np.asarray(value)) < float("inf"):
        raise ValueError(f"smoothing must be finite and >= 0, got {value}")
    return scalar


def _spatial_size(
    size: Sequence[int], points: jax.Array, channel_axis: int, shared: bool = False
) -> tuple[int, ...]:
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


def fitted(name: str, spline: object) -> ThinPlateSpline:
    """Return the spline, or raise if it is none."""
    if not isinstance(spline, ThinPlateSpline):
        raise TypeError(f"{name} must be a ThinPlateSpline, got {type(spline).__name__}")
    return spline


def for_query(spline: object, points: ArrayLike) -> tuple[ThinPlateSpline, jax.Array]:
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
