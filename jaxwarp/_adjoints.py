"""The adjoints `splat` and `correlate` on one CPU: the same sums, a tile at a time.

The forms in `_operations`, which a compiler can spread over devices, take two to five
times as long on a CPU. What the comments say of XLA was measured with jaxlib 0.10.2.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxwarp._corners import Corner, Points, fold_corners, unrolled_corners
from jaxwarp._form import Form, are_known
from jaxwarp._sharding import zeros
from jaxwarp._tiles import Data, Tile, cover, merge_axes

_Arrays = tuple[jax.Array, ...]


def fit(values: jax.Array, form: Form) -> bool:
    """Tell whether all sizes are known, and int32 can number a batch of images' entries."""
    if not are_known(*values.shape, *form.spatial):
        return False
    width = max(values.shape[form.channel_axis], _ROW)
    return values.shape[0] * width * math.prod(form.spatial) < 2**31


# Splat ------------------------------------------------------------------------

# A scatter's indices and rows are arrays of their own, and XLA makes those of every corner
# before it uses the first. With so many numbers in a tile's rows they stay in cache.
_NUMBERS = 2**16
# Three numbers are added one by one, four at once.
_ROW = 4


def splat(points: Points, values: jax.Array, scale: Any, like: jax.Array, form: Form) -> jax.Array:
    """Add values to zeros at the points: (N, C, pixels) or (N, pixels, C)."""
    data = merge_axes(points, values, scale, form)
    channels, pixels = values.shape[form.channel_axis], math.prod(form.spatial)
    width = _ROW if channels == _ROW - 1 else channels
    size = max(1, _NUMBERS // width)
    wholes = _halve(data.whole, size)
    tilings = [cover(whole, size, min(w.points for w in wholes)) for whole in wholes]
    images = wholes[0].images

    def add(image: jax.Array, tile: Tile, first: int) -> jax.Array:
        rows = data.rows_of(tile, form).astype(like.dtype)
        rows, scale = jnp.pad(rows, ((0, 0), (0, width - channels))), data.scale_of(tile)

        def visit(image: jax.Array, corner: Corner) -> jax.Array:
            pixel = tile.number(corner.pixel, pixels) + (tile.image - first) * pixels
            index = jnp.where(corner.inside, pixel, images * pixels)
            weighed = rows * corner.weigh(scale)[:, None]
            return image.at[index].add(weighed, mode="drop", wrap_negative_indices=False)

        return fold_corners(visit, image, data.points_of(tile), form)

    def advance(i: Any, totals: list[jax.Array]) -> list[jax.Array]:
        return [
            add(total, tiling.tile(i), tiling.whole.image)
            for total, tiling in zip(totals, tilings, strict=True)
        ]

    totals = [zeros((images * pixels, width), like) for _ in tilings]
    totals = lax.fori_loop(0, tilings[0].turns, advance, totals)
    for k, tiling in enumerate(tilings):
        for tile in tiling.rest():
            totals[k] = add(totals[k], tile, tiling.whole.image)
    totals = [total.reshape(images, pixels, width)[..., :channels] for total in totals]
    total = jnp.concatenate(totals) if images < data.whole.images else sum(totals[1:], totals[0])
    return total if form.channels_last else jnp.moveaxis(total, -1, 1)


def _halve(whole: Tile, size: int) -> list[Tile]:
    """Cut the images in two or, if their number is odd, the points, should they be many.

    A scatter runs on one core.
    """
    images, points = whole.shape
    if images % 2 == 0:
        return [whole._replace(image=k, images=images // 2) for k in (0, images // 2)]
    if points == 1 or images * points <= size:
        return [whole]
    middle = points // 2
    return [whole._replace(points=middle), whole._replace(start=middle, points=points - middle)]


# Correlate --------------------------------------------------------------------

# So many points are in a tile.
_POINTS = 2**16
# So many pixels are read in one loop over the points: where there is room, all channels of
# all corners, so that what says where they are is computed once.
_READS = 64


def correlate(
    points: Points, image: jax.Array, values: jax.Array, like: jax.Array, form: Form
) -> list[jax.Array]:
    """Dot the pixels with the values, weighed for each term: a list of (N, P)."""
    data = merge_axes(points, values, None, form)
    # In one turn, a loop would be none, and what its end carries out computed several times.
    tiling = cover(
        data.whole, min(_POINTS, -(-math.prod(data.whole.shape) // 2)), data.whole.points
    )
    pixels = image.reshape((-1, image.shape[-1]) if form.channels_last else -1)

    def write(wholes: _Arrays, tile: Tile) -> tuple[_Arrays, _Arrays]:
        dots = _dots(pixels, data, tile, like, form)
        return tuple(map(tile.put, wholes, dots)), dots

    # The turn's own numbers are carried on only so that XLA computes them by themselves,
    # on all cores, and not on one while it puts them in their place.
    none = [
        _pairs([zeros(shape, like)] * len(form.orders))
        for shape in (data.whole.shape, (tiling.images * tiling.points,))
    ]
    wholes, last = lax.fori_loop(
        0, tiling.turns, lambda i, x: write(x[0], tiling.tile(i)), tuple(none)
    )
    wholes = tuple(map(tiling.tile(tiling.turns - 1).put, wholes, last))
    for tile in tiling.rest():
        wholes, _ = write(wholes, tile)
    return _singles(wholes)


def _dots(pixels: jax.Array, data: Data, tile: Tile, like: jax.Array, form: Form) -> _Arrays:
    """Compute a tile's terms, in pairs."""
    points, channels = data.points_of(tile), data.values.shape[form.channel_axis]
    block = min(channels, max(1, _READS // unrolled_corners(form)))

    def add(pairs: _Arrays, first: Any, count: int) -> _Arrays:
        planes = [_plane(pixels, tile, first + c, channels, form) for c in range(count)]
        values = [data.channel_of(tile, first + c, form).astype(like.dtype) for c in range(count)]

        def visit(pairs: _Arrays, corner: Corner) -> _Arrays:
            terms = [
                jnp.where(corner.inside, plane(corner.pixel).astype(like.dtype), 0) * value
                for plane, value in zip(planes, values, strict=True)
            ]
            dot = sum(terms[1:], terms[0])
            weighed = _pairs([dot * weight for weight in corner.weights])
            return tuple(a + b for a, b in zip(pairs, weighed, strict=True))

        return fold_corners(visit, pairs, points, form)

    pairs = _pairs([zeros((tile.images * tile.points,), like)] * len(form.orders))
    blocks, rest = divmod(channels, block)
    pairs = lax.fori_loop(0, blocks, lambda i, pairs: add(pairs, i * block, block), pairs)
    return add(pairs, blocks * block, rest) if rest else pairs


def _plane(pixels: jax.Array, tile: Tile, channel: Any, channels: int, form: Form) -> Any:
    """Return a function that reads one channel of a tile's images."""
    size = math.prod(form.spatial)
    if form.channels_last:
        start, shape, stride = (tile.image * size, channel), (tile.images * size, 1), size
    else:
        start = ((tile.image * channels + channel) * size,)
        shape, stride = (((tile.images - 1) * channels + 1) * size,), channels * size
    plane = lax.dynamic_slice(pixels, start, shape).reshape(-1)

    def read(pixel: jax.Array) -> jax.Array:
        index = tile.number(pixel, stride)
        return plane.at[index].get(mode="promise_in_bounds", wrap_negative_indices=False)

    return read


# XLA computes each array in a loop of its own, and whatever the terms share, the reading of
# all those pixels, once for each. A complex number is two of them in one array.


def _pairs(terms: Sequence[jax.Array]) -> _Arrays:
    last = terms[-1:] if len(terms) % 2 else ()
    return (*map(lax.complex, terms[:-1:2], terms[1::2]), *last)


def _singles(pairs: _Arrays) -> list[jax.Array]:
    singles: list[jax.Array] = []
    for x in pairs:
        singles += [x.real, x.imag] if jnp.iscomplexobj(x) else [x]
    return singles
