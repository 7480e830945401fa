"""Interpolation: which pixels around a position weigh how much, along one axis."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax


class Kernel(NamedTuple):
    """An interpolation mode: taps at ``anchor(p) + offsets``, weights from p - anchor.

    Derivatives of the weights above ``degree`` are zero everywhere.
    """

    anchor: Callable[[jax.Array], jax.Array]
    offsets: tuple[int, ...]
    weights: Callable[[jax.Array], tuple[jax.Array, ...]]
    degree: int
    pads_taps: bool

    @property
    def taps(self) -> int:
        """How many pixels a position reads."""
        return len(self.offsets)


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


KERNELS = {
    "bilinear": Kernel(jnp.floor, (0, 1), _linear, 1, False),
    "nearest": Kernel(_round_half_even, (0,), _constant, 0, False),
    "bicubic": Kernel(jnp.floor, (-1, 0, 1, 2), _keys_cubic, 3, True),
}
