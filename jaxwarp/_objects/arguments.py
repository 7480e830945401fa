"""Checks of what says where objects are: boxes, their images, which are valid, how large."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxwarp import _checks
from jaxwarp._coords import Dim
from jaxwarp._layout import Layout


def integers(name: str, x: ArrayLike) -> jax.Array | np.ndarray:
    """Return an array of integers as int32; what does not fit becomes the nearest that does."""
    is_numpy = isinstance(x, np.ndarray | np.generic)
    array = np.asarray(x) if is_numpy else _checks.numeric_array(name, x)
    if not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"{name} must have an integer dtype, got {array.dtype}")
    if array.dtype == np.int32:
        return array
    own, limits = np.iinfo(array.dtype.name), np.iinfo(np.int32)
    low, high = max(own.min, limits.min), min(own.max, limits.max)
    return (np if is_numpy else jnp).clip(array, low, high).astype(np.int32)


def integer_boxes(boxes: ArrayLike) -> jax.Array | np.ndarray:
    """Return checked boxes (K, 4) of whole pixels."""
    boxes = integers("boxes", boxes)
    _checks.shape("boxes", boxes, "(K, 4)", boxes.ndim == 2 and boxes.shape[1] == 4)
    return boxes


def real_boxes(boxes: ArrayLike) -> jax.Array:
    """Return checked boxes (K, 4) of real numbers."""
    boxes = _checks.numeric_array("boxes", boxes)
    real = jnp.issubdtype(boxes.dtype, jnp.floating) or jnp.issubdtype(boxes.dtype, jnp.integer)
    if not real:
        raise TypeError(f"boxes must have a floating-point or integer dtype, got {boxes.dtype}")
    _checks.shape("boxes", boxes, "(K, 4)", boxes.ndim == 2 and boxes.shape[1] == 4)
    return boxes


def box_matrices(theta: ArrayLike, count: Dim) -> jax.Array:
    """Return checked affine maps, (K, 2, 3) or row by row (K, 6), for ``count`` boxes."""
    theta = _checks.float_array("theta", theta)
    holds = theta.shape in ((count, 6), (count, 2, 3))
    _checks.shape("theta", theta, f"({count}, 6) or ({count}, 2, 3), one for each box", holds)
    return theta


def patches_for(
    boxes: jax.Array, canvas: jax.Array, patches: ArrayLike, layout: Layout
) -> jax.Array:
    """Return checked patches (K, C, h, w) or (K, h, w, C) for boxes of a canvas."""
    patches = _checks.images("patches", patches, layout, 2, "H, W")
    count, channels = boxes.shape[0], layout.channels(canvas.shape)
    holds = (patches.shape[0], layout.channels(patches.shape)) == (count, channels)
    wanted = f"{count} patches, one for each box, with {channels} channels"
    _checks.shape("patches", patches, wanted, holds)
    return patches


def membership(
    obj_to_img: ArrayLike, valid: ArrayLike | None, batch: Dim, count: Dim
) -> tuple[jax.Array | np.ndarray, jax.Array | None]:
    """Return ``obj_to_img`` and ``valid`` for ``count`` objects, checked where concrete."""
    obj_to_img = integers("obj_to_img", obj_to_img)
    rule = f"({count},), one for each box"
    _checks.shape("obj_to_img", obj_to_img, rule, obj_to_img.shape == (count,))
    if valid is not None:
        valid = _checks.numeric_array("valid", valid)
        if valid.dtype != jnp.bool_:
            raise TypeError(f"valid must have dtype bool, got {valid.dtype}")
        _checks.shape("valid", valid, rule, valid.shape == (count,))
    index = concrete(obj_to_img, valid)
    if index is not None and isinstance(batch, int):
        for wrong in index[(index < 0) | (index >= batch)][:1]:
            raise ValueError(f"obj_to_img must index {batch} images, in [0, {batch}), got {wrong}")
    return obj_to_img, valid


def concrete(x: jax.Array | np.ndarray, valid: jax.Array | None) -> np.ndarray | None:
    """Return the elements of ``x`` that are valid, or None if they are not known yet."""
    for array in (x, valid):
        if isinstance(array, Tracer):
            return None
        if isinstance(array, jax.Array) and not array.is_fully_addressable:
            return None
    return np.asarray(x) if valid is None else np.asarray(x)[np.asarray(valid)]


def largest_box(max_box: Sequence[int] | None, sizes: np.ndarray | None) -> tuple[Dim, ...] | None:
    """Return a bound on the boxes' heights and widths, or None if none is known.

    Args:
        max_box: The argument, to be checked.
        sizes: The boxes' (height, width), or None if they are not known yet.
    """
    if max_box is None:
        return None if sizes is None else _power_of_two(sizes)
    height, width = _checks.output_size("max_box", max_box, (2,), "(height, width)")
    if sizes is not None:
        for wrong in sizes[(sizes > np.asarray([height, width])).any(-1)][:1]:
            raise ValueError(
                f"max_box must be at least the largest box's (height, width),"
                f" got {(height, width)} for a box of {tuple(wrong.tolist())}"
            )
    return height, width


def _power_of_two(sizes: np.ndarray) -> tuple[int, int]:
    """Bound known boxes, which need no window as large as the image. Few bounds: few programs."""
    longest = sizes.max(initial=1, where=np.isfinite(sizes))
    power = 1 << int(min(np.ceil(longest), 2**30) - 1).bit_length()
    return power, power
