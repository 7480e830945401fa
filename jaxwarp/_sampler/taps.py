"""Taps: which pixels a coordinate reads along one axis, and with which weights.

*Taps* are a short list of (pixel, inside, weights). A tap that is not inside the image reads
zero and writes nothing. *Derivatives* of the weights with respect to the position are again
weights on the same pixels: `jax.jvp` of the plain formulas.

An axis need not be a whole array axis: ``first`` and ``size`` describe a window of it, and
may be traced values.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from jaxwarp import _coords
from jaxwarp._coords import Dim
from jaxwarp._sampler.interpolation import KERNELS, Kernel
from jaxwarp._sampler.padding import PADDINGS
from jaxwarp._sampler.rules import AxisRule

_W = TypeVar("_W")


class Tap(NamedTuple):
    """One pixel that a position reads: where it is, whether it exists, its weight per term."""

    pixel: jax.Array
    inside: jax.Array
    weights: tuple[jax.Array, ...]


def position(g: jax.Array, rule: AxisRule, size: ArrayLike) -> jax.Array:
    """Map coordinates to finite positions in an axis of ``size`` pixels, padded."""
    padding = PADDINGS[rule.padding_mode]
    extent = jnp.asarray(size, g.dtype)
    p = _coords.to_pixels(g, size, rule.align_corners) if rule.normalized else g
    p = padding.finite(p, extent)
    return p if KERNELS[rule.mode].pads_taps else padding.move(p, extent, rule.align_corners)


def slope(g: jax.Array, rule: AxisRule, size: ArrayLike) -> jax.Array:
    """Return the derivative of `position` with respect to the coordinate."""
    return _differentiate(lambda g: position(g, rule, size))(g)


def taps_at(
    p: jax.Array,
    rule: AxisRule,
    orders: Sequence[int],
    length: Dim,
    size: ArrayLike,
    first: ArrayLike = 0,
) -> list[Tap]:
    """List the taps of positions along one axis.

    Args:
        p: Positions, from `position`.
        rule: Mode, padding and coordinate frame.
        orders: For each term, which derivative of the weights with respect to the position.
        length: Length of the array axis; indices are in [0, length).
        size: Number of pixels in the window that is sampled.
        first: Index of the window's first pixel.
    """
    kernel, padding = KERNELS[rule.mode], PADDINGS[rule.padding_mode]
    padding = padding if kernel.pads_taps or padding.joins_ends else PADDINGS["zeros"]
    anchor = kernel.anchor(p)
    start = padding.start(anchor, size)
    pixels = padding.pixels(start, kernel.offsets, size, rule.align_corners)
    weights = _weights(kernel, p - anchor, orders)
    return [
        Tap(*_in_array(pixel, size, length, first), of_terms)
        for pixel, of_terms in zip(pixels, weights, strict=True)
    ]


def _weights(
    kernel: Kernel, t: jax.Array, orders: Sequence[int]
) -> Iterator[tuple[jax.Array, ...]]:
    """Return each tap's weight for every term; terms of one order share them."""
    weights, of_order = kernel.weights, {}
    for order in range(max(orders) + 1):
        if order in orders:
            of_order[order] = weights(t)
        weights = _differentiate(weights)
    return zip(*(of_order[order] for order in orders), strict=True)


def _differentiate(f: Callable[[jax.Array], _W]) -> Callable[[jax.Array], _W]:
    return lambda x: jax.jvp(f, (x,), (jnp.ones_like(x),))[1]


def _in_array(
    pixel: jax.Array, size: ArrayLike, length: Dim, first: ArrayLike
) -> tuple[jax.Array, jax.Array]:
    """Turn pixels of the window, which may lie beyond it, into array indices and a mask."""
    size = jnp.asarray(size, jnp.int32)
    inside = (pixel >= 0) & (pixel < size)
    index = lax.clamp(jnp.zeros_like(pixel), pixel, jnp.broadcast_to(size - 1, pixel.shape))
    if isinstance(first, int) and first == 0:
        return index, inside
    return jnp.clip(index + first, 0, length - 1), inside
