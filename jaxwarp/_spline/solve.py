"""Systems of linear equations, solved by one factorisation however often they are differentiated.

The derivatives of a solution are solutions with the same matrix, or its transpose.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.linalg import lu_solve

from jaxwarp._workarounds.lapack import one_at_a_time


def solve(matrix: jax.Array, right: jax.Array) -> jax.Array:
    """Solve (N or 1, M, M) x = (N, M, n); one matrix is factored once for all right-hand sides."""
    if matrix.shape[0] != 1:
        return jax.vmap(_solve_one)(matrix, right)
    batch, rows, ndim = right.shape
    columns = jnp.moveaxis(right, 0, 1).reshape(rows, batch * ndim)
    return jnp.moveaxis(_solve_one(matrix[0], columns).reshape(rows, batch, ndim), 1, 0)


def _solve_one(matrix: jax.Array, right: jax.Array) -> jax.Array:
    factors = _factor(lax.stop_gradient(matrix))
    return lax.custom_linear_solve(
        partial(jnp.matmul, matrix, precision=lax.Precision.HIGHEST),
        right,
        lambda _, right: _substitute(*factors, right),
        lambda _, right: _substitute_transposed(*factors, right),
    )


@one_at_a_time
def _factor(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    lu, pivots, _ = lax.linalg.lu(matrix)
    return lu, pivots


@one_at_a_time
def _substitute(lu: jax.Array, pivots: jax.Array, right: jax.Array) -> jax.Array:
    return lu_solve((lu, pivots), right)


@one_at_a_time
def _substitute_transposed(lu: jax.Array, pivots: jax.Array, right: jax.Array) -> jax.Array:
    return lu_solve((lu, pivots), right, trans=1)
