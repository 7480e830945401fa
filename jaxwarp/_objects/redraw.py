"""Drawing objects into their images, one after the other.

A window of an image that holds the object's box is taken out, drawn anew and put back.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from jaxwarp._coords import Dim
from jaxwarp._layout import Layout
from jaxwarp._objects.regions import Regions
from jaxwarp._objects.windows import put, take
from jaxwarp._sharding import vary_alike


def redraw_windows(
    layers: Sequence[jax.Array],
    regions: Regions,
    operands: Sequence[jax.Array],
    window: tuple[Dim, ...],
    layout: Layout,
    draw: Callable[..., jax.Array],
) -> jax.Array:
    """Draw one object after the other into the last of ``layers``, and return that.

    Args:
        layers: One batch of images, or two: to read from and to draw into.
        regions: Where the objects are; no box is larger than ``window``.
        operands: Arrays with one element for each object.
        window: Height and width of what is read and written for each object.
        layout: Where the images' channels are.
        draw: Given the windows to read and to draw into, (1, C, *window) or channels
            last, the window's origin (y, x), the object's region and operands, returns the
            window drawn anew.
    """
    # For the backward pass only the windows are kept, not what is computed from them.
    draw = jax.checkpoint(draw, prevent_cse=False)
    leaves, tree = jax.tree.flatten((tuple(layers), (regions, tuple(operands))))
    carry, objects = jax.tree.unflatten(tree, vary_alike(leaves))
    spatial, channels = layout.spatial(carry[0].shape), layout.channels(carry[0].shape)
    shape = layout.arrange(1, channels, window)
    farthest = jnp.asarray([n - w for n, w in zip(spatial, window, strict=True)], jnp.int32)

    def step(
        layers: tuple[jax.Array, ...], item: tuple[Regions, tuple[jax.Array, ...]]
    ) -> tuple[tuple[jax.Array, ...], None]:
        region, operands = item
        origin = jnp.minimum(region.first, farthest)
        start = jnp.stack(layout.arrange(region.image, jnp.zeros_like(region.image), [*origin]))
        rests, windows = zip(*(take(layer, start, shape) for layer in layers), strict=True)
        drawn = draw(windows[0], windows[-1], origin, region, *operands)
        contents = (*windows[:-1], drawn)
        return tuple(put(r, c, start) for r, c in zip(rests, contents, strict=True)), None

    return lax.scan(step, carry, objects)[0][-1]


def fill_with_nan(images: jax.Array, regions: Regions, layout: Layout) -> jax.Array:
    """Write NaN to every box. Costs next to nothing if there is none."""
    batch = jnp.arange(images.shape[0], dtype=jnp.int32)
    spatial = layout.spatial(images.shape)

    @jax.checkpoint
    def filled(images: jax.Array) -> jax.Array:
        def step(covered: jax.Array, region: Regions) -> tuple[jax.Array, None]:
            box = region.cover((0, 0), spatial)[None]
            return covered | (box & (batch == region.image)[:, None, None]), None

        none = jnp.zeros((images.shape[0], *spatial), bool)
        covered = lax.scan(step, none, regions)[0]
        return jnp.where(jnp.expand_dims(covered, layout.channel_axis), jnp.nan, images)

    return lax.cond(jnp.any(regions.size > 0), filled, lambda images: images, images)
