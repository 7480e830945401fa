"""Taps: which pixels a coordinate reads along one axis, and with which weights.

Three ideas, each a function of one axis only:

1. *Padding* is a map from position to position (`_PADDINGS`). Torch pads the
   position for nearest and bilinear, and each tap's own index for bicubic. Wrap,
   which torch has not, does both: between the last pixel and the first lies a
   position whose taps are those two.
2. *Taps* are a short list of (pixel, inside, weight). A tap that is not inside
   the image reads zero and writes nothing.
3. *Derivatives* of the weights with respect to the position are again weights on
   the same pixels: `jax.jvp` of the plain formulas. The position's own slope in
   the coordinate is piecewise constant, so higher orders only multiply it, and
   torch's slope at a kink is spelled out where the kink is, with `stop_gradient`.

An axis need not be a whole array axis: ``first`` and ``size`` describe a window
of it, and may be traced values.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from jaxwarp import _checks, _coords

_W = TypeVar("_W")

# One name for all axes, or one for each.
PaddingMode = str | tuple[str, ...]


class Rule(NamedTuple):
    """How coordinates turn into taps: the static part of a sampling operation.

    ``padding_mode`` is one for all axes, or one for each in array order.
    """

    mode: str
    padding_mode: PaddingMode
    align_corners: bool
    normalized: bool = True

    @property
    def degree(self) -> int:
        """The highest derivative of the weights that is not zero everywhere."""
        return _KERNELS[self.mode].degree

    def padding_modes(self, axes: int) -> tuple[str, ...]:
        """Return the padding mode of each of so many axes, or raise if there are others."""
        modes = self.padding_mode
        if isinstance(modes, str):
            return (modes,) * axes
        if len(modes) != axes:
            raise ValueError(
                f"padding_mode must be one name, or one for each of the {axes} spatial axes in"
                f" array order, got {modes!r}"
            )
        return modes


class Tap(NamedTuple):
    """One pixel that a position reads: where it is, whether it exists, its weight."""

    pixel: jax.Array
    inside: jax.Array
    weight: jax.Array


def count(rule: Rule) -> int:
    """Return the number of taps along one axis."""
    return len(_KERNELS[rule.mode].offsets)


class AxisRule(NamedTuple):
    """A rule along one axis, with the padding mode that it has there."""

    mode: str
    padding_mode: str
    align_corners: bool
    normalized: bool


def position(g: jax.Array, rule: AxisRule, size: Any) -> jax.Array:
    """Map coordinates to finite positions in an axis of ``size`` pixels, padded."""
    padding = _PADDINGS[rule.padding_mode]
    extent = jnp.asarray(size, g.dtype)
    p = _coords.to_pixels(g, size, rule.align_corners) if rule.normalized else g
    p = padding.finite(p, extent)
    return p if _KERNELS[rule.mode].pads_taps else padding.move(p, extent, rule.align_corners)


def slope(g: jax.Array, rule: AxisRule, size: Any) -> jax.Array:
    """Return the derivative of `position` with respect to the coordinate."""
    return _differentiate(lambda g: position(g, rule, size))(g)


def axis_taps(
    p: jax.Array, rule: AxisRule, order: int, length: Any, size: Any, first: Any = 0
) -> list[Tap]:
    """List the taps of positions along one axis.

    Args:
        p: Positions, from `position`.
        rule: Mode, padding and coordinate frame.
        order: Which derivative of the weights with respect to the position to return.
        length: Length of the array axis; indices are in [0, length).
        size: Number of pixels in the window that is sampled.
        first: Index of the window's first pixel.
    """
    kernel = _KERNELS[rule.mode]
    weights = kernel.weights
    for _ in range(order):
        weights = _differentiate(weights)
    padding = _PADDINGS[rule.padding_mode]
    padding = padding if kernel.pads_taps or padding.joins_ends else _PADDINGS["zeros"]
    anchor = kernel.anchor(p)
    start = padding.start(anchor, size)
    pixels = padding.pixels(start, kernel.offsets, size, rule.align_corners)
    return [
        Tap(*_in_array(pixel, size, length, first), weight)
        for pixel, weight in zip(pixels, weights(p - anchor), strict=True)
    ]


def _differentiate(f: Callable[[jax.Array], _W]) -> Callable[[jax.Array], _W]:
    return lambda x: jax.jvp(f, (x,), (jnp.ones_like(x),))[1]


def _in_array(pixel: jax.Array, size: Any, length: Any, first: Any) -> tuple[jax.Array, jax.Array]:
    """Turn pixels of the window, which may lie beyond it, into array indices and a mask."""
    size = jnp.asarray(size, jnp.int32)
    inside = (pixel >= 0) & (pixel < size)
    index = lax.clamp(jnp.zeros_like(pixel), pixel, jnp.broadcast_to(size - 1, pixel.shape))
    if isinstance(first, int) and first == 0:
        return index, inside
    return jnp.clip(index + first, 0, length - 1), inside


# Padding ---------------------------------------------------------------------


class _Padding(NamedTuple):
    """A padding mode: ``finite`` first gives every float a place, ``move`` then pads.

    ``start`` turns a whole-numbered position into what ``pixels`` counts from: it lists the
    padded pixels at offsets from there. Where it ``joins_ends``, it does so for every kernel.
    """

    finite: Callable[[jax.Array, jax.Array], jax.Array]
    move: Callable[[jax.Array, jax.Array, bool], jax.Array]
    start: Callable[[jax.Array, Any], jax.Array]
    pixels: Callable[[jax.Array, tuple[int, ...], Any, bool], list[jax.Array]]
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


def _to_int_clamped(at: jax.Array, size: Any) -> jax.Array:
    """Convert whole-numbered floats to integers; far off, to some that are four pixels out.

    A float outside the integers' range has no defined conversion.
    """
    last = jnp.asarray(size, at.dtype) + 3
    near = lax.clamp(jnp.full_like(at, -4), at, jnp.broadcast_to(last, at.shape))
    return near.astype(jnp.int32)


def _stay_whole(at: jax.Array, size: Any) -> jax.Array:
    # A float's reflection is another if it is first brought near.
    return at


def _stay_pixels(
    start: jax.Array, offsets: tuple[int, ...], size: Any, align_corners: bool
) -> list[jax.Array]:
    return [start + offset for offset in offsets]


def _clip_pixels(
    start: jax.Array, offsets: tuple[int, ...], size: Any, align_corners: bool
) -> list[jax.Array]:
    last = jnp.asarray(size, jnp.int32) - 1
    pixels = _stay_pixels(start, offsets, size, align_corners)
    return [jnp.clip(pixel, jnp.zeros_like(last), last) for pixel in pixels]


def _reflect_pixels(
    start: jax.Array, offsets: tuple[int, ...], size: Any, align_corners: bool
) -> list[jax.Array]:
    extent = jnp.asarray(size, start.dtype)
    return [_to_int_clamped(_reflect(start + k, extent, align_corners), size) for k in offsets]


def _wrap_pixels(
    start: jax.Array, offsets: tuple[int, ...], size: Any, align_corners: bool
) -> list[jax.Array]:
    extent = jnp.asarray(size, start.dtype)
    wrapped = [_to_int_clamped(_wrap(start + k, extent, align_corners), size) for k in offsets]
    last = jnp.asarray(size, jnp.int32) - 1
    return [jnp.clip(pixel, jnp.zeros_like(last), last) for pixel in wrapped]


_PADDINGS = {
    "zeros": _Padding(_finite_or_outside, _stay, _to_int_clamped, _stay_pixels),
    "border": _Padding(_finite_or_edge, _clip, _to_int_clamped, _clip_pixels),
    "reflection": _Padding(_finite_if_resolved, _reflect, _stay_whole, _reflect_pixels),
    "wrap": _Padding(_finite_if_resolved, _wrap, _stay_whole, _wrap_pixels, joins_ends=True),
}


# Kernels ---------------------------------------------------------------------


class _Kernel(NamedTuple):
    """An interpolation mode: taps at ``anchor(p) + offsets``, weights from p - anchor."""

    anchor: Callable[[jax.Array], jax.Array]
    offsets: tuple[int, ...]
    weights: Callable[[jax.Array], tuple[jax.Array, ...]]
    degree: int
    pads_taps: bool


def _round_half_even(p: jax.Array) -> jax.Array:
    return lax.round(p, lax.RoundingMethod.TO_NEAREST_EVEN)


def _constant(t: jax.Array) -> tuple[jax.Array, ...]:
    return (jnp.ones_like(t),)


def _linear(t: jax.Array) -> tuple[jax.Array, ...]:
    return 1 - t, t


def _keys_cubic(t: jax.Array) -> tuple[jax.Array, ...]:
    """Weights of Keys' cubic convolution at distances 1 + t, t, 1 - t and 2 - t, A = -0.75."""
    a = -0.75

    def near(x: jax.Array) -> jax.Array:
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x: jax.Array) -> jax.Array:
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    return far(1 + t), near(t), near(1 - t), far(2 - t)


_KERNELS = {
    "bilinear": _Kernel(jnp.floor, (0, 1), _linear, 1, False),
    "nearest": _Kernel(_round_half_even, (0,), _constant, 0, False),
    "bicubic": _Kernel(jnp.floor, (-1, 0, 1, 2), _keys_cubic, 3, True),
}


def checked_rule(mode: Any, padding_mode: Any, align_corners: Any, normalized: bool) -> Rule:
    """Return the rule that a user's arguments ask for, or raise."""
    return Rule(
        _checks.choice("mode", mode, _KERNELS),
        _checked_paddings(padding_mode),
        _checks.flag("align_corners", align_corners),
        normalized,
    )


def _checked_paddings(padding_mode: Any) -> PaddingMode:
    if isinstance(padding_mode, tuple | list):
        return tuple(_checks.choice("padding_mode", mode, _PADDINGS) for mode in padding_mode)
    return _checks.choice("padding_mode", padding_mode, _PADDINGS)
