"""Crop boxes out of images, differentiable in images and boxes."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxwarp import _boxes, _checks, _objects, _sampler
from jaxwarp._layout import Layout, layout_of
from jaxwarp._sampler import Rule, SampleSpec, checked_rule


def crop_and_resize(
    img: ArrayLike,
    boxes: ArrayLike,
    obj_to_img: ArrayLike,
    size: Sequence[int],
    *,
    valid: ArrayLike | None = None,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    channel_axis: int = 1,
) -> jax.Array:
    """Crop a box out of an image for each object, and resize the crops to one size.

    Every pixel of a crop is one sample of the image at its centre: a box much larger
    than ``size`` is not smoothed. Crop to a multiple of the size and average for that.

    Args:
        img: Images (N, C, H, W), or (N, H, W, C) with ``channel_axis=-1``.
        boxes: Floats or integers (K, 4): (x1, y1, x2, y2) in pixels of the image, with
            pixel i covering [i, i + 1]. x2 < x1 flips the crop; x2 = x1 reads the same
            column throughout. Boxes may reach over the image.
        obj_to_img: Integers (K,), which image each object belongs to.
        size: Height and width of the crops.
        valid: Booleans (K,); the crop of an object that is not valid is zero.
        mode: As in `grid_sample`.
        padding_mode: What lies outside the image (not the box), as in `remap`.
        channel_axis: 1 for torch's layout, the default of all functions; -1 for Flax's,
            that of all modules.

    Returns:
        The crops (K, C, *size), or (K, *size, C) with ``channel_axis=-1``, in img's dtype.
        Differentiable in img and boxes. Under a trace the crop of an object whose
        ``obj_to_img`` is out of range is zero.

    Raises:
        TypeError: img is not a floating-point array; boxes are not real numbers;
            obj_to_img are not integers; valid is not boolean; size is not two integers.
        ValueError: Shapes that do not fit, an unknown mode or padding_mode; concrete
            indices out of range, unless known not to be valid; together the images
            have 2**31 pixels or more.

    For torch the same is ``grid_sample(img[obj_to_img], affine_grid(t, (K, C, *size)))``
    where t has the rows ((x2 - x1) / W, 0, (x1 + x2) / W - 1) and
    (0, (y2 - y1) / H, (y1 + y2) / H - 1). As far as boxes keep half a pixel away from the
    image's edges it is also

    - ``torchvision.ops.roi_align(img, boxes, size, sampling_ratio=1, aligned=True)``; for
      ``sampling_ratio=s`` crop to s times the size, and average s by s pixels;
    - ``tf.image.crop_and_resize`` with boxes (y1, x1, y2, x2) in units of (H - 1, W - 1)
      from first to last *centre*: with s = (x2 - x1) (W - 1) / (width - 1), its x1 and x2
      are our x1 (W - 1) + (1 - s) / 2 and that plus s width.

    Example:
        >>> import jax.numpy as jnp
        >>> img = jnp.arange(16.0).reshape(1, 1, 4, 4)
        >>> boxes = jnp.array([[1.0, 0.0, 3.0, 2.0], [4.0, 0.0, 0.0, 4.0]])
        >>> crop_and_resize(img, boxes, jnp.array([0, 0]), (2, 2))[:, 0]
        Array([[[ 1. ,  2. ],
                [ 5. ,  6. ]],
               [[ 4.5,  2.5],
                [12.5, 10.5]]], dtype=float32)
    """
    channels_last = layout_of(channel_axis).channels_last
    rule = checked_rule(mode, padding_mode, False, normalized=False)
    img = _objects.images("img", img, channels_last)
    boxes = _boxes.real_boxes(boxes)
    obj_to_img, valid = _objects.membership(obj_to_img, valid, img.shape[0], boxes.shape[0])
    size = _checks.output_size("size", size, (2,), "(height, width)")
    total = math.prod((img.shape[0], *_objects.spatial(img, channels_last)))
    if isinstance(total, int) and total >= 2**31:
        raise ValueError(f"img must hold fewer than 2**31 pixels, got shape {img.shape}")
    return _crop(img, boxes, obj_to_img, valid, size, rule, channels_last)


@partial(jax.jit, static_argnums=(4, 5, 6))
def _crop(
    img: jax.Array,
    boxes: jax.Array,
    obj_to_img: jax.Array,
    valid: Any,
    size: tuple[Any, ...],
    rule: Rule,
    channels_last: bool,
) -> jax.Array:
    batch, (height, width) = img.shape[0], _objects.spatial(img, channels_last)
    channels = img.shape[-1 if channels_last else 1]
    if batch == 0:
        layout = (*size, channels) if channels_last else (channels, *size)
        return jnp.zeros((boxes.shape[0], *layout), img.dtype)
    begin, extent = _boxes.edges(boxes, img)
    y, x = (
        begin[:, a, None] + (jnp.arange(n, dtype=begin.dtype) + 0.5)[None] * step - 0.5
        for a, n in enumerate(size)
        for step in [extent[:, a, None] / n]
    )
    # One image with the batch's images below each other, each crop with a window of its
    # own: no copy of an image for each object, and all crops are one sampling.
    stacked = img if channels_last else jnp.moveaxis(img, 0, 1)
    rows = batch * height
    shape = (1, rows, width, channels) if channels_last else (1, channels, rows, width)
    acts = (obj_to_img >= 0) & (obj_to_img < batch)
    acts = acts if valid is None else acts & valid
    above = jnp.clip(obj_to_img, 0, batch - 1) * height
    first = jnp.stack([above, jnp.zeros_like(above)], axis=-1)
    window = jnp.stack(
        [first, jnp.broadcast_to(jnp.asarray([[height, width]], jnp.int32), first.shape)], -1
    )
    spec = SampleSpec.plain(rule, Layout(channels_last), (rows, width), img.dtype)
    crops = _sampler.pull(
        stacked.reshape(shape), _boxes.grid_of(y, x)[None], spec, window[None, :, None, None]
    )[0]
    crops = crops if channels_last else jnp.moveaxis(crops, 1, 0)
    return jnp.where(acts[:, None, None, None], crops, 0)
