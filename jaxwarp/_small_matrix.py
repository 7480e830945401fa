"""Inverses and determinants of matrices of one, two or three rows.

By cofactors: for so small a matrix no factorisation is faster, and batches need no loop.
"""

import jax
import jax.numpy as jnp


def determinant(m: jax.Array) -> jax.Array:
    """Return the determinant of matrices (..., n, n), as a polynomial."""
    return _DETERMINANTS[m.shape[-1]](m)


def inverse(m: jax.Array) -> jax.Array:
    """Return the inverse of matrices (..., n, n); not finite where a matrix is singular."""
    return _INVERSES[m.shape[-1]](m)


def _rows(m: jax.Array) -> list[jax.Array]:
    return [m[..., i, :] for i in range(m.shape[-2])]


def _determinant_2d(m: jax.Array) -> jax.Array:
    (a, b), (c, d) = (jnp.moveaxis(row, -1, 0) for row in _rows(m))
    return a * d - b * c


def _determinant_3d(m: jax.Array) -> jax.Array:
    x, y, z = _rows(m)
    return jnp.sum(x * jnp.cross(y, z), axis=-1)


def _inverse_2d(m: jax.Array) -> jax.Array:
    (a, b), (c, d) = (jnp.moveaxis(row, -1, 0) for row in _rows(m))
    adjugate = jnp.stack([jnp.stack([d, -b], axis=-1), jnp.stack([-c, a], axis=-1)], axis=-2)
    return adjugate / determinant(m)[..., None, None]


def _inverse_3d(m: jax.Array) -> jax.Array:
    x, y, z = _rows(m)
    columns = [jnp.cross(y, z), jnp.cross(z, x), jnp.cross(x, y)]
    return jnp.stack(columns, axis=-1) / determinant(m)[..., None, None]


_DETERMINANTS = {1: lambda m: m[..., 0, 0], 2: _determinant_2d, 3: _determinant_3d}
_INVERSES = {1: lambda m: 1 / m, 2: _inverse_2d, 3: _inverse_3d}
