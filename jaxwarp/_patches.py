"""Affine transforms of the patches of images that boxes cut out, written back in place."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxwarp import _checks, _coords, _objects, _sampler
from jaxwarp._layout import Layout, layout_of
from jaxwarp._objects import Places
from jaxwarp._sampler import Rule, SampleSpec, checked_rule


def patch_affine(
    img: ArrayLike,
    boxes: ArrayLike,
    theta: ArrayLike,
    obj_to_img: ArrayLike,
    *,
    box_format: str = "xyxy",
    order: str = "sequential",
    max_box: Sequence[int] | None = None,
    valid: ArrayLike | None = None,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = False,
    channel_axis: int = 1,
) -> jax.Array:
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
            "loop" for (y1, x1, y2, x2): rows first, as in ``img[n, :, b[0]:b[2],
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
    channels_last = layout_of(channel_axis).channels_last
    rule = checked_rule(mode, padding_mode, align_corners, normalized=True)
    columns = _COLUMNS[_checks.choice("box_format", box_format, _COLUMNS)]
    layers = _LAYERS[_checks.choice("order", order, _LAYERS)]
    img = _objects.images("img", img, channels_last)
    corners = _objects.integers("boxes", boxes)
    _checks.shape("boxes", corners, "(K, 4)", corners.ndim == 2 and corners.shape[1] == 4)
    count = corners.shape[0]
    theta = _checks.float_array("theta", theta)
    holds = theta.shape in ((count, 6), (count, 2, 3))
    _checks.shape("theta", theta, f"({count}, 6) or ({count}, 2, 3), one for each box", holds)
    obj_to_img, valid = _objects.membership(obj_to_img, valid, img.shape[0], count)
    spatial = _objects.spatial(img, channels_last)
    known = _objects.concrete(corners, valid)
    if known is not None:
        first, last = _ends(known, columns, spatial, np)
        known = np.maximum(last - first, 0)
    bound = _objects.largest_box(max_box, known) or spatial
    plan = _Plan(rule, columns, layers, tuple(map(min, bound, spatial)), channels_last)
    return _patch_affine(img, corners, theta, obj_to_img, valid, plan)


# Which columns of a box are (first y, first x, last y, last x).
_COLUMNS = {"xyxy": (1, 0, 3, 2), "loop": (0, 1, 2, 3)}
# How many batches of images there are: layered, the one that is read stays as it was.
_LAYERS = {"sequential": 1, "layered": 2}


class _Plan(NamedTuple):
    """The static arguments."""

    rule: Rule
    columns: tuple[int, ...]
    layers: int
    window: tuple[Any, ...]
    channels_last: bool


def _ends(boxes: Any, columns: Sequence[int], spatial: Sequence[Any], xp: Any) -> tuple[Any, Any]:
    """Return the first and the last (exclusive) pixel (y, x) of boxes clipped to the image."""
    ends = boxes[:, xp.asarray(columns)]
    limits = xp.asarray([spatial], np.int32)
    return xp.clip(ends[:, :2], 0, limits), xp.clip(ends[:, 2:], 0, limits)


@partial(jax.jit, static_argnums=5)
def _patch_affine(
    img: jax.Array, boxes: jax.Array, theta: jax.Array, obj_to_img: jax.Array, valid: Any, plan: Any
) -> jax.Array:
    if 0 in (img.shape[0], boxes.shape[0]):
        return img
    spatial = _objects.spatial(img, plan.channels_last)
    ends = _ends(boxes, plan.columns, spatial, jnp)
    places = Places.within((img.shape[0], *spatial), obj_to_img, valid, *ends)
    theta = theta.reshape(-1, 2, 3).astype(_coords.coordinate_dtype(img.dtype, theta.dtype))
    draw = partial(_draw, plan=plan)

    def redraw(img: jax.Array, places: Places) -> jax.Array:
        layers = (img,) * plan.layers
        return _objects.redraw(layers, places, (theta,), plan.window, plan.channels_last, draw)

    if plan.window == spatial:
        return redraw(img, places)
    too_large = jnp.any(places.size > jnp.asarray([plan.window], jnp.int32), axis=1)
    # Marked before, too: what is read from an unknown patch is unknown.
    mark = partial(_objects.mark, places=places.only(too_large), channels_last=plan.channels_last)
    return mark(redraw(mark(img), places.only(~too_large)))


def _draw(
    read: jax.Array,
    under: jax.Array,
    corner: jax.Array,
    place: Places,
    theta: jax.Array,
    plan: _Plan,
) -> jax.Array:
    """Warp the patch at ``place`` in a window; what lies around it stays."""
    size = jnp.maximum(place.size, 1)  # without pixels there are no coordinates
    y, x = (
        _coords.to_normalized(
            (i - place.first[a]).astype(theta.dtype), size[a], plan.rule.align_corners
        )
        for a, i in enumerate(_objects.pixels(corner, plan.window))
    )
    grid = jnp.stack([t[0] * x[None] + (t[1] * y + t[2])[:, None] for t in theta], axis=-1)
    spec = SampleSpec.plain(plan.rule, Layout(plan.channels_last), plan.window, read.dtype)
    window = jnp.stack([place.first - corner, size], axis=-1).reshape(1, 1, 1, 2, 2)
    warped = _sampler.pull(read, grid[None], spec, window)
    inside = place.cover(corner, plan.window)[None]
    return jnp.where(jnp.expand_dims(inside, spec.layout.channel_axis), warped, under)
