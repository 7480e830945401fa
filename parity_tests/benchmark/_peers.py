"""Other JAX implementations of the same sampling: bilinear, zeros outside, channels first.

Each is what its users would write around it: none knows batches or normalised coordinates.
They agree with torch but for dm_pix less than a pixel outside the outer pixels' centres, where
it reads zero at once.
"""

import importlib
import os
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

from parity_tests.benchmark._machine import installed

Sampler = Callable[[jax.Array, jax.Array], jax.Array]


def samplers() -> dict[str, Sampler]:
    """Return the installed peers as functions of images (N, C, *spatial) and a grid."""
    found: dict[str, Sampler] = {"jax.scipy map_coordinates": jax_scipy()}
    if installed("dm_pix"):
        dm_pix = importlib.import_module("dm_pix")
        found["dm_pix"] = _each_channel(dm_pix.flat_nd_linear_interpolate_constant)
    if installed("keras"):
        os.environ.setdefault("KERAS_BACKEND", "jax")
        keras = importlib.import_module("keras")
        if keras.backend.backend() == "jax":
            found["keras"] = _each_channel(partial(keras.ops.image.map_coordinates, order=1))
    return found


def jax_scipy() -> Sampler:
    """Return JAX's own, without a look at the others: keras takes seconds to import."""
    return _each_channel(_map_coordinates)


def _map_coordinates(image: jax.Array, positions: jax.Array) -> jax.Array:
    return map_coordinates(image, list(positions), order=1, mode="constant")


def _each_channel(f: Callable[..., jax.Array]) -> Sampler:
    over_channels = jax.vmap(f, in_axes=(0, None))
    over_batch = jax.vmap(over_channels)

    def sample(image: jax.Array, grid: jax.Array) -> jax.Array:
        return over_batch(image, _pixel_positions(grid, image.shape[2:]))

    return sample


def _pixel_positions(grid: jax.Array, spatial: tuple[int, ...]) -> jax.Array:
    """Turn (x, y, z) in [-1, 1] into pixels in array order, (N, n, *out)."""
    size = jnp.asarray(spatial[::-1], grid.dtype)
    positions = ((grid + 1) * size - 1) / 2
    return jnp.moveaxis(positions[..., ::-1], -1, 1)
