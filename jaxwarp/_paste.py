"""Paste patches into boxes of images, differentiable in images, patches and boxes."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from jaxwarp import _boxes, _checks, _objects, _sampler
from jaxwarp._layout import Layout, layout_of
from jaxwarp._objects import Places
from jaxwarp._sampler import Rule, SampleSpec, checked_rule


def paste(
    canvas: ArrayLike,
    patches: ArrayLike,
    boxes: ArrayLike,
    obj_to_img: ArrayLike,
    *,
    max_box: Sequence[int] | None = None,
    valid: ArrayLike | None = None,
    mode: str = "bilinear",
    channel_axis: int = 1,
) -> jax.Array:
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
    channels_last = layout_of(channel_axis).channels_last
    rule = checked_rule(mode, "zeros", False, normalized=False)
    canvas = _objects.images("canvas", canvas, channels_last)
    patches = _objects.images("patches", patches, channels_last)
    boxes = _boxes.real_boxes(boxes)
    axis, count = (-1 if channels_last else 1), boxes.shape[0]
    holds = (patches.shape[0], patches.shape[axis]) == (count, canvas.shape[axis])
    wanted = f"{count} patches, one for each box, with {canvas.shape[axis]} channels"
    _checks.shape("patches", patches, wanted, holds)
    obj_to_img, valid = _objects.membership(obj_to_img, valid, canvas.shape[0], count)
    known = _objects.concrete(boxes, valid)
    if known is not None:
        known = np.abs(known[:, 3:1:-1].astype(np.float64) - known[:, 1::-1])
    bound = _objects.largest_box(max_box, known)
    plan = _Plan(rule, bound, channels_last)
    return _paste(canvas, patches, boxes, obj_to_img, valid, plan)


# How far beyond its edge a patch still contributes, in pixels of the patch.
_REACH = {"nearest": 0.0, "bilinear": 0.5, "bicubic": 1.5}


class _Plan(NamedTuple):
    """The static arguments."""

    rule: Rule
    bound: tuple[Any, Any] | None
    channels_last: bool


@partial(jax.jit, static_argnums=5)
def _paste(
    canvas: jax.Array,
    patches: jax.Array,
    boxes: jax.Array,
    obj_to_img: jax.Array,
    valid: Any,
    plan: _Plan,
) -> jax.Array:
    if 0 in (canvas.shape[0], boxes.shape[0]):
        return canvas
    begin, extent = _boxes.edges(boxes, canvas, patches)
    # Far enough from 0 that no derivative of a quotient overflows.
    far = jnp.abs(extent) > jnp.finfo(extent.dtype).tiny ** 0.25
    drawn = far & jnp.isfinite(begin) & jnp.isfinite(extent)
    begin, extent = jnp.where(drawn, begin, 0), jnp.where(drawn, extent, 1)
    drawn = jnp.all(drawn, axis=1)
    drawn = drawn if valid is None else drawn & valid

    spatial, inner = (_objects.spatial(x, plan.channels_last) for x in (canvas, patches))
    first, last = _touched(begin, extent, inner, spatial, plan.rule)
    places = Places.within((canvas.shape[0], *spatial), obj_to_img, drawn, first, last)
    window = spatial if plan.bound is None else _window(plan.bound, inner, spatial, plan.rule)
    draw = partial(_draw, window=window, plan=plan)

    def redraw(canvas: jax.Array, places: Places) -> jax.Array:
        operands = (patches, begin, extent)
        return _objects.redraw((canvas,), places, operands, window, plan.channels_last, draw)

    if plan.bound is None:
        return redraw(canvas, places)
    too_large = jnp.any(jnp.abs(extent) > jnp.asarray([plan.bound], extent.dtype), axis=1)
    pasted = redraw(canvas, places.only(~too_large))
    return _objects.mark(pasted, places.only(too_large), plan.channels_last)


def _rim(extent: Any, inner: Sequence[Any], rule: Rule) -> list[Any]:
    """Return how far a patch reaches over the edges of a box, along each axis."""
    return [extent[a] * (_REACH[rule.mode] / n) for a, n in enumerate(inner)]


def _touched(
    begin: jax.Array,
    extent: jax.Array,
    inner: Sequence[Any],
    spatial: Sequence[Any],
    rule: Rule,
) -> tuple[jax.Array, jax.Array]:
    """Return the first and the last (exclusive) pixels (y, x) that boxes have a part in."""
    begin, extent = lax.stop_gradient((begin, extent))
    rim = jnp.stack(_rim(jnp.abs(extent).T, inner, rule), axis=1)
    low = jnp.floor(jnp.minimum(begin, begin + extent) - rim - 0.5)
    high = jnp.ceil(jnp.maximum(begin, begin + extent) + rim - 0.5) + 1
    limits = jnp.asarray([spatial], begin.dtype)
    first, last = jnp.clip(low, 0, limits), jnp.clip(high, 0, limits)
    return first.astype(jnp.int32), last.astype(jnp.int32)


def _window(
    bound: Sequence[Any], inner: Sequence[Any], spatial: Sequence[Any], rule: Rule
) -> tuple[Any, Any]:
    """Return the height and width that hold all that `_touched` may return."""
    rim = _rim(bound, inner, rule)
    height, width = (
        min(n, math.ceil(b + 2 * r) + 2) for b, r, n in zip(bound, rim, spatial, strict=True)
    )
    return height, width


def _draw(
    _: jax.Array,
    under: jax.Array,
    corner: jax.Array,
    place: Places,
    patch: jax.Array,
    begin: jax.Array,
    extent: jax.Array,
    window: tuple[Any, Any],
    plan: _Plan,
) -> jax.Array:
    """Blend a patch into a window: sampled together with a channel of ones, its alpha."""
    inner = _objects.spatial(patch[None], plan.channels_last)
    y, x = (
        (i.astype(begin.dtype) + 0.5 - begin[a]) * (inner[a] / extent[a]) - 0.5
        for a, i in enumerate(_objects.pixels(corner, window))
    )
    spec = SampleSpec.plain(plan.rule, Layout(plan.channels_last), inner, begin.dtype)
    axis = spec.layout.channel_axis
    patch = patch[None].astype(begin.dtype)
    ones = jnp.ones_like(lax.slice_in_dim(patch, 0, 1, axis=axis))
    opaque = jnp.concatenate([patch, ones], axis=axis)
    sampled = _sampler.pull(opaque, _boxes.grid_of(y, x)[None], spec)
    color, alpha = jnp.split(sampled, [patch.shape[axis]], axis=axis)
    blended = (color + (1 - alpha) * under.astype(begin.dtype)).astype(under.dtype)
    inside = jnp.expand_dims(place.cover(corner, window)[None], axis)
    return jnp.where(inside, blended, under)
