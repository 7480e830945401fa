"""Blocks: boxes of adjacent pixels that hold a point's neighbours along the last axes.

Some machines move a row of numbers as fast as a single one. So the neighbours of a point are
read or written together, as one row: the image becomes an array of blocks, one row for each
place where a block may begin. Padded or not, the taps of a point along an axis are never
further apart than their number, so they always fit into a block of that width; the block then
has one weight for each of its pixels, and a mask of those that are read at all.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from jaxwarp._sampler import rules
from jaxwarp._sampler.neighbours import AxisTap, Neighbour, Points, fold_neighbours, taps_of_axis
from jaxwarp._sampler.spec import SampleSpec

_T = TypeVar("_T")


class Cut(NamedTuple):
    """How an image is cut into blocks along its last axes.

    Attributes:
        spatial: The image's sizes along these axes.
        width: The blocks' sizes.
        step: From where one block begins to where the next one does: 1, or, where no two taps
            must share a block, the width.
    """

    spatial: tuple[int, ...]
    width: tuple[int, ...]
    step: tuple[int, ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """How many blocks there are along each axis."""
        return tuple(
            max(-(-(n - w) // s), 0) + 1
            for n, w, s in zip(self.spatial, self.width, self.step, strict=True)
        )

    @property
    def covered(self) -> tuple[int, ...]:
        """The image's sizes, filled up to whole blocks."""
        return tuple(
            (c - 1) * s + w for c, s, w in zip(self.counts, self.step, self.width, strict=True)
        )

    @property
    def area(self) -> int:
        """How many pixels a block has."""
        return math.prod(self.width)


class Block(NamedTuple):
    """One block for every point: its row, which of its pixels are read, their weights.

    The pixels of a block are the last axis of ``inside`` and of each term's weights.
    """

    row: jax.Array
    inside: jax.Array
    weights: tuple[jax.Array, ...]

    def weigh(self, scale: jax.Array | None) -> jax.Array:
        """Return one weight for each pixel: the terms', summed by their scales."""
        if scale is None:
            return self.weights[0]
        terms = [scale[..., m, None] * weight for m, weight in enumerate(self.weights)]
        return sum(terms[1:], terms[0])


def fold_blocks(
    visit: Callable[[_T, Block], _T], carry: _T, points: Points, spec: SampleSpec, cut: Cut
) -> _T:
    """Visit the blocks of every point: one for each choice of taps along the axes before."""
    before = len(spec.spatial) - len(cut.spatial)
    spans = [
        _span(taps_of_axis(before + a, points, spec), n, width, step)
        for a, (n, width, step) in enumerate(zip(*cut, strict=True))
    ]
    trailing = _block(spans, cut)
    if not before:
        return visit(carry, trailing)
    outer = spec._replace(
        spatial=spec.spatial[:before], orders=tuple(order[:before] for order in spec.orders)
    )
    leading = Points(*(tuple(per_axis)[:before] for per_axis in points))

    def visit_outer(carry: _T, neighbour: Neighbour) -> _T:
        return visit(carry, _joined(neighbour, trailing, cut))

    return fold_neighbours(visit_outer, carry, leading, outer)


class _Span(NamedTuple):
    """A block along one axis: which it is, and, as their last axis, its pixels."""

    index: jax.Array
    inside: jax.Array
    weights: tuple[jax.Array, ...]


def _span(taps: Sequence[AxisTap], length: int, width: int, step: int) -> _Span:
    beyond = jnp.full_like(taps[0].pixel, length)
    starts = [jnp.where(tap.inside, tap.pixel, beyond) for tap in taps]
    first = starts[0]
    for start in starts[1:]:
        first = jnp.minimum(first, start)
    last = max(-(-(length - width) // step), 0) * step
    first = jnp.minimum(first // step * step if step > 1 else first, last)
    at = jnp.arange(width, dtype=jnp.int32).reshape(*[1] * first.ndim, width)
    hits = [(tap.pixel - first)[..., None] == at for tap in taps]
    hits = [hit & tap.inside[..., None] for hit, tap in zip(hits, taps, strict=True)]
    inside = hits[0]
    for hit in hits[1:]:
        inside = inside | hit
    weights = tuple(
        _sum([jnp.where(hit, tap.weights[m][..., None], 0) for hit, tap in zip(hits, taps, strict=True)])
        for m in range(len(taps[0].weights))
    )
    return _Span(first // step if step > 1 else first, inside, weights)


def _block(spans: Sequence[_Span], cut: Cut) -> Block:
    index, inside, weights = spans[0]
    for span, count in zip(spans[1:], cut.counts[1:], strict=True):
        index = index * count + span.index
        inside = _outer(inside, span.inside, jnp.logical_and)
        weights = tuple(_outer(a, b, jnp.multiply) for a, b in zip(weights, span.weights, strict=True))
    return Block(index, inside, weights)


def _joined(neighbour: Neighbour, block: Block, cut: Cut) -> Block:
    row = neighbour.pixel * math.prod(cut.counts) + block.row
    weights = zip(neighbour.weights, block.weights, strict=True)
    return Block(
        row, block.inside & neighbour.inside[..., None], tuple(a[..., None] * b for a, b in weights)
    )


def _outer(a: jax.Array, b: jax.Array, product: Any) -> jax.Array:
    both = product(a[..., :, None], b[..., None, :])
    return both.reshape(*both.shape[:-2], both.shape[-2] * both.shape[-1])


def _sum(terms: Sequence[jax.Array]) -> jax.Array:
    return sum(terms[1:], terms[0])


# Images -----------------------------------------------------------------------


def merge(blocks: jax.Array, cut: Cut) -> jax.Array:
    """Add up blocks (..., *counts, area): the image (..., *spatial)."""
    lead = blocks.ndim - len(cut.spatial) - 1
    blocks = blocks.reshape(*blocks.shape[:-1], *cut.width)
    parts = []
    for offsets in itertools.product(*map(range, cut.width)):
        part = blocks[(..., *offsets)]
        pads = [(0, 0, 0)] * lead + [
            (o, w - 1 - o, s - 1)
            for o, w, s in zip(offsets, cut.width, cut.step, strict=True)
        ]
        parts.append(lax.pad(part, jnp.zeros((), part.dtype), pads))
    image = _sum(parts)
    return image[(..., *(slice(n) for n in cut.spatial))]


def split(image: jax.Array, cut: Cut) -> jax.Array:
    """Copy an image (..., *spatial, C) into its blocks (..., *counts, area, C)."""
    lead = image.ndim - len(cut.spatial) - 1
    rest = [(0, c - n) for c, n in zip(cut.covered, cut.spatial, strict=True)]
    image = jnp.pad(image, [(0, 0)] * lead + rest + [(0, 0)])
    parts = []
    for offsets in itertools.product(*map(range, cut.width)):
        where = [
            slice(o, o + (c - 1) * s + 1, s)
            for o, c, s in zip(offsets, cut.counts, cut.step, strict=True)
        ]
        parts.append(image[(..., *where, slice(None))])
    return jnp.stack(parts, axis=-2)
