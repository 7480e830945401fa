"""Factorisations, one matrix at a time on a CPU (jaxlib 0.10 at least).

jaxlib cuts a batch of LAPACK calls into tasks for the same threads that then wait for them.
Two batches at once, two splines in one program say, leave no thread to do the work, and the
program hangs. A loop over the batch never waits. It gives up the other cores, and each turn
costs about a microsecond. Elsewhere batches stay batches.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap
from jaxtyping import Array, PyTree

_R = TypeVar("_R", bound=PyTree[Array])


def one_at_a_time(f: Callable[..., _R]) -> Callable[..., _R]:
    """Let ``f`` take batches in a loop on a CPU, and all at once elsewhere."""
    alone = custom_vmap(f)

    @alone.def_vmap
    def batched(size: int, mapped: Sequence[bool], *operands: jax.Array) -> tuple[_R, PyTree[bool]]:
        whole = [
            x if is_mapped else jnp.broadcast_to(x, (size, *x.shape))
            for x, is_mapped in zip(operands, mapped, strict=True)
        ]
        result = lax.platform_dependent(
            *whole,
            cpu=lambda *whole: lax.map(lambda each: alone(*each), tuple(whole)),
            default=jax.vmap(f),
        )
        return result, jax.tree.map(lambda _: True, result)

    return alone
