"""The arithmetic of affine maps and homographies, all in closed form.

For matrices so small no factorisation is faster, and batches need no loop. Products of
coordinates are multiplied and added, or multiplied in full precision: on some devices a
matmul is rounded to fewer bits.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from jaxwarp import _coords, _small_matrix
from jaxwarp._coords import Dim

# Compose and invert -----------------------------------------------------------


@jax.jit
def compose_affine(outer: jax.Array, inner: jax.Array) -> jax.Array:
    """Compose (N, n, n + 1) matrices: x to outer(inner(x))."""
    dtype = _coords.coordinate_dtype(outer.dtype, inner.dtype)
    outer, inner = outer.astype(dtype), inner.astype(dtype)
    linear = outer[..., :-1]
    product = jnp.matmul(linear, inner, precision=lax.Precision.HIGHEST)
    return product.at[..., -1].add(outer[..., -1])


@jax.jit
def invert_affine(theta: jax.Array) -> jax.Array:
    """Invert (N, n, n + 1) matrices."""
    theta = theta.astype(_coords.coordinate_dtype(theta.dtype))
    linear, shift = theta[..., :-1], theta[..., -1:]
    inverse = _small_matrix.inverse(linear)
    back = jnp.matmul(inverse, -shift, precision=lax.Precision.HIGHEST)
    return jnp.concatenate([inverse, back], axis=-1)


# To theta ---------------------------------------------------------------------


@partial(jax.jit, static_argnums=(1, 2, 3))
def affine_matrix(
    options: dict[str, jax.Array], batch: Dim, spatial: tuple[Dim, ...], align_corners: bool
) -> jax.Array:
    """Invert ``translate @ rotate @ scale @ shear_y @ shear_x`` about the center, by hand."""
    scale = options["scale"]
    sin, cos = _sin_cos(options["angle"])
    tan_x, tan_y = (jnp.tan(jnp.deg2rad(options["shear"][..., i])) for i in (0, 1))
    below = tan_y * cos - sin, tan_y * sin + cos
    above = cos + tan_x * below[0], sin + tan_x * below[1]
    every = [jnp.broadcast_to(entry / scale, (batch,)) for entry in (*above, *below)]
    linear = jnp.stack(every, axis=-1).reshape(batch, 2, 2)
    per_unit, middle = _frame(spatial, align_corners, linear.dtype)
    # The center counts from the corner, half a pixel before the first pixel's centre.
    center, translate = (
        jnp.broadcast_to(x if x.ndim == 2 else x[None], (batch, 2))
        for x in (options.get("center", middle + 0.5), options["translate"])
    )
    offset = center - 0.5 - middle[None]
    moved = offset + translate
    shift = offset - (linear * moved[:, None]).sum(-1)
    theta = jnp.concatenate([linear * per_unit[None, None], shift[..., None]], axis=-1)
    return theta / per_unit[None, :, None]


def _sin_cos(degrees: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Compute the sine and cosine, exactly so at multiples of 90 degrees."""
    quarters = lax.stop_gradient(jnp.round(degrees / 90))
    rest = jnp.deg2rad(degrees - 90 * quarters)
    sin, cos = jnp.sin(rest), jnp.cos(rest)
    odd, back = quarters % 2 == 1, jnp.where(quarters % 4 >= 2, -1, 1).astype(sin.dtype)
    return back * jnp.where(odd, cos, sin), back * jnp.where(odd, -sin, cos)


@partial(jax.jit, static_argnums=(1, 2, 3))
def theta_from_pixels(
    matrix: jax.Array, spatial: tuple[Dim, ...], out: tuple[Dim, ...], align_corners: bool
) -> jax.Array:
    """Normalise a map of pixels, then invert it: by then its entries are of like size."""
    matrix = matrix.astype(_coords.coordinate_dtype(matrix.dtype))
    n = len(spatial)
    per_unit, middle = _frame(spatial, align_corners, matrix.dtype)
    shift = matrix[..., -1] + (matrix[..., :-1] * middle[None, None]).sum(-1)
    rows = jnp.concatenate([matrix[..., :-1] * per_unit[None, None], shift[..., None]], axis=-1)
    is_affine = matrix.shape[1] == n
    last = jnp.eye(n + 1, dtype=rows.dtype)[None, n:] if is_affine else rows[:, n:]
    per_unit, middle = _frame(out, align_corners, matrix.dtype)
    rows = (rows[:, :n] - middle[None, :, None] * last) / per_unit[None, :, None]
    if is_affine:
        return invert_affine(rows)
    return _invert_homography(jnp.concatenate([rows, last], axis=1))


def _frame(
    spatial: Sequence[Dim], align_corners: bool, dtype: DTypeLike
) -> tuple[jax.Array, jax.Array]:
    """Return pixels per normalised unit, and where 0 is, (n,) each, listed (x, y, z)."""
    sizes = _coords.xyz_order(spatial)
    per_unit = [_coords.pixels_per_unit(size, align_corners, dtype) for size in sizes]
    zero = jnp.zeros((), dtype)
    middle = [_coords.to_pixels(zero, size, align_corners) for size in sizes]
    return jnp.stack(per_unit), jnp.stack(middle)


def _invert_homography(matrix: jax.Array) -> jax.Array:
    """Invert (N, n + 1, n + 1), scaled so that the point 0 is mapped to one with a last entry 1."""
    weight = matrix[:, -1:, -1:]
    matrix = matrix / jnp.where(weight == 0, 1, weight)
    adjugate = _adjugate(matrix)
    determinant = (matrix[:, 0] * adjugate[:, :, 0]).sum(-1)
    return adjugate / determinant[:, None, None]


def _adjugate(matrix: jax.Array) -> jax.Array:
    size = matrix.shape[-1]
    minors = [
        (-1) ** (i + j) * _DETERMINANTS[size - 1](jnp.delete(jnp.delete(matrix, j, 1), i, 2))
        for i in range(size)
        for j in range(size)
    ]
    return jnp.stack(minors, axis=-1).reshape(matrix.shape)


_DETERMINANTS = {
    1: lambda m: m[:, 0, 0],
    2: lambda m: m[:, 0, 0] * m[:, 1, 1] - m[:, 0, 1] * m[:, 1, 0],
    3: lambda m: (m[:, 0] * jnp.cross(m[:, 1], m[:, 2])).sum(-1),
}
