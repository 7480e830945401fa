"""Where pixels are: normalised coordinates, pixel positions, axis order.

Everything that jaxwarp knows about coordinates stands here.

A pixel is a unit interval. Along an axis of ``S`` pixels, pixel ``i`` covers
``[i - 1/2, i + 1/2]`` and its centre is at position ``i``. Normalised
coordinates place -1 and 1 in one of two ways::

    align_corners=False   -1 and 1 are the outer edges    p = ((g + 1) * S - 1) / 2
    align_corners=True    -1 and 1 are the outer centres  p = (g + 1) / 2 * (S - 1)

Arrays are indexed ``[..., z, y, x]`` but coordinates are listed ``(x, y, z)``:
the last axis of an array is the *first* coordinate of a point, as in torch.
Only this module turns one order into the other.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike, DTypeLike

# A size along one axis: an int or, in a function that is exported for any size, a symbolic
# dimension, which adds, multiplies and compares like one, and whose class JAX does not publish.
Dim: TypeAlias = int | Any

_T = TypeVar("_T")
_A = TypeVar("_A", jax.Array, np.ndarray)


def xyz_order(per_axis: Sequence[_T]) -> tuple[_T, ...]:
    """Reorder per-axis values between array order (..., y, x) and point order (x, y, ...)."""
    return tuple(per_axis)[::-1]


# In which direction the ends of a box are read for their (y, x).
BOX_FORMATS = {"xyxy": -1, "yxyx": 1}


def box_ends(boxes: _A, box_format: str) -> tuple[_A, _A]:
    """Return where boxes (..., 4) begin and where they end, (..., 2) each, in array order."""
    # Slices, for they have slices as transposes; picked columns would be scattered.
    ends = boxes.reshape(*boxes.shape[:-1], 2, 2)[..., :: BOX_FORMATS[box_format]]
    return ends[..., 0, :], ends[..., 1, :]


def coordinate_dtype(*dtypes: DTypeLike) -> np.dtype:
    """Return the dtype that coordinates, weights and sums use: at least float32."""
    candidates = [jnp.dtype(d) for d in (jnp.float32, *dtypes)]
    return max(candidates, key=lambda dtype: jnp.finfo(dtype).bits)


def to_pixels(g: jax.Array, size: ArrayLike, align_corners: bool) -> jax.Array:
    """Map normalised coordinates to pixel positions along one axis of ``size`` pixels.

    ``size`` may be an int, a symbolic dimension or a traced array.
    """
    extent = jnp.asarray(size, g.dtype)
    if align_corners:
        return (g + 1) * ((extent - 1) / 2)
    return (g + 1) * (extent / 2) - 0.5


def to_normalized(p: jax.Array, size: ArrayLike, align_corners: bool) -> jax.Array:
    """Map pixel positions to normalised coordinates along one axis; inverse of `to_pixels`.

    With ``align_corners=True`` an axis of one pixel has no scale: everything maps
    to 0, which is where torch puts its only pixel.
    """
    extent = jnp.asarray(size, p.dtype)
    if align_corners:
        last = extent - 1
        return jnp.where(last > 0, (2 * p - last) / jnp.maximum(last, 1), 0)
    return (2 * p + 1 - extent) / extent


def pixels_per_unit(size: ArrayLike, align_corners: bool, dtype: DTypeLike) -> jax.Array:
    """Return how many pixels a step of 1 in the normalised coordinate is along one axis.

    An axis of one pixel with ``align_corners=True`` has no scale. There every coordinate is
    at the pixel, so that any scale will do; half a pixel is one that can be divided by.
    """
    extent = jnp.asarray(size, dtype)
    return jnp.maximum(extent - 1, 1) / 2 if align_corners else extent / 2


def pixel_centers(size: Dim, align_corners: bool, dtype: DTypeLike) -> jax.Array:
    """Return the normalised coordinates of the ``size`` pixel centres of one axis, (size,)."""
    return to_normalized(jnp.arange(size, dtype=dtype), size, align_corners)


# Outside of jit every operation would be compiled for itself.
@partial(jax.jit, static_argnums=(0, 1, 2), inline=True)
def identity_grid(spatial: tuple[Dim, ...], align_corners: bool, dtype: DTypeLike) -> jax.Array:
    """Return the normalised coordinates of every pixel centre, (*spatial, n), listed (x, y, z)."""
    centers = [pixel_centers(size, align_corners, dtype) for size in spatial]
    return jnp.stack(xyz_order(jnp.meshgrid(*centers, indexing="ij")), axis=-1)


def normalized_points(p: jax.Array, spatial: Sequence[Dim], align_corners: bool) -> jax.Array:
    """Map pixel positions (..., n), listed (x, y, z), to normalised coordinates."""
    sizes = xyz_order(spatial)
    axes = [to_normalized(p[..., i], size, align_corners) for i, size in enumerate(sizes)]
    return jnp.stack(axes, axis=-1)


def moved_pixels(flow: jax.Array) -> jax.Array:
    """Return where a flow (N, *spatial, n) in pixels leads from every pixel's own position."""
    axes = xyz_order(range(1, flow.ndim - 1))
    shape = flow.shape[:-1]
    own = [lax.broadcasted_iota(flow.dtype, shape, axis) for axis in axes]
    return jnp.stack([x + flow[..., i] for i, x in enumerate(own)], axis=-1)
