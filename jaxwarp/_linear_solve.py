"""Systems of linear equations, solved one matrix at a time on a CPU.

There jaxlib (0.10 at least) cuts a batch of factorisations into tasks for the same threads
that then wait for them. Two batches at once, two splines in one program say, leave no
thread to do the work, and the program hangs. A loop over the batch never waits. It gives up
the other cores, and each turn costs about a microsecond. Elsewhere batches stay batches.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap
from jax.scipy.linalg import lu_solve


def solve(matrix: jax.Array, right: jax.Array) -> jax.Array:
    """Solve ``matrix @ x = right`` for (..., M, M) and (..., M, K) of the same leading axes."""
    if matrix.ndim > 2:
        return jax.vmap(solve)(matrix, right)
    factors = _factor(lax.stop_gradient(matrix))
    return lax.custom_linear_solve(
        partial(jnp.matmul, matrix, precision=lax.Precision.HIGHEST),
        right,
        lambda _, right: _substitute(*factors, right),
        lambda _, right: _substitute_transposed(*factors, right),
    )


def _one_at_a_time(f: Callable[..., Any]) -> Callable[..., Any]:
    """Let ``f`` take batches in a loop on a CPU, and all at once elsewhere."""
    alone = custom_vmap(f)

    @alone.def_vmap
    def batched(size: int, mapped: Sequence[bool], *operands: jax.Array) -> tuple[Any, Any]:
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


@_one_at_a_time
def _factor(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    lu, pivots, _ = lax.linalg.lu(matrix)
    return lu, pivots


@_one_at_a_time
def _substitute(lu: jax.Array, pivots: jax.Array, right: jax.Array) -> jax.Array:
    return lu_solve((lu, pivots), right)


@_one_at_a_time
def _substitute_transposed(lu: jax.Array, pivots: jax.Array, right: jax.Array) -> jax.Array:
    return lu_solve((lu, pivots), right, trans=1)
