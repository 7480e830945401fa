"""Sampling grids: affine maps, homographies and flows as functions of the pixel centres.

Every function returns normalised coordinates, listed (x, y, z), with one point
for each output pixel: the map runs from the output to the input.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike
from jaxtyping import Float

from jaxwarp import _checks, _coords, _small_matrix


def affine_grid(
    theta: Float[ArrayLike, "N n m"], size: Sequence[int], align_corners: bool | None = False
) -> Float[Array, "N *out n"]:
    """Generate the sampling grid of a batch of affine maps.

    Args:
        theta: Matrices (N, n, n + 1) for n = 1, 2 or 3 spatial axes. Row i gives the
            i-th *input* coordinate (x, y, z) as an affine function of the *output*
            pixel's coordinates (x, y, z, 1); both are normalised.
        size: The output's size (N, C, *spatial): a tuple, a list or a ``torch.Size``.
        align_corners: Whether -1 and 1 are the outer pixels' centres (True) or their
            outer edges (False, also None).

    Returns:
        Normalised input coordinates (N, *spatial, n), in theta's dtype, but at least
        float32.

    Raises:
        TypeError: theta is not a floating-point array; size is not a sequence of
            integers; align_corners is not a bool.
        ValueError: theta's shape does not fit size; size has no 3, 4 or 5 entries or
            one that is not positive.

    Equals ``torch.nn.functional.affine_grid``, which has no one-axis form, and which warns
    where an axis has one pixel and align_corners is True: that pixel's centre is 0 in both.

    Example:
        >>> import jax.numpy as jnp
        >>> identity = jnp.array([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
        >>> affine_grid(identity, (1, 3, 2, 2))[0, :, :, 0]
        Array([[-0.5,  0.5],
               [-0.5,  0.5]], dtype=float32)
    """
    theta, size, align_corners = _matrix_grid_arguments(theta, size, align_corners, homogeneous=0)
    return _affine_grid(theta, size[2:], align_corners)


def homography_grid(
    theta: Float[ArrayLike, "N m m"], size: Sequence[int], align_corners: bool | None = False
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
        size: The output's size (N, C, *spatial).
        align_corners: As in `affine_grid`.

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
    theta, size, align_corners = _matrix_grid_arguments(theta, size, align_corners, homogeneous=1)
    return _homography_grid(theta, size[2:], align_corners)


def flow_grid(
    flow: Float[ArrayLike, "N *out n"], align_corners: bool | None = False
) -> Float[Array, "N *out n"]:
    """Turn a backward flow in pixels into a sampling grid.

    The output pixel at position p reads the input at p + flow(p) (backward warping).

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
    flow = _checks.float_array("flow", flow)
    align_corners = _checks.flag("align_corners", align_corners)
    axes = flow.ndim - 2
    holds = axes in (1, 2, 3) and flow.shape[-1] == axes and 0 not in flow.shape[1:-1]
    _checks.shape("flow", flow, "(N, *spatial, n) with n = 1, 2 or 3 non-empty spatial axes", holds)
    return _flow_grid(flow, align_corners)


def compose_affine(
    outer: Float[ArrayLike, "N n m"], inner: Float[ArrayLike, "N n m"]
) -> Float[Array, "N n m"]:
    """Compose two batches of affine maps: the result maps x to outer(inner(x)).

    As maps from output to input, warping with the result equals warping first by
    ``outer`` and then warping that picture by ``inner``.

    Args:
        outer: Matrices (N, n, n + 1).
        inner: Matrices (N, n, n + 1).

    Returns:
        Matrices (N, n, n + 1), in the operands' common dtype, but at least float32.

    Raises:
        TypeError: An operand is not a floating-point array.
        ValueError: The shapes differ or are not (N, n, n + 1).

    Example:
        >>> import jax.numpy as jnp
        >>> shift = jnp.array([[[1.0, 2.0]]])
        >>> double = jnp.array([[[2.0, 0.0]]])
        >>> compose_affine(double, shift)
        Array([[[2., 4.]]], dtype=float32)
    """
    outer, inner = _affine("outer", outer), _affine("inner", inner)
    _checks.shape("inner", inner, f"the shape of outer, {outer.shape}", inner.shape == outer.shape)
    return _compose_affine(outer, inner)


def invert_affine(theta: Float[ArrayLike, "N n m"]) -> Float[Array, "N n m"]:
    """Invert a batch of affine maps.

    Args:
        theta: Matrices (N, n, n + 1).

    Returns:
        Matrices (N, n, n + 1), in theta's dtype, but at least float32. A singular map
        gives NaN or infinite entries in its own batch element only.

    Raises:
        TypeError: theta is not a floating-point array.
        ValueError: theta is not (N, n, n + 1).

    Example:
        >>> import jax.numpy as jnp
        >>> invert_affine(jnp.array([[[2.0, 4.0]]]))
        Array([[[ 0.5, -2. ]]], dtype=float32)
    """
    return _invert_affine(_affine("theta", theta))


# Checks ----------------------------------------------------------------------


def _matrix_grid_arguments(
    theta: Any, size: Any, align_corners: Any, homogeneous: int
) -> tuple[jax.Array, tuple[Any, ...], bool]:
    theta = _checks.float_array("theta", theta)
    size = _checks.output_size("size", size)
    n = len(size) - 2
    rows = n + homogeneous
    holds = theta.ndim == 3 and theta.shape[1:] == (rows, n + 1)
    rule = f"(N, {rows}, {n + 1}) for a size with {n} spatial axes"
    _checks.shape("theta", theta, rule, holds)
    rule = f"of batch size {size[0]}, as size says"
    _checks.shape("theta", theta, rule, theta.shape[0] == size[0])
    return theta, size, _checks.flag("align_corners", align_corners)


def _affine(name: str, theta: Any) -> jax.Array:
    theta = _checks.float_array(name, theta)
    holds = theta.ndim == 3 and theta.shape[2] == theta.shape[1] + 1
    _checks.shape(name, theta, "(N, n, n + 1)", holds)
    return theta


# Formulas --------------------------------------------------------------------


def _apply_matrix(theta: jax.Array, spatial: tuple[Any, ...], align_corners: bool) -> jax.Array:
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
def _affine_grid(theta: jax.Array, spatial: tuple[Any, ...], align_corners: bool) -> jax.Array:
    return _apply_matrix(theta, spatial, align_corners)


@partial(jax.jit, static_argnums=(1, 2))
def _homography_grid(theta: jax.Array, spatial: tuple[Any, ...], align_corners: bool) -> jax.Array:
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
    spatial = flow.shape[1:-1]
    sizes = _coords.xyz_order(spatial)
    coordinates = []
    for i, size in enumerate(sizes):
        axis = 1 + len(sizes) - 1 - i
        index = lax.broadcasted_iota(jnp.int32, flow.shape[:-1], axis).astype(flow.dtype)
        coordinates.append(_coords.to_normalized(index + flow[..., i], size, align_corners))
    return jnp.stack(coordinates, axis=-1)


@jax.jit
def _compose_affine(outer: jax.Array, inner: jax.Array) -> jax.Array:
    dtype = _coords.coordinate_dtype(outer.dtype, inner.dtype)
    outer, inner = outer.astype(dtype), inner.astype(dtype)
    linear = outer[..., :-1]
    product = jnp.matmul(linear, inner, precision=lax.Precision.HIGHEST)
    return product.at[..., -1].add(outer[..., -1])


@jax.jit
def _invert_affine(theta: jax.Array) -> jax.Array:
    theta = theta.astype(_coords.coordinate_dtype(theta.dtype))
    linear, shift = theta[..., :-1], theta[..., -1:]
    inverse = _small_matrix.inverse(linear)
    back = jnp.matmul(inverse, -shift, precision=lax.Precision.HIGHEST)
    return jnp.concatenate([inverse, back], axis=-1)
