"""Boxes of real numbers, for `crop_and_resize` and `paste`.

Boxes are in pixels, and pixel i covers [i, i + 1]: the box (0, 0, W, H) is the whole
image, a box of integers holds whole pixels. Seen from a crop of S pixels along an axis,
the box (b1, b2) begins at its pixel -1/2 and ends at S - 1/2 (centres are at integers)::

    crop    p = b1 + (i + 1/2) (b2 - b1) / S - 1/2      where crop pixel i reads the image
    paste   i = (p + 1/2 - b1) S / (b2 - b1) - 1/2      where image pixel p reads the patch
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxwarp import _checks, _coords


def real_boxes(boxes: Any) -> jax.Array:
    """Return checked boxes (K, 4)."""
    boxes = _checks.numeric_array("boxes", boxes)
    real = jnp.issubdtype(boxes.dtype, jnp.floating) or jnp.issubdtype(boxes.dtype, jnp.integer)
    if not real:
        raise TypeError(f"boxes must have a floating-point or integer dtype, got {boxes.dtype}")
    _checks.shape("boxes", boxes, "(K, 4)", boxes.ndim == 2 and boxes.shape[1] == 4)
    return boxes


def edges(boxes: jax.Array, *images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return where boxes begin, and their signed extents, (K, 2) each along (y, x)."""
    floats = [x.dtype for x in (boxes, *images) if jnp.issubdtype(x.dtype, jnp.floating)]
    boxes = boxes.astype(_coords.coordinate_dtype(*floats))
    begin = boxes[:, 1::-1]
    return begin, boxes[:, 3:1:-1] - begin


def grid_of(y: jax.Array, x: jax.Array) -> jax.Array:
    """Return the grid (..., P, Q, 2) of positions (..., P) and (..., Q)."""
    shape = (*y.shape, x.shape[-1])
    y, x = jnp.broadcast_to(y[..., None], shape), jnp.broadcast_to(x[..., None, :], shape)
    return jnp.stack([x, y], axis=-1)
