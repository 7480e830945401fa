"""Sampling grids: affine maps, homographies and flows as functions of the pixel centres.

Every function returns normalised coordinates, listed (x, y, z), with one point
for each output pixel: the map runs from the output to the input.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float

from jaxwarp import _checks, _coords
from jaxwarp._coords import Dim


def affine_grid(
    theta: Float[ArrayLike, "N n m"],
    size: Sequence[int],
    align_corners: bool | None = False,
    *,
    channel_axis: int = 1,
) -> Float[Array, "N *out n"]:
    """Generate the sampling grid of a batch of affine maps.

    Args:
        theta: Matrices (N, n, n + 1) for n = 1, 2 or 3 spatial axes. Row i gives the
            i-th *input* coordinate (x, y, z) as an affine function of the *output*
            pixel's coordinates (x, y, z, 1); both are normalised.
        size: The output's size (N, C, *spatial), or (N, *spatial, C) with
            ``channel_axis=-1``: a tuple, a list or a ``torch.Size``.
        align_corners: Whether -1 and 1 are the outer pixels' centres (True) or their
            outer edges (False, also None).
        channel_axis: Where size has its channels: 1, the default of all functions, for
            (N, C, *spatial), or -1, that of all modules, for (N, *spatial, C).

    Returns:
        Normalised input coordinates (N, *spatial, n), in theta's dtype, but at least
        float32.

    Raises:
        TypeError: theta is not a floating-point array; size is not a sequence of
            integers; align_corners is not a bool.
        ValueError: theta's shape does not fit size; size has no 3, 4 or 5 entries or
            one that is not positive. A warning says so if size looks as if the other
            channel_axis were meant, as (8, 64, 64, 3) does for 1.

    Equals ``torch.nn.functional.affine_grid``, which has no one-axis form, and which warns
    where an axis has one pixel and align_corners is True: that pixel's centre is 0 in both.

    Example:
        >>> import jax.numpy as jnp
        >>> identity = jnp.array([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
        >>> affine_grid(identity, (1, 3, 2, 2))[0, :, :, 0]
        Array([[-0.5,  0.5],
               [-0.5,  0.5]], dtype=float32)
    """
    arguments = _matrix_grid_arguments("affine_grid", theta, size, align_corners, channel_axis, 0)
    return _affine_grid(*arguments)


def homography_grid(
    theta: Float[ArrayLike, "N m m"],
    size: Sequence[int],
    align_corners: bool | None = False,
    *,
    channel_axis: int = 1,
) -> Float[Array, "N *out n"]:
    """Generate the sampling grid of a batch of projective maps.

    A point is on or behind the horizon where its homogeneous coordinate is not
    positive (not above ``finfo.tiny ** 0.25``: 3e-10 in float32). Such points get the
    coordinate -2 ** 100 (-1e30) on every axis: far outside, so that `grid_sample` reads
    zero with ``padding_mode="zeros"`` and pixel 0 otherwise, with zero gradient.
    Scale theta so that the homogeneous coordinate is positive where you look.

    Args:
        theta: Matrices (N, n + 1, n + 1) for n = 1, 2 or 3 spatial axes, acting on
            normalised *output* coordinates (x, y, z, 1); the result divided by its
            last entry is the normalised *input* coordinate.
        size: The output's size, as in `affine_grid`.
        align_corners: As in `affine_grid`.
        channel_axis: As in `affine_grid`.

    Returns:
        Normalised input coordinates (N, *spatial, n), in theta's dtype, but at least
        float32.

    Raises:
        TypeError: As `affine_grid`.
        ValueError: As `affine_grid`.

    Torch has no such function; kornia's ``warp_perspective`` takes pixel matrices.

    Example:
        >>> import jax.numpy as jnp
        >>> theta = jnp.array([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.5, 0.0, 1.0]]])
        >>> homography_grid(theta, (1, 1, 1, 3), align_corners=True)[0, 0, :, 0]
        Array([-2.        ,  0.        ,  0.6666667], dtype=float32)
    """
    arguments = _matrix_grid_arguments(
        "homography_grid", theta, size, align_corners, channel_axis, 1
    )
    return _homography_grid(*arguments)


def flow_grid(
    flow: Float[ArrayLike, "N *out n"], align_corners: bool | None = False
) -> Float[Array, "N *out n"]:
    """Turn a backward flow in pixels into a sampling grid.

    The output pixel at position p reads the input at p + flow(p) (backward warping). To warp
    an image rather use `warp_flow`: on their way through [-1, 1] whole-numbered positions
    round to either side of the pixel, so that a flow of zero is not quite the identity, and
    in its gradient some entries have the slope to the left of the pixel, some to the right.

    Args:
        flow: Displacements in pixels (N, *spatial, n), listed (x, y, z), for
            n = 1, 2 or 3 spatial axes.
        align_corners: As in `affine_grid`; give the sampler the same.

    Returns:
        Normalised coordinates (N, *spatial, n), in the flow's dtype, but at least
        float32, for an input whose spatial size is the flow's.

    Raises:
        TypeError: flow is not a floating-point array; align_corners is not a bool.
        ValueError: flow's last axis does not match its number of spatial axes.

    Example:
        >>> import jax.numpy as jnp
        >>> one_to_the_right = jnp.array([1.0, 0.0]) * jnp.ones((1, 2, 4, 1))
        >>> flow_grid(one_to_the_right)[0, 0, :, 0]
        Array([-0.25,  0.25,  0.75,  1.25], dtype=float32)
    """
    order = "flow_grid(flow, align_corners), without the image; warp_flow(input, flow) warps it"
    align_corners = _checks.flag("align_corners", align_corners, order)
    flow = _checks.float_array("flow", flow)
    axes = flow.ndim - 2
    holds = axes in (1, 2, 3) and flow.shape[-1] == axes and 0 not in flow.shape[1:-1]
    rule = "(N, *spatial, n) with n = 1, 2 or 3 non-empty spatial axes"
    _checks.shape("flow", flow, rule, holds, _flow_advice(flow))
    return _flow_grid(flow, align_corners)


# Checks ----------------------------------------------------------------------


def _matrix_grid_arguments(
    op: str,
    theta: ArrayLike,
    size: Sequence[int],
    align_corners: bool | None,
    channel_axis: int,
    homogeneous: int,
) -> tuple[jax.Array, tuple[Dim, ...], bool]:
    order = f"{op}(theta, size, align_corners)"
    if isinstance(theta, Sequence) and not isinstance(size, Sequence):
        raise TypeError(f"theta must be an array and size integers: the order is {order}")
    theta = _checks.float_array("theta", theta)
    batch, spatial = _checks.image_size("size", size, channel_axis)
    n = len(spatial)
    rows = n + homogeneous
    holds = theta.ndim == 3 and theta.shape[1:] == (rows, n + 1)
    rule = f"(N, {rows}, {n + 1}) for a size with {n} spatial axes"
    _checks.shape("theta", theta, rule, holds, _checks.no_batch("theta", theta, 3))
    rule = f"of batch size {batch}, as size says"
    _checks.shape("theta", theta, rule, theta.shape[0] == batch)
    return theta, spatial, _checks.flag("align_corners", align_corners, order)


def _flow_advice(flow: jax.Array) -> str:
    axes = flow.ndim - 2
    if axes > 0 and flow.shape[1] == axes:
        return f"move axis 1 to the end, jnp.moveaxis(flow, 1, -1), if that holds the {axes}"
    lacks_batch = flow.ndim > 1 and flow.shape[-1] == flow.ndim - 1
    return _checks.no_batch("flow", flow, flow.ndim + 1) if lacks_batch else ""


# Formulas --------------------------------------------------------------------


def _apply_matrix(theta: jax.Array, spatial: tuple[Dim, ...], align_corners: bool) -> jax.Array:
    """Apply (N, m, n + 1) to the homogeneous pixel centres: (N, *spatial, m).

    Multiply and add, not a matmul: those run in reduced precision on some devices.
    """
    n = len(spatial)
    batch, rows, _ = theta.shape
    dtype = _coords.coordinate_dtype(theta.dtype)
    columns = theta.astype(dtype).reshape(batch, *(1,) * n, rows, n + 1)
    out = columns[..., n]
    for column, axis in enumerate(_coords.xyz_order(range(n))):
        centers = _coords.pixel_centers(spatial[axis], align_corners, dtype)
        along = [1] * (n + 2)
        along[1 + axis] = spatial[axis]
        out = out + columns[..., column] * centers.reshape(along)
    return jnp.broadcast_to(out, (batch, *spatial, rows))


@partial(jax.jit, static_argnums=(1, 2))
def _affine_grid(theta: jax.Array, spatial: tuple[Dim, ...], align_corners: bool) -> jax.Array:
    return _apply_matrix(theta, spatial, align_corners)


@partial(jax.jit, static_argnums=(1, 2))
def _homography_grid(theta: jax.Array, spatial: tuple[Dim, ...], align_corners: bool) -> jax.Array:
    points = _apply_matrix(theta, spatial, align_corners)
    info = jnp.finfo(points.dtype)
    x, w = points[..., :-1], points[..., -1:]
    # Well above the smallest float, so that no derivative of x / w overflows; and the
    # guard stands before the division, or its gradient would be NaN behind the horizon.
    visible = w > info.tiny**0.25
    return jnp.where(visible, x / jnp.where(visible, w, 1), -(2.0**100))


@partial(jax.jit, static_argnums=1)
def _flow_grid(flow: jax.Array, align_corners: bool) -> jax.Array:
    flow = flow.astype(_coords.coordinate_dtype(flow.dtype))
    return _coords.normalized_points(_coords.moved_pixels(flow), flow.shape[1:-1], align_corners)
