"""Taps: which pixels a coordinate reads along one axis, and with which weights.

Three ideas, each a function of one axis only:

1. *Padding* is a map from position to position (`_PADDINGS`). Torch pads the
   position for nearest and bilinear, and each tap's own index for bicubic.
2. *Taps* are a short list of (index, inside, weight). A tap that is not inside
   the image reads zero and writes nothing.
3. The *derivatives* of the weights with respect to the coordinate are again
   weights on the same pixels; `jax.jvp` of the plain formulas gives them. A
   padding's slope is piecewise constant and torch's slope at a kink is spelled
   out where the kink is, with `stop_gradient`.

An axis need not be a whole array axis: ``first`` and ``size`` describe a window
of it, and may be traced values.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from jaxwarp import _coords

_W = TypeVar("_W")


class Rule(NamedTuple):
    """How coordinates turn into taps: the static part of a sampling operation."""

    mode: str
    padding_mode: str
    align_corners: bool
    normalized: bool = True

    @property
    def degree(self) -> int:
        """The highest derivative of the weights that is not zero everywhere."""
        return _KERNELS[self.mode].degree


class Tap(NamedTuple):
    """One pixel that a coordinate reads: where it is, whether it exists, its weight."""

    index: jax.Array
    inside: jax.Array
    weight: jax.Array


def axis_taps(
    g: jax.Array, rule: Rule, order: int, length: Any, first: Any = 0, size: Any = None
) -> list[Tap]:
    """List the taps of coordinates ``g`` along one axis.

    Args:
        g: Coordinates of any shape: normalised, or pixels if ``rule`` says so.
        rule: Mode, padding and coordinate frame.
        order: Which derivative of the weights with respect to ``g`` to return.
        length: Length of the array axis; indices are in [0, length).
        first: First index of the window that is sampled.
        size: Number of pixels in the window; None means the whole axis.
    """
    size = length if size is None else size
    kernel = _KERNELS[rule.mode]
    padding = _PADDINGS[rule.padding_mode]
    extent = jnp.asarray(size, g.dtype)

    def position(g: jax.Array) -> jax.Array:
        p = _coords.to_pixels(g, size, rule.align_corners) if rule.normalized else g
        p = padding.finite(p, extent)
        return p if kernel.pads_taps else padding.move(p, extent, rule.align_corners)

    def weights(g: jax.Array) -> tuple[jax.Array, ...]:
        p = position(g)
        return kernel.weights(p - lax.stop_gradient(kernel.anchor(p)))

    derivative = weights
    for _ in range(order):
        derivative = _differentiate(derivative)

    anchor = lax.stop_gradient(kernel.anchor(position(g)))
    taps = []
    for offset, weight in zip(kernel.offsets, derivative(g), strict=True):
        at = anchor + offset
        if kernel.pads_taps:
            at = padding.move(at, extent, rule.align_corners)
        taps.append(Tap(*_locate(at, extent, length, first), weight))
    return taps


def _differentiate(f: Callable[[jax.Array], _W]) -> Callable[[jax.Array], _W]:
    return lambda g: jax.jvp(f, (g,), (jnp.ones_like(g),))[1]


def _locate(
    at: jax.Array, extent: jax.Array, length: Any, first: Any
) -> tuple[jax.Array, jax.Array]:
    """Turn a whole-numbered float position in the window into an index and a mask.

    The clamp comes before the conversion: a float outside the integers' range
    has no defined conversion.
    """
    inside = (at >= 0) & (at < extent)
    index = lax.clamp(jnp.zeros_like(at), at, jnp.broadcast_to(extent - 1, at.shape))
    index = index.astype(jnp.int32)
    if isinstance(first, int) and first == 0:
        return index, inside
    return jnp.clip(index + first, 0, length - 1), inside


# Padding ---------------------------------------------------------------------


class _Padding(NamedTuple):
    """A padding mode: ``finite`` first gives every float a place, ``move`` then pads."""

    finite: Callable[[jax.Array, jax.Array], jax.Array]
    move: Callable[[jax.Array, jax.Array, bool], jax.Array]


def _finite_or_outside(p: jax.Array, extent: jax.Array) -> jax.Array:
    return jnp.where(jnp.isfinite(p), p, -4.0)


def _finite_or_edge(p: jax.Array, extent: jax.Array) -> jax.Array:
    # Four pixels out every tap of every mode is the edge pixel, so nothing is lost.
    low, high = jnp.full_like(extent, -4.0), extent + 3
    far = lax.stop_gradient(jnp.clip(jnp.where(jnp.isnan(p), 0.0, p), low, high))
    return jnp.where((p > low) & (p < high), p, far)


def _finite_or_first(p: jax.Array, extent: jax.Array) -> jax.Array:
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


_PADDINGS = {
    "zeros": _Padding(_finite_or_outside, _stay),
    "border": _Padding(_finite_or_edge, _clip),
    "reflection": _Padding(_finite_or_first, _reflect),
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

MODES = tuple(_KERNELS)
PADDING_MODES = tuple(_PADDINGS)
