"""Inside `jax.shard_map`: over which mesh axes a value varies.

JAX's own operations see to this by themselves; a primitive of ours, and the first
value of a loop's carry, must say it. Outside `jax.shard_map` nothing here does anything.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp


def vary_alike(args: Sequence[Any]) -> list[Any]:
    """Mark all operands as varying over the same mesh axes.

    Only then does a transpose sum the cotangent of an operand that all devices share.
    """
    varying = [_varying_axes(x) for x in args]
    union = frozenset().union(*varying)
    return [
        jax.lax.pcast(x, tuple(sorted(union - axes)), to="varying") if union - axes else x
        for x, axes in zip(args, varying, strict=True)
    ]


def zeros(shape: Sequence[Any], like: jax.Array) -> jax.Array:
    """Make zeros of the dtype of ``like`` that vary over the mesh axes it varies over."""
    return vary_alike([jnp.zeros(shape, like.dtype), like])[0]


def _varying_axes(x: Any) -> frozenset[str]:
    aval = jax.typeof(x)
    manual = getattr(aval, "mat", None)  # where jax 0.10.2 and later keep it
    return aval.vma if manual is None else manual.varying
