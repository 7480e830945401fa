"""Boxes of real numbers, for `crop_and_resize` and `paste`.

Boxes are in pixels, and pixel i covers [i, i + 1]: the box (0, 0, W, H) is the whole
image, a box of integers holds whole pixels. Seen from a crop of S pixels along an axis,
the box (b1, b2) begins at its pixel -1/2 and ends at S - 1/2 (centres are at integers)::

    crop    p = b1 + (i + 1/2) (b2 - b1) / S - 1/2      where crop pixel i reads the image
    paste   i = (p + 1/2 - b1) S / (b2 - b1) - 1/2      where image pixel p reads the patch
"""

import jax
import jax.numpy as jnp

from jaxwarp import _coords


def begin_and_extent(boxes: jax.Array, *images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return where boxes begin, and their signed extents, (K, 2) each along (y, x)."""
    floats = [x.dtype for x in (boxes, *images) if jnp.issubdtype(x.dtype, jnp.floating)]
    boxes = boxes.astype(_coords.coordinate_dtype(*floats))
    begin, end = _coords.box_ends(boxes, "xyxy")
    return begin, end - begin


def grid_of_axes(y: jax.Array, x: jax.Array) -> jax.Array:
    """Return the grid (..., P, Q, 2) of positions (..., P) and (..., Q)."""
    shape = (*y.shape, x.shape[-1])
    y, x = jnp.broadcast_to(y[..., None], shape), jnp.broadcast_to(x[..., None, :], shape)
    return jnp.stack(_coords.xyz_order([y, x]), axis=-1)
