"""Blending patches into boxes of images: what `paste` computes."""

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxwarp import _coords, _sampler
from jaxwarp._coords import Dim
from jaxwarp._layout import Layout
from jaxwarp._objects.boxes import begin_and_extent, grid_of_axes
from jaxwarp._objects.redraw import fill_with_nan, redraw_windows
from jaxwarp._objects.regions import Regions, pixels
from jaxwarp._sampler import Rule, SampleSpec

# How far beyond its edge a patch still contributes, in pixels of the patch.
_REACH = {"nearest": 0.0, "bilinear": 0.5, "bicubic": 1.5}


class PastePlan(NamedTuple):
    """The static arguments: how to sample, and the largest (height, width) of a box if known."""

    rule: Rule
    layout: Layout
    bound: tuple[Dim, ...] | None


def box_sizes(boxes: np.ndarray) -> np.ndarray:
    """Return the heights and widths of known boxes, (K, 2)."""
    begin, end = _coords.box_ends(boxes.astype(np.float64), "xyxy")
    return np.abs(end - begin)


@partial(jax.jit, static_argnums=5)
def blend_patches(
    canvas: jax.Array,
    patches: jax.Array,
    boxes: jax.Array,
    obj_to_img: jax.Array,
    valid: jax.Array | None,
    plan: PastePlan,
) -> jax.Array:
    """Blend checked patches (K, ...) into boxes (K, 4), one after the other."""
    if 0 in (canvas.shape[0], boxes.shape[0]):
        return canvas
    begin, extent, drawn = _drawn_boxes(boxes, valid, canvas, patches)
    outer, inner = (plan.layout.spatial(x.shape) for x in (canvas, patches))
    ends = _touched(begin, extent, inner, outer, plan.rule)
    regions = Regions.within((canvas.shape[0], *outer), obj_to_img, drawn, *ends)
    window = outer if plan.bound is None else _window(plan.bound, inner, outer, plan.rule)
    draw = partial(_blend_patch, window=window, plan=plan)

    def blend(canvas: jax.Array, regions: Regions) -> jax.Array:
        operands = (patches, begin, extent)
        return redraw_windows((canvas,), regions, operands, window, plan.layout, draw)

    if plan.bound is None:
        return blend(canvas, regions)
    too_large = jnp.any(jnp.abs(extent) > jnp.asarray([plan.bound], extent.dtype), axis=1)
    blended = blend(canvas, regions.only(~too_large))
    return fill_with_nan(blended, regions.only(too_large), plan.layout)


def _drawn_boxes(
    boxes: jax.Array, valid: jax.Array | None, *images: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return where boxes begin, their extents, and which are drawn; the others are harmless."""
    begin, extent = begin_and_extent(boxes, *images)
    # Far enough from 0 that no derivative of a quotient overflows.
    far = jnp.abs(extent) > jnp.finfo(extent.dtype).tiny ** 0.25
    drawn = far & jnp.isfinite(begin) & jnp.isfinite(extent)
    begin, extent = jnp.where(drawn, begin, 0), jnp.where(drawn, extent, 1)
    drawn = jnp.all(drawn, axis=1)
    return begin, extent, drawn if valid is None else drawn & valid


def _rim(inner: Sequence[Dim], rule: Rule) -> list[float]:
    """Return how far a patch reaches over a box's edges along each axis, as parts of its extent."""
    return [_REACH[rule.mode] / n for n in inner]


def _touched(
    begin: jax.Array,
    extent: jax.Array,
    inner: Sequence[Dim],
    outer: Sequence[Dim],
    rule: Rule,
) -> tuple[jax.Array, jax.Array]:
    """Return the first and the last (exclusive) pixels (y, x) that boxes have a part in."""
    begin, extent = lax.stop_gradient((begin, extent))
    rim = jnp.abs(extent) * jnp.asarray([_rim(inner, rule)], extent.dtype)
    low = jnp.floor(jnp.minimum(begin, begin + extent) - rim - 0.5)
    high = jnp.ceil(jnp.maximum(begin, begin + extent) + rim - 0.5) + 1
    limits = jnp.asarray([outer], begin.dtype)
    first, last = jnp.clip(low, 0, limits), jnp.clip(high, 0, limits)
    return first.astype(jnp.int32), last.astype(jnp.int32)


def _window(
    bound: Sequence[Dim], inner: Sequence[Dim], outer: Sequence[Dim], rule: Rule
) -> tuple[Dim, ...]:
    """Return the height and width that hold all that `_touched` may return."""
    rims = zip(bound, _rim(inner, rule), outer, strict=True)
    height, width = (min(n, math.ceil(b + 2 * b * rim) + 2) for b, rim, n in rims)
    return height, width


def _blend_patch(
    _: jax.Array,
    under: jax.Array,
    origin: jax.Array,
    region: Regions,
    patch: jax.Array,
    begin: jax.Array,
    extent: jax.Array,
    window: tuple[Dim, ...],
    plan: PastePlan,
) -> jax.Array:
    """Blend a patch into a window: sampled together with a channel of ones, its alpha."""
    layout, patch = plan.layout, patch[None].astype(begin.dtype)
    inner, axis = layout.spatial(patch.shape), layout.channel_axis
    y, x = (
        (i.astype(begin.dtype) + 0.5 - begin[a]) * (inner[a] / extent[a]) - 0.5
        for a, i in enumerate(pixels(origin, window))
    )
    spec = SampleSpec.plain(plan.rule, layout, inner, begin.dtype)
    ones = jnp.ones_like(lax.slice_in_dim(patch, 0, 1, axis=axis))
    opaque = jnp.concatenate([patch, ones], axis=axis)
    sampled = _sampler.pull(opaque, grid_of_axes(y, x)[None], spec)
    color, alpha = jnp.split(sampled, [layout.channels(patch.shape)], axis=axis)
    blended = (color + (1 - alpha) * under.astype(begin.dtype)).astype(under.dtype)
    inside = jnp.expand_dims(region.cover(origin, window)[None], axis)
    return jnp.where(inside, blended, under)
