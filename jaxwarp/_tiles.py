"""Tiles: the points of a grid, cut into parts that are small enough for a CPU's cache.

A tile is some of the points of one image, or all the points of a few. What belongs to
it lies together in memory and stays in cache from one step to the next, and one number
says where a pixel is in the whole batch.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxwarp._corners import Points
from jaxwarp._form import Form


class Tile(NamedTuple):
    """Points from ``start`` on, of images from ``image`` on: so many of each."""

    image: Any
    start: Any
    images: int
    points: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.images, self.points

    def cut(self, x: jax.Array, axis: int = 1) -> jax.Array:
        """Cut (N, ..., points, ...); of an axis with one point, the one that all share."""
        starts, sizes = [0] * x.ndim, list(x.shape)
        starts[0], sizes[0] = self.image, self.images
        if x.shape[axis] > 1:
            starts[axis], sizes[axis] = self.start, self.points
        return lax.dynamic_slice(x, starts, sizes)

    def flat(self, x: Any) -> Any:
        """Cut (N, points), and list the tile's points one after the other."""
        if not isinstance(x, jax.Array):
            return x
        return jnp.broadcast_to(self.cut(x), self.shape).reshape(-1)

    def put(self, whole: jax.Array, flat: jax.Array) -> jax.Array:
        """Put what was computed for the tile's points into (N, points)."""
        return lax.dynamic_update_slice(whole, flat.reshape(self.shape), (self.image, self.start))

    def number(self, pixel: jax.Array, stride: int) -> jax.Array:
        """Number the pixels of the tile's images through: the next image's by ``stride`` more."""
        if self.images == 1:
            return pixel
        return pixel + lax.broadcasted_iota(jnp.int32, self.shape, 0).reshape(-1) * stride


class Tiling(NamedTuple):
    """Tiles of one size that cover most of a larger one, and those that cover the rest."""

    whole: Tile
    down: int
    along: int
    images: int
    points: int

    @property
    def turns(self) -> int:
        return self.down * self.along

    def tile(self, i: Any) -> Tile:
        image, start = i // self.along * self.images, i % self.along * self.points
        return Tile(self.whole.image + image, self.whole.start + start, self.images, self.points)

    def rest(self) -> Iterator[Tile]:
        image, start, images, points = self.whole
        covered, reached = self.down * self.images, self.along * self.points
        if points > reached:
            yield Tile(image, start + reached, covered, points - reached)
        if images > covered:
            yield Tile(image + covered, start, images - covered, points)


# Images with fewer points than this share a tile, as many as make it full.
_FEW = 2**12


def cover(whole: Tile, size: int, points: int) -> Tiling:
    """Cover a tile, or its first ``points`` points, by tiles of at most ``size`` points."""
    along = -(-points // size)
    # A rest is another copy of the program: better somewhat smaller tiles without.
    along = next((n for n in range(along, 2 * along) if points % n == 0), along)
    images = max(1, min(whole.images, min(size, _FEW) // points))
    return Tiling(whole, whole.images // images, along, images, points // along)


class Data(NamedTuple):
    """Points on one axis, (N, P), with the values and scales that belong to them."""

    points: Points
    values: jax.Array
    scale: jax.Array | None

    @property
    def whole(self) -> Tile:
        return Tile(0, 0, *self.points.shape)

    def points_of(self, tile: Tile) -> Points:
        return jax.tree.map(tile.flat, self.points)

    def scale_of(self, tile: Tile) -> jax.Array | None:
        scale = self.scale
        return None if scale is None else tile.cut(scale).reshape(-1, scale.shape[-1])

    def rows_of(self, tile: Tile, form: Form) -> jax.Array:
        """Return the values of each point next to each other, (points, C)."""
        values = tile.cut(self.values, 1 if form.channels_last else 2)
        rows = values if form.channels_last else jnp.moveaxis(values, 1, -1)
        return rows.reshape(-1, rows.shape[-1])

    def channel_of(self, tile: Tile, channel: Any, form: Form) -> jax.Array:
        values = lax.dynamic_slice_in_dim(self.values, channel, 1, form.channel_axis)
        return tile.cut(values, 1 if form.channels_last else 2).reshape(-1)


def merge_axes(points: Points, values: jax.Array, scale: Any, form: Form) -> Data:
    """Merge the output axes into one."""
    batch, *out = points.shape
    total, channels = math.prod(out), values.shape[form.channel_axis]

    def merge(x: Any) -> Any:
        if not isinstance(x, jax.Array):
            return x
        shared = math.prod(x.shape[1:]) == 1
        return (x if shared else jnp.broadcast_to(x, (x.shape[0], *out))).reshape(x.shape[0], -1)

    return Data(
        jax.tree.map(merge, points),
        values.reshape(
            (batch, total, channels) if form.channels_last else (batch, channels, total)
        ),
        None if scale is None else scale.reshape(batch, total, scale.shape[-1]),
    )
