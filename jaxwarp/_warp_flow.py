"""Warp images by a flow in pixels, which never becomes normalised coordinates."""

from functools import partial

import jax
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float

from jaxwarp import _checks, _coords, _sampler
from jaxwarp._layout import Layout, layout_of
from jaxwarp._sampler import PaddingMode, Rule, SampleSpec, checked_rule


def warp_flow(
    input: Float[ArrayLike, " N *axes"],
    flow: Float[ArrayLike, " N *flow_axes"],
    mode: str = "bilinear",
    padding_mode: PaddingMode = "zeros",
    *,
    channel_axis: int = 1,
) -> Float[Array, " N *axes"]:
    """Warp an image by a backward flow: output pixel p reads the input at p + flow(p).

    A flow of zero gives the image back unchanged, value by value, in every mode and
    padding mode, and may be where an optimisation starts: pixel positions are not rounded,
    so that in the gradient every entry has the slope to the right of its pixel. (Through
    `flow_grid` a part of them has that to the left.) As in `grid_sample` the slope on the
    outermost pixels is 0 with "border" and "reflection".

    Where a position is outside the image there is nothing to compare with: the warp of
    ones, ``warp_flow(jnp.ones_like(input), flow)``, is 1 inside and 0 outside.

    Args:
        input: Images (N, C, *spatial), or (N, *spatial, C) with ``channel_axis=-1``,
            with n = 1, 2 or 3 spatial axes.
        flow: Displacements in pixels, in the images' layout: (N, n, *spatial), or
            (N, *spatial, n) with ``channel_axis=-1``; listed (x, y, z).
        mode: As in `grid_sample`.
        padding_mode: As in `grid_sample` without ``align_corners``.
        channel_axis: 1 for torch's layout, the default of all functions; -1 for Flax's,
            that of all modules.

    Returns:
        The warped images, of the input's shape and dtype. Positions, weights and sums are
        at least float32. Where the flow is not finite, as in `grid_sample`.

    Raises:
        TypeError: An operand is not a floating-point array; channel_axis is not an int.
        ValueError: The flow does not fit the input, an empty spatial axis, an unknown mode
            or padding_mode, a channel_axis that is neither 1 nor -1.

    Torch has no such function; RAFT, PWC-Net and VoxelMorph each write it around
    ``grid_sample``, VoxelMorph with the flow listed in array order, (y, x).

    Example:
        >>> import jax.numpy as jnp
        >>> image = jnp.arange(4.0).reshape(1, 1, 1, 4)
        >>> one_to_the_right = jnp.zeros((1, 2, 1, 4)).at[:, 0].set(1.0)
        >>> warp_flow(image, one_to_the_right)
        Array([[[[1., 2., 3., 0.]]]], dtype=float32)
    """
    rule = checked_rule(mode, padding_mode, False, normalized=False)
    layout = layout_of(channel_axis)
    input, flow = _checks.images("input", input, layout), _checks.float_array("flow", flow)
    spatial = layout.spatial(input.shape)
    wanted = layout.arrange(input.shape[0], len(spatial), spatial)
    text = f"{wanted} for an input of shape {input.shape} and channel_axis={channel_axis}"
    holds = flow.shape == wanted
    _checks.shape("flow", flow, text, holds, "" if holds else _advice(input, flow, layout))
    _checks.plausible("input's shape", input.shape, layout)
    return _warp_flow(input, flow, rule, layout)


def _advice(input: jax.Array, flow: jax.Array, layout: Layout) -> str:
    """Guess why a flow does not fit."""
    n = input.ndim - 2
    batch, spatial = input.shape[0], layout.spatial(input.shape)
    other = Layout(not layout.channels_last)
    if flow.shape == other.arrange(batch, n, spatial):
        moved = f"{other.channel_axis}, {layout.channel_axis}"
        return f"move its components: jnp.moveaxis(flow, {moved})"
    if flow.shape == layout.arrange(batch, n, spatial)[1:]:
        return "without its batch axis? flow[None] is a batch of one"
    if flow.ndim == input.ndim + 1:
        return "input without its batch axis? input[None] is a batch of one"
    is_swapped = input.shape == layout.arrange(batch, n, spatial) and flow.ndim == input.ndim
    return "the order is input, flow: are they swapped?" if is_swapped else ""


@partial(jax.jit, static_argnums=(2, 3))
def _warp_flow(input: jax.Array, flow: jax.Array, rule: Rule, layout: Layout) -> jax.Array:
    spatial = layout.spatial(input.shape)
    flow = flow.astype(_coords.coordinate_dtype(input.dtype, flow.dtype))
    positions = _coords.moved_pixels(layout.channels_to_end(flow))
    spec = SampleSpec.plain(rule, layout, spatial, input.dtype)
    return _sampler.pull(input, positions, spec)
