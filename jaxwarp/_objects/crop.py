"""Reading boxes of images at one size: what `crop_and_resize` computes."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxwarp import _sampler
from jaxwarp._coords import Dim
from jaxwarp._layout import Layout
from jaxwarp._objects.boxes import begin_and_extent, grid_of_axes
from jaxwarp._objects.regions import acting
from jaxwarp._sampler import Rule, SampleSpec


class CropPlan(NamedTuple):
    """The static arguments: how to sample, and the crops' height and width."""

    rule: Rule
    layout: Layout
    size: tuple[Dim, ...]


@partial(jax.jit, static_argnums=4)
def read_boxes(
    img: jax.Array,
    boxes: jax.Array,
    obj_to_img: jax.Array,
    valid: jax.Array | None,
    plan: CropPlan,
) -> jax.Array:
    """Read checked boxes (K, 4) of images, each resampled to one size."""
    layout, batch = plan.layout, img.shape[0]
    if batch == 0:
        shape = layout.arrange(boxes.shape[0], layout.channels(img.shape), plan.size)
        return jnp.zeros(shape, img.dtype)
    height, width = layout.spatial(img.shape)
    # One image with the batch's images below each other, each crop with a window of its
    # own: no copy of an image for each object, and all crops are one sampling.
    rows = (batch * height, width)
    stack = layout.batch_to_axis(img).reshape(layout.arrange(1, layout.channels(img.shape), rows))
    window = _own_images(obj_to_img, batch, (height, width))
    spec = SampleSpec.plain(plan.rule, layout, rows, img.dtype)
    crops = _sampler.pull(stack, _positions(boxes, img, plan)[None], spec, window)
    acts = acting(obj_to_img, valid, batch)
    return jnp.where(acts[:, None, None, None], layout.batch_from_axis(crops), 0)


def _positions(boxes: jax.Array, img: jax.Array, plan: CropPlan) -> jax.Array:
    """Return where each pixel of each crop reads its image, (K, *size, 2), in pixels."""
    begin, extent = begin_and_extent(boxes, img)
    y, x = (
        begin[:, a, None] + (jnp.arange(n, dtype=begin.dtype) + 0.5)[None] * step - 0.5
        for a, n in enumerate(plan.size)
        for step in [extent[:, a, None] / n]
    )
    return grid_of_axes(y, x)


def _own_images(obj_to_img: jax.Array, batch: Dim, spatial: tuple[Dim, ...]) -> jax.Array:
    """Return where in the stack of all images each object's own is, (1, K, 1, 1, 2, 2)."""
    above = jnp.clip(obj_to_img, 0, batch - 1) * spatial[0]
    first = jnp.stack([above, jnp.zeros_like(above)], axis=-1)
    size = jnp.broadcast_to(jnp.asarray([spatial], jnp.int32), first.shape)
    return jnp.stack([first, size], axis=-1)[None, :, None, None]
