"""Blocks: boxes of adjacent pixels that hold a point's neighbours along the last axes.

Some machines move a row of numbers as fast as a single one. So the neighbours of a point are
read or written together, as one row: the image becomes an array of blocks, one for each
place where a block may begin. The taps of a point along an axis are never further apart than
their number, so they fit into a block of that width: padding by a clip or a reflection only
brings them closer. Where the image's ends are joined, so are the blocks. A block has one
weight for each of its pixels, and a mask of those that are read at all.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from jaxwarp._sampler.neighbours import Neighbour, Points, fold_neighbours, taps_of_axis
from jaxwarp._sampler.spec import SampleSpec
from jaxwarp._sampler.taps import Tap

_T = TypeVar("_T")


class AxisCut(NamedTuple):
    """How an axis is cut into blocks.

    Attributes:
        length: The axis' length.
        width: The blocks' width.
        step: From where one block begins to where the next one does: 1, or, where no two
            taps must share a block, the width.
        joined: Whether blocks reach over the axis' end to its beginning.
    """

    length: int
    width: int
    step: int = 1
    joined: bool = False

    @property
    def covered(self) -> int:
        """How many pixels the axis has when it is filled up to whole blocks."""
        if self.joined:
            return self.length + self.width - 1
        return max(-(-self.length // self.step) * self.step, self.width)

    @property
    def number(self) -> int:
        """How many blocks are numbered; the last ones would reach too far, and are not used."""
        return self.covered // self.step

    def starts_at(self, pixel: jax.Array) -> jax.Array:
        """Return the beginning of the block that begins at or before a pixel."""
        if self.step > 1:
            return pixel // self.step * self.step
        return pixel if self.joined else jnp.minimum(pixel, self.covered - self.width)

    def distance(self, pixel: jax.Array, start: jax.Array) -> jax.Array:
        """Return where in the block that begins at ``start`` a pixel is."""
        apart = pixel - start
        return jnp.where(apart < 0, apart + self.length, apart) if self.joined else apart


class Cut(tuple[AxisCut, ...]):
    """How an image is cut along its last axes."""

    __slots__ = ()

    @property
    def counts(self) -> tuple[int, ...]:
        """How many blocks there are along each axis."""
        return tuple(axis.number for axis in self)

    @property
    def area(self) -> int:
        """How many pixels a block has."""
        return math.prod(axis.width for axis in self)


def cut_of(spec: SampleSpec, axes: int) -> Cut:
    """Cut so many of the last axes so that a block holds all neighbours."""
    taps, first = spec.kernel.taps, len(spec.spatial) - axes
    return Cut(
        AxisCut(length, taps, joined=taps > 1 and spec.along(first + axis).padding_mode == "wrap")
        for axis, length in enumerate(spec.spatial[first:])
    )


class Block(NamedTuple):
    """One block for every point: its number, which of its pixels are read, their weights.

    The pixels of a block are an axis of ``inside`` and of each term's weights: the first or the
    last, as the machine's rows are. They stay together: XLA would compute again, for every pixel
    that is cut out of them, all that it fuses the cut with.
    """

    number: jax.Array
    inside: jax.Array
    weights: tuple[jax.Array, ...]
    pixel_axis: int

    def weigh(self, scales: Sequence[jax.Array] | None) -> jax.Array:
        """Return one weight for each pixel: the terms', summed by their scales."""
        if scales is None:
            return self.weights[0]
        of_points = [jnp.expand_dims(scale, self.pixel_axis) for scale in scales]
        return _sum([s * weight for s, weight in zip(of_points, self.weights, strict=True)])


def fold_blocks(
    visit: Callable[[_T, Block], _T],
    carry: _T,
    points: Points,
    spec: SampleSpec,
    cut: Cut,
    pixel_axis: int,
) -> _T:
    """Visit the blocks of every point: one for each choice of taps along the axes before.

    ``pixel_axis``, 0 or -1, is where their pixels are.
    """
    before = len(spec.spatial) - len(cut)
    trailing = _span(taps_of_axis(before, points, spec), cut[0], pixel_axis)
    for axis, along in enumerate(cut[1:], start=before + 1):
        span = _span(taps_of_axis(axis, points, spec), along, pixel_axis)
        trailing = _product(trailing, span, along.number)
    if not before:
        return visit(carry, trailing)
    outer = spec._replace(
        rule=spec.rule._replace(padding_mode=spec.rule.padding_modes(len(spec.spatial))[:before]),
        spatial=spec.spatial[:before],
        orders=tuple(order[:before] for order in spec.orders),
    )
    leading = Points(points.positions[:before], points.firsts[:before], points.sizes[:before])

    def visit_outer(carry: _T, neighbour: Neighbour) -> _T:
        alone = _alone(neighbour, pixel_axis)
        return visit(carry, _product(alone, trailing, math.prod(cut.counts)))

    return fold_neighbours(visit_outer, carry, leading, outer)


def _span(taps: Sequence[Tap], cut: AxisCut, pixel_axis: int) -> Block:
    """Make the blocks along one axis."""
    first = taps[0].pixel
    if not cut.joined:
        outermost = jnp.full_like(first, cut.length)
        for tap in taps:
            pixel = jnp.where(tap.inside, tap.pixel, outermost)
            first = pixel if tap is taps[0] else jnp.minimum(first, pixel)
    start = cut.starts_at(first)
    at = jnp.arange(cut.width, dtype=jnp.int32).reshape(-1, *[1] * first.ndim)
    at = jnp.moveaxis(at, 0, pixel_axis)

    def each(x: jax.Array) -> jax.Array:
        return jnp.expand_dims(x, pixel_axis)

    hits = [(each(cut.distance(tap.pixel, start)) == at) & each(tap.inside) for tap in taps]
    weights = tuple(
        _sum([jnp.where(hit, each(w), 0) for hit, w in zip(hits, term, strict=True)])
        for term in zip(*(tap.weights for tap in taps), strict=True)
    )
    inside = hits[0]
    for hit in hits[1:]:
        inside = inside | hit
    number = start // cut.step if cut.step > 1 else start
    return Block(number, inside, weights, pixel_axis)


def _alone(neighbour: Neighbour, pixel_axis: int) -> Block:
    """Make blocks of one pixel."""
    inside, *weights = (
        jnp.expand_dims(x, pixel_axis) for x in (neighbour.inside, *neighbour.weights)
    )
    return Block(neighbour.pixel, inside, tuple(weights), pixel_axis)


def _product(slow: Block, fast: Block, count: int) -> Block:
    """Choose a block along some axes and one of ``count`` along the next: one along all of them.

    Their pixels are all pairs, those of ``fast`` beside each other.
    """
    first, second = (0, 1) if fast.pixel_axis == 0 else (-2, -1)

    def outer(
        product: Callable[[jax.Array, jax.Array], jax.Array], a: jax.Array, b: jax.Array
    ) -> jax.Array:
        pairs = product(jnp.expand_dims(a, second), jnp.expand_dims(b, first))
        return lax.collapse(pairs, first % pairs.ndim, second % pairs.ndim + 1)

    weights = zip(slow.weights, fast.weights, strict=True)
    return Block(
        slow.number * count + fast.number,
        outer(jnp.logical_and, slow.inside, fast.inside),
        tuple(outer(jnp.multiply, *pair) for pair in weights),
        fast.pixel_axis,
    )


def _sum(terms: Sequence[jax.Array]) -> jax.Array:
    return sum(terms[1:], terms[0])


# Images -----------------------------------------------------------------------


def split(image: jax.Array, cut: Cut) -> list[jax.Array]:
    """Copy an image (..., *spatial) into blocks of step 1, ``area`` arrays (..., blocks)."""
    lead = image.ndim - len(cut)
    for axis, along in enumerate(cut, start=lead):
        pads = [(0, 0)] * image.ndim
        pads[axis] = (0, along.covered - along.length)
        image = jnp.pad(image, pads, mode="wrap") if along.joined else jnp.pad(image, pads)
    pixels = image.reshape(*image.shape[:lead], math.prod(cut.counts))
    return [_behind(pixels, (0,) * lead + (-offset,)) for offset in _offsets(cut)]


def merge(blocks: Sequence[jax.Array], cut: Cut) -> jax.Array:
    """Add up blocks, ``area`` arrays (..., *counts), to an image (..., *spatial)."""
    lead = blocks[0].ndim - len(cut)
    if any(along.step > 1 for along in cut):
        image = jnp.stack(blocks, axis=-1)
        image = image.reshape(*image.shape[:lead], *(along.covered for along in cut))
    else:
        places = itertools.product(*(range(along.width) for along in cut))
        image = _sum([_behind(x, (0,) * lead + at) for x, at in zip(blocks, places, strict=True)])
    for axis, along in enumerate(cut, start=lead):
        image = _cut_end(image, axis, along)
    return image


def _behind(x: jax.Array, offsets: Sequence[int]) -> jax.Array:
    """Move an array along its axes: zeros come before it, and what gets beyond its end is lost."""
    return lax.pad(x, jnp.zeros((), x.dtype), [(offset, -offset, 0) for offset in offsets])


def _offsets(cut: Cut) -> list[int]:
    """List how far the pixels of a block are behind its first, in an image that is one line."""
    offsets = [0]
    for along in cut:
        offsets = [offset * along.covered + o for offset in offsets for o in range(along.width)]
    return offsets


def _cut_end(image: jax.Array, axis: int, along: AxisCut) -> jax.Array:
    """Cut off what lies beyond an axis' end, or add it to the beginning if they are joined."""
    length = along.length
    kept = lax.slice_in_dim(image, 0, min(length, image.shape[axis]), axis=axis)
    if not along.joined:
        return kept
    for start in range(length, image.shape[axis], length):
        part = lax.slice_in_dim(image, start, min(start + length, image.shape[axis]), axis=axis)
        pads = [(0, 0)] * image.ndim
        pads[axis] = (0, length - part.shape[axis])
        kept = kept + jnp.pad(part, pads)
    return kept
