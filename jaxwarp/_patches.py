"""Objects in images: warp the patches in boxes, cut boxes out, paste patches into boxes.

What they compute is in `_objects`.
"""

from collections.abc import Sequence

from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Integer, Real

from jaxwarp import _checks, _coords
from jaxwarp._layout import layout_of
from jaxwarp._objects import arguments, warp
from jaxwarp._objects import paste as pasting
from jaxwarp._objects.crop import CropPlan, read_boxes
from jaxwarp._sampler import PaddingMode, checked_rule


def patch_affine(
    img: Float[ArrayLike, " N *axes"],
    boxes: Integer[ArrayLike, "K 4"],
    theta: Float[ArrayLike, "K 2 3"] | Float[ArrayLike, "K 6"],
    obj_to_img: Integer[ArrayLike, " K"],
    *,
    box_format: str = "xyxy",
    order: str = "sequential",
    max_box: Sequence[int] | None = None,
    valid: Bool[ArrayLike, " K"] | None = None,
    mode: str = "bilinear",
    padding_mode: PaddingMode = "zeros",
    align_corners: bool | None = False,
    channel_axis: int = 1,
) -> Float[Array, " N *axes"]:
    """Transform the patch of an image in each box by an affine map, and write it back.

    What this loop does, differentiable, and without a loop in Python or a program for
    each shape of box::

        for k in range(K):
            patch = img[obj_to_img[k], :, y1:y2, x1:x2]        # of boxes[k]
            grid = affine_grid(theta[k], patch.shape)
            img[obj_to_img[k], :, y1:y2, x1:x2] = grid_sample(patch, grid)

    Each patch is an image of its own: theta is in its coordinates, and what a map reads
    outside the patch is padding, not what surrounds the patch in the image.

    Args:
        img: Images (N, C, H, W), or (N, H, W, C) with ``channel_axis=-1``.
        boxes: Integers (K, 4), half-open ranges of pixels, clipped to the image. An empty
            or reversed box does nothing.
        theta: Matrices (K, 2, 3), or (K, 6) row by row. They give the *input* point
            (x, y) of each *output* point (x, y, 1); in both, -1 and 1 are the ends of
            the (clipped) box.
        obj_to_img: Integers (K,), which image each object belongs to.
        box_format: "xyxy" for (x1, y1, x2, y2), where x is a column and y a row, or
            "yxyx" for (y1, x1, y2, x2): rows first, as in ``img[n, :, b[0]:b[2],
            b[1]:b[3]]``.
        order: "sequential": an object sees what earlier ones have written; or "layered":
            every object reads the original image. Where boxes overlap, the last wins.
        max_box: The largest (height, width) of a box: two static integers. Time and
            memory grow with K times that. None means as large as the image, or, where
            the boxes are concrete, as large as they are.
        valid: Booleans (K,); an object that is not valid does nothing. With it a varying
            number of objects needs one program only.
        mode: As in `grid_sample`.
        padding_mode: As in `grid_sample`.
        align_corners: As in `grid_sample`.
        channel_axis: 1 for torch's layout, the default of all functions; -1 for Flax's,
            that of all modules.

    Returns:
        The images, of img's shape and dtype. Coordinates, weights and sums are at least
        float32. Reverse mode keeps what was in each object's window, K * C * max_box
        values.

        Under a trace, where values cannot raise: an object whose ``obj_to_img`` is out of
        range does nothing; a box larger than ``max_box`` is NaN throughout, and so is
        what other objects read from it.

    Raises:
        TypeError: img or theta is not a floating-point array; boxes or obj_to_img are
            not integers; valid is not boolean; max_box is not two integers.
        ValueError: Shapes that do not fit, unknown modes, formats or orders; concrete
            indices out of range; concrete boxes larger than max_box. Objects that are
            known not to be valid are not looked at.

    Torch has only the loop. Its autograd takes it if each patch is read through
    ``.clone()``; without that it refuses, since the patch is then written over.

    Example:
        >>> import jax.numpy as jnp
        >>> img = jnp.arange(16.0).reshape(1, 1, 4, 4)
        >>> boxes = jnp.array([[0, 0, 2, 2], [2, 1, 4, 4]])
        >>> mirror = jnp.array([[-1.0, 0, 0, 0, 1, 0]])
        >>> patch_affine(img, boxes, jnp.tile(mirror, (2, 1)), jnp.array([0, 0]))[0, 0]
        Array([[ 1.,  0.,  2.,  3.],
               [ 5.,  4.,  7.,  6.],
               [ 8.,  9., 11., 10.],
               [12., 13., 15., 14.]], dtype=float32)
    """
    layout = layout_of(channel_axis)
    rule = checked_rule(mode, padding_mode, align_corners, normalized=True)
    box_format = _checks.choice("box_format", box_format, _coords.BOX_FORMATS)
    order = _checks.choice("order", order, warp.LAYERS)
    img = _checks.images("img", img, layout, 2, "H, W")
    boxes = arguments.integer_boxes(boxes)
    theta = arguments.box_matrices(theta, boxes.shape[0])
    obj_to_img, valid = arguments.membership(obj_to_img, valid, img.shape[0], boxes.shape[0])
    spatial, known = layout.spatial(img.shape), arguments.concrete(boxes, valid)
    sizes = None if known is None else warp.box_sizes(known, box_format, spatial)
    bound = arguments.largest_box(max_box, sizes) or spatial
    window = tuple(map(min, bound, spatial))
    plan = warp.WarpPlan(rule, layout, box_format, order, window)
    return warp.warp_boxes(img, boxes, theta, obj_to_img, valid, plan)


def crop_and_resize(
    img: Float[ArrayLike, " N *axes"],
    boxes: Real[ArrayLike, "K 4"],
    obj_to_img: Integer[ArrayLike, " K"],
    size: Sequence[int],
    *,
    valid: Bool[ArrayLike, " K"] | None = None,
    mode: str = "bilinear",
    padding_mode: PaddingMode = "zeros",
    channel_axis: int = 1,
) -> Float[Array, "K _ _ _"]:
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
    layout = layout_of(channel_axis)
    rule = checked_rule(mode, padding_mode, False, normalized=False)
    img = _checks.images("img", img, layout, 2, "H, W")
    boxes = arguments.real_boxes(boxes)
    obj_to_img, valid = arguments.membership(obj_to_img, valid, img.shape[0], boxes.shape[0])
    size = _checks.output_size("size", size, (2,), "(height, width)")
    _checks.pixel_count("img", (img.shape[0], *layout.spatial(img.shape)), "in all images")
    return read_boxes(img, boxes, obj_to_img, valid, CropPlan(rule, layout, size))


def paste(
    canvas: Float[ArrayLike, " N *axes"],
    patches: Float[ArrayLike, " K *patch_axes"],
    boxes: Real[ArrayLike, "K 4"],
    obj_to_img: Integer[ArrayLike, " K"],
    *,
    max_box: Sequence[int] | None = None,
    valid: Bool[ArrayLike, " K"] | None = None,
    mode: str = "bilinear",
    channel_axis: int = 1,
) -> Float[Array, " N *axes"]:
    """Resize a patch to a box for each object, and paste them one after the other.

    A patch covers the canvas, but at its rim it blends in: its outer half pixels lie
    between the patch and what is around it, half of each on the box's edge. So the result
    is continuous in the boxes, and its gradient sees the edges. With boxes of the patch's
    own size at integers, and with "nearest", there is no rim.

    Args:
        canvas: Images (N, C, H, W), or (N, H, W, C) with ``channel_axis=-1``.
        patches: Patches (K, C, h, w), or (K, h, w, C) with ``channel_axis=-1``.
        boxes: Floats or integers (K, 4): (x1, y1, x2, y2) in pixels of the canvas, with
            pixel i covering [i, i + 1]. x2 < x1 flips the patch; a box without extent, or
            with NaN or infinite entries, does nothing. Boxes may reach over the canvas.
        obj_to_img: Integers (K,), which image each object belongs to.
        max_box: The largest (height, width) of a box: two static integers. Time and
            memory grow with K times that. None means no bound, with the work of a whole
            image per object, unless the boxes are concrete.
        valid: Booleans (K,); an object that is not valid does nothing.
        mode: As in `grid_sample`.
        channel_axis: 1 for torch's layout, the default of all functions; -1 for Flax's,
            that of all modules.

    Returns:
        The images, of canvas's shape and dtype. Differentiable in canvas, patches and
        boxes. Reverse mode keeps what was in each object's window.

        Under a trace, where values cannot raise: an object whose ``obj_to_img`` is out of
        range does nothing; a box larger than ``max_box`` is NaN throughout.

    Raises:
        TypeError: canvas or patches are not floating-point arrays; boxes are not real
            numbers; obj_to_img are not integers; valid is not boolean; max_box is not
            two integers.
        ValueError: Shapes that do not fit; an unknown mode; concrete indices out of
            range; concrete boxes larger than max_box. Objects that are known not to be
            valid are not looked at.

    With its own black image for each mask this is detectron2's ``paste_masks_in_image``,
    before the threshold: torch's ``grid_sample`` of the patch under the inverse of the
    map in `crop_and_resize`. The alpha there is the same of a patch of ones.

    Example:
        >>> import jax.numpy as jnp
        >>> canvas, patch = jnp.zeros((1, 1, 2, 4)), jnp.array([[[[1.0, 2.0]]]])
        >>> boxes = jnp.array([[2.0, 0.0, 0.0, 1.0], [2.5, 1.0, 4.5, 2.0]])
        >>> paste(canvas, jnp.tile(patch, (2, 1, 1, 1)), boxes, jnp.array([0, 0]))[0, 0]
        Array([[2. , 1. , 0. , 0. ],
               [0. , 0. , 0.5, 1.5]], dtype=float32)
    """
    layout = layout_of(channel_axis)
    rule = checked_rule(mode, "zeros", False, normalized=False)
    canvas = _checks.images("canvas", canvas, layout, 2, "H, W")
    boxes = arguments.real_boxes(boxes)
    patches = arguments.patches_for(boxes, canvas, patches, layout)
    obj_to_img, valid = arguments.membership(obj_to_img, valid, canvas.shape[0], boxes.shape[0])
    known = arguments.concrete(boxes, valid)
    sizes = None if known is None else pasting.box_sizes(known)
    plan = pasting.PastePlan(rule, layout, arguments.largest_box(max_box, sizes))
    return pasting.blend_patches(canvas, patches, boxes, obj_to_img, valid, plan)
