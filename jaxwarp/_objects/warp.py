"""Warping the patch in each box by an affine map, in place: what `patch_affine` computes."""

from collections.abc import Sequence
from functools import partial
from types import ModuleType
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxwarp import _coords, _sampler
from jaxwarp._coords import Dim
from jaxwarp._layout import Layout
from jaxwarp._objects.redraw import fill_with_nan, redraw_windows
from jaxwarp._objects.regions import Regions, pixels
from jaxwarp._sampler import Rule, SampleSpec

_A = TypeVar("_A", jax.Array, np.ndarray)

# How many batches of images there are: layered, the one that is read stays as it was.
LAYERS = {"sequential": 1, "layered": 2}


class WarpPlan(NamedTuple):
    """The static arguments: how to sample, how to read boxes, and the window that holds one."""

    rule: Rule
    layout: Layout
    box_format: str
    order: str
    window: tuple[Dim, ...]


def clipped_ends(
    boxes: _A, box_format: str, spatial: Sequence[Dim], xp: ModuleType = jnp
) -> tuple[_A, _A]:
    """Return the first and the last (exclusive) pixel (y, x) of boxes clipped to the image."""
    limits = xp.asarray([spatial], np.int32)
    first, last = _coords.box_ends(boxes, box_format)
    return xp.clip(first, 0, limits), xp.clip(last, 0, limits)


def box_sizes(boxes: np.ndarray, box_format: str, spatial: Sequence[Dim]) -> np.ndarray:
    """Return the heights and widths of known boxes clipped to the image, (K, 2)."""
    first, last = clipped_ends(boxes, box_format, spatial, np)
    return np.maximum(last - first, 0)


@partial(jax.jit, static_argnums=5)
def warp_boxes(
    img: jax.Array,
    boxes: jax.Array,
    theta: jax.Array,
    obj_to_img: jax.Array,
    valid: jax.Array | None,
    plan: WarpPlan,
) -> jax.Array:
    """Warp the patches of checked images in boxes (K, 4) by (K, 2, 3) or (K, 6)."""
    if 0 in (img.shape[0], boxes.shape[0]):
        return img
    spatial = plan.layout.spatial(img.shape)
    ends = clipped_ends(boxes, plan.box_format, spatial)
    regions = Regions.within((img.shape[0], *spatial), obj_to_img, valid, *ends)
    theta = theta.reshape(-1, 2, 3).astype(_coords.coordinate_dtype(img.dtype, theta.dtype))
    draw = partial(_warp_patch, plan=plan)

    def warp(img: jax.Array, regions: Regions) -> jax.Array:
        layers = (img,) * LAYERS[plan.order]
        return redraw_windows(layers, regions, (theta,), plan.window, plan.layout, draw)

    if plan.window == spatial:
        return warp(img, regions)
    too_large = jnp.any(regions.size > jnp.asarray([plan.window], jnp.int32), axis=1)
    # Filled before, too: what is read from an unknown patch is unknown.
    fill = partial(fill_with_nan, regions=regions.only(too_large), layout=plan.layout)
    return fill(warp(fill(img), regions.only(~too_large)))


def _warp_patch(
    read: jax.Array,
    under: jax.Array,
    origin: jax.Array,
    region: Regions,
    theta: jax.Array,
    plan: WarpPlan,
) -> jax.Array:
    """Warp the patch of one region in a window; what lies around it stays."""
    size = jnp.maximum(region.size, 1)  # without pixels there are no coordinates
    x, y = _coords.xyz_order(
        [
            _coords.to_normalized(
                (i - region.first[a]).astype(theta.dtype), size[a], plan.rule.align_corners
            )
            for a, i in enumerate(pixels(origin, plan.window))
        ]
    )
    grid = jnp.stack([t[0] * x[None] + (t[1] * y + t[2])[:, None] for t in theta], axis=-1)
    spec = SampleSpec.plain(plan.rule, plan.layout, plan.window, read.dtype)
    window = jnp.stack([region.first - origin, size], axis=-1).reshape(1, 1, 1, 2, 2)
    warped = _sampler.pull(read, grid[None], spec, window)
    inside = region.cover(origin, plan.window)[None]
    return jnp.where(jnp.expand_dims(inside, plan.layout.channel_axis), warped, under)
