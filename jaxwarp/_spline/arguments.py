"""Checks of what splines are fitted to and evaluated at."""

from collections.abc import Sequence
from numbers import Real
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from jaxwarp import _checks, _coords
from jaxwarp._spline.spline import ThinPlateSpline


def fit_operands(target: Any, source: Any, smoothing: Any) -> tuple[jax.Array, ...]:
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
