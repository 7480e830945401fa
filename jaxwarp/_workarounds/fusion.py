"""A slice that XLA must not fuse into what reads it (XLA on CPUs, jaxlib 0.10).

Where a window is sliced out of an array that a loop carries, XLA fuses the slice into
everything that reads the window. Then some of it may run after the array is updated, so
XLA copies the whole array in every turn of the loop: the loop over objects would cost
K images instead of K windows. XLA does not fuse across a branch.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax


def in_a_branch(f: Callable[[], jax.Array], always: jax.Array) -> jax.Array:
    """Compute ``f()`` in a branch that is ``always`` taken, but XLA does not know that."""
    return lax.cond(always, f, lambda: jnp.zeros_like(f()))
