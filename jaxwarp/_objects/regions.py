"""The whole pixels that objects take up, and the images they belong to."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxwarp._coords import Dim


class Regions(NamedTuple):
    """Of K objects: their images, and the pixels of their boxes along (y, x).

    An object with a size of 0 does nothing; images and firsts are within bounds for all.
    Without the axis of length K it is one object's region.
    """

    image: jax.Array
    first: jax.Array
    size: jax.Array

    @classmethod
    def within(
        cls,
        shape: Sequence[Dim],
        image: jax.Array,
        valid: jax.Array | None,
        first: jax.Array,
        last: jax.Array,
    ) -> "Regions":
        """Clip half-open ranges of pixels to images of ``shape`` (N, H, W)."""
        count, *lengths = shape
        limits = jnp.asarray([lengths], jnp.int32)
        first, last = jnp.clip(first, 0, limits), jnp.clip(last, 0, limits)
        size = jnp.maximum(last - first, 0)
        return cls(jnp.clip(image, 0, count - 1), first, size).only(acting(image, valid, count))

    def only(self, which: jax.Array) -> "Regions":
        """Let the other objects do nothing."""
        return self._replace(size=jnp.where(which[:, None], self.size, 0))

    def cover(self, origin: Sequence[int] | jax.Array, window: Sequence[Dim]) -> jax.Array:
        """Return which pixels of a window that begins at ``origin`` are in the box, (*window,)."""
        rows, columns = (
            (i >= self.first[..., a, None]) & (i < (self.first + self.size)[..., a, None])
            for a, i in enumerate(pixels(origin, window))
        )
        return rows[..., :, None] & columns[..., None, :]


def acting(image: jax.Array, valid: jax.Array | None, count: Dim) -> jax.Array:
    """Return which objects belong to one of ``count`` images and are valid, (K,)."""
    exists = (image >= 0) & (image < count)
    return exists if valid is None else exists & valid


def pixels(origin: Sequence[int] | jax.Array, window: Sequence[Dim]) -> list[jax.Array]:
    """Return the indices along each axis of the pixels of a window that begins at ``origin``."""
    return [jnp.arange(n, dtype=jnp.int32) + origin[a] for a, n in enumerate(window)]
