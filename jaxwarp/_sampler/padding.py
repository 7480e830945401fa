"""Padding: what positions and pixels beyond an image's ends stand for, along one axis.

A padding is a map from position to position. Torch pads the position for nearest and bilinear,
and each tap's own index for bicubic. Wrap, which torch has not, does both: between the last
pixel and the first lies a position whose taps are those two.

A position's slope in the coordinate is piecewise constant, so higher orders only multiply it,
and torch's slope at a kink is spelled out where the kink is, with `stop_gradient`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike


class Padding(NamedTuple):
    """A padding mode: ``finite`` first gives every float a place, ``move`` then pads.

    ``start`` turns a whole-numbered position into what ``pixels`` counts from: it lists the
    padded pixels at offsets from there. Where it ``joins_ends``, it does so for every kernel.
    """

    finite: Callable[[jax.Array, jax.Array], jax.Array]
    move: Callable[[jax.Array, jax.Array, bool], jax.Array]
    start: Callable[[jax.Array, ArrayLike], jax.Array]
    pixels: Callable[[jax.Array, tuple[int, ...], ArrayLike, bool], list[jax.Array]]
    joins_ends: bool = False


def _finite_or_outside(p: jax.Array, extent: jax.Array) -> jax.Array:
    return jnp.where(jnp.isfinite(p), p, -4.0)


def _finite_or_edge(p: jax.Array, extent: jax.Array) -> jax.Array:
    # Four pixels out every tap of every mode is the edge pixel, so nothing is lost.
    low, high = jnp.full_like(extent, -4.0), extent + 3
    far = lax.stop_gradient(jnp.clip(jnp.where(jnp.isnan(p), 0.0, p), low, high))
    return jnp.where((p > low) & (p < high), p, far)


def _finite_if_resolved(p: jax.Array, extent: jax.Array) -> jax.Array:
    # Where neighbouring floats are a pixel apart, a coordinate says nothing about
    # its place within a pixel, so it has no slope either.
    resolved = jnp.abs(p) < 1 / jnp.finfo(p.dtype).eps
    return jnp.where(resolved, p, lax.stop_gradient(jnp.where(jnp.isfinite(p), p, 0.0)))


def _stay(p: jax.Array, extent: jax.Array, align_corners: bool) -> jax.Array:
    return p


def _clip(p: jax.Array, extent: jax.Array, align_corners: bool) -> jax.Array:
    """Clip to the outer pixel centres, with torch's slope 0 on the bounds themselves."""
    last = extent - 1
    clipped = lax.stop_gradient(jnp.clip(p, jnp.zeros_like(last), last))
    return jnp.where((p > 0) & (p < last), p, clipped)


def _reflect(p: jax.Array, extent: jax.Array, align_corners: bool) -> jax.Array:
    """Reflect about the centres (align_corners) or edges of the outer pixels, then clip."""
    low = 0.0 if align_corners else -0.5
    span = extent - 1 if align_corners else extent
    period = jnp.maximum(2 * span, 1)
    x = jnp.abs(p - low)
    x = x - period * jnp.floor(x / period)
    x = jnp.where(x > span, period - x, x)
    return _clip(x + low, extent, align_corners)


def _wrap(p: jax.Array, extent: jax.Array, align_corners: bool) -> jax.Array:
    """Bring positions into [0, size), where the image begins again at its end."""
    return p - extent * lax.stop_gradient(jnp.floor(p / extent))


def _to_int_clamped(at: jax.Array, size: ArrayLike) -> jax.Array:
    """Convert whole-numbered floats to integers; far off, to some that are four pixels out.

    A float outside the integers' range has no defined conversion.
    """
    last = jnp.asarray(size, at.dtype) + 3
    near = lax.clamp(jnp.full_like(at, -4), at, jnp.broadcast_to(last, at.shape))
    return near.astype(jnp.int32)


def _stay_whole(at: jax.Array, size: ArrayLike) -> jax.Array:
    # A float's reflection is another if it is first brought near.
    return at


def _stay_pixels(
    start: jax.Array, offsets: tuple[int, ...], size: ArrayLike, align_corners: bool
) -> list[jax.Array]:
    return [start + offset for offset in offsets]


def _clip_pixels(
    start: jax.Array, offsets: tuple[int, ...], size: ArrayLike, align_corners: bool
) -> list[jax.Array]:
    last = jnp.asarray(size, jnp.int32) - 1
    pixels = _stay_pixels(start, offsets, size, align_corners)
    return [jnp.clip(pixel, jnp.zeros_like(last), last) for pixel in pixels]


def _reflect_pixels(
    start: jax.Array, offsets: tuple[int, ...], size: ArrayLike, align_corners: bool
) -> list[jax.Array]:
    extent = jnp.asarray(size, start.dtype)
    return [_to_int_clamped(_reflect(start + k, extent, align_corners), size) for k in offsets]


def _wrap_pixels(
    start: jax.Array, offsets: tuple[int, ...], size: ArrayLike, align_corners: bool
) -> list[jax.Array]:
    extent = jnp.asarray(size, start.dtype)
    wrapped = [_to_int_clamped(_wrap(start + k, extent, align_corners), size) for k in offsets]
    last = jnp.asarray(size, jnp.int32) - 1
    return [jnp.clip(pixel, jnp.zeros_like(last), last) for pixel in wrapped]


PADDINGS = {
    "zeros": Padding(_finite_or_outside, _stay, _to_int_clamped, _stay_pixels),
    "border": Padding(_finite_or_edge, _clip, _to_int_clamped, _clip_pixels),
    "reflection": Padding(_finite_if_resolved, _reflect, _stay_whole, _reflect_pixels),
    "wrap": Padding(_finite_if_resolved, _wrap, _stay_whole, _wrap_pixels, joins_ends=True),
}
