"""Neighbours: the pixels around a point in any number of dimensions.

A neighbour is one choice of a tap on every axis: a pixel, whether it is inside, and a
weight per term of the spec. `fold_neighbours` visits them one after the other, so that
no array ever holds all the gathered pixels.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import jax
from jax import lax
from jax.typing import ArrayLike

from jaxwarp import _coords
from jaxwarp._sampler.spec import SampleSpec
from jaxwarp._sampler.taps import Tap, position, slope, taps_at

_T = TypeVar("_T")

# So many neighbours are written out: 3-D bicubic has 64, which would take a minute to compile.
_MAX_WRITTEN_OUT = 16
# Of more than that, the leading axes' take turns in a loop, with so many written out inside:
# what the loop's body holds is in memory at once.
_MAX_IN_LOOP = 8


# Positions --------------------------------------------------------------------


class Points(NamedTuple):
    """Where the points of a grid fall along each axis, in array order.

    They are computed once, before any loop: computed again for every tap, as XLA would when
    it fuses them, positions cost more than the sampling.
    """

    positions: tuple[jax.Array, ...]
    firsts: tuple[ArrayLike, ...]
    sizes: tuple[ArrayLike, ...]


def locate(grid: jax.Array, window: jax.Array | None, spec: SampleSpec) -> Points:
    """Turn a grid into positions along each axis."""
    axes = range(len(spec.spatial))
    firsts, sizes = (0,) * len(axes), spec.spatial
    if window is not None:
        firsts, sizes = (tuple(window[..., axis, end] for axis in axes) for end in (0, 1))
    coordinates = _axes_of(grid)
    return Points(
        tuple(position(coordinates[a], spec.along(a), sizes[a]) for a in axes), firsts, sizes
    )


def _axes_of(grid: jax.Array) -> tuple[jax.Array, ...]:
    """Split a grid's coordinates, listed (x, y, z), into array axes (z, y, x)."""
    return _coords.xyz_order([grid[..., i] for i in range(grid.shape[-1])])


def chain_factors(grid: jax.Array, points: Points, spec: SampleSpec) -> list[jax.Array | None]:
    """Return each term's chain-rule factor, the product of slope ** order over the axes."""
    slopes = [
        slope(g, spec.along(axis), size)
        for axis, (g, size) in enumerate(zip(_axes_of(grid), points.sizes, strict=True))
    ]
    factors: list[jax.Array | None] = []
    for order in spec.orders:
        powers = [slope for slope, o in zip(slopes, order, strict=True) for _ in range(o)]
        factors.append(math.prod(powers[1:], start=powers[0]) if powers else None)
    return factors


def times(terms: Sequence[jax.Array], factors: Sequence[jax.Array | None]) -> tuple[jax.Array, ...]:
    """Multiply each term (N, *out) by its factor."""
    return tuple(t if f is None else t * f for t, f in zip(terms, factors, strict=True))


# Neighbours ----------------------------------------------------------------------


class Neighbour(NamedTuple):
    """One pixel for every point: flat index, mask, and a weight per term."""

    pixel: jax.Array
    inside: jax.Array
    weights: tuple[jax.Array, ...]

    def weigh(self, scales: Sequence[jax.Array] | None) -> jax.Array:
        """Return one weight per point: the terms', summed by their scales."""
        if scales is None:
            return self.weights[0]
        terms = [scale * weight for scale, weight in zip(scales, self.weights, strict=True)]
        return sum(terms[1:], terms[0])


def taps_of_axis(axis: int, points: Points, spec: SampleSpec) -> list[Tap]:
    """List the taps along one axis, each with its weights for all terms."""
    orders = [order[axis] for order in spec.orders]
    where = (spec.spatial[axis], points.sizes[axis], points.firsts[axis])
    return taps_at(points.positions[axis], spec.along(axis), orders, *where)


def _neighbour(taps: Sequence[Tap], spec: SampleSpec) -> Neighbour:
    pixel, inside, weights = taps[0]
    for tap, length in zip(taps[1:], spec.spatial[1:], strict=True):
        pixel = pixel * length + tap.pixel
        inside = inside & tap.inside
        weights = tuple(a * b for a, b in zip(weights, tap.weights, strict=True))
    return Neighbour(pixel, inside, weights)


def _looped_axes(spec: SampleSpec) -> int:
    axes, taps_each = len(spec.spatial), spec.kernel.taps
    if taps_each**axes <= _MAX_WRITTEN_OUT:
        return 0
    return next(k for k in range(axes) if taps_each ** (axes - k) <= _MAX_IN_LOOP)


def fold_neighbours(
    visit: Callable[[_T, Neighbour], _T], carry: _T, points: Points, spec: SampleSpec
) -> _T:
    """Visit every neighbour, carrying a result; the program's size stays bounded.

    The neighbours along the last axes are unrolled; those of the axes before, if there are
    too many, take turns in a loop.
    """
    axes, taps_each, looped = len(spec.spatial), spec.kernel.taps, _looped_axes(spec)

    def visit_rest(carry: _T, points: Points, chosen: tuple[Tap, ...]) -> _T:
        rest = [taps_of_axis(axis, points, spec) for axis in range(looped, axes)]
        for taps in itertools.product(*rest):
            carry = visit(carry, _neighbour((*chosen, *taps), spec))
        return carry

    def step(t: jax.Array, carry: _T) -> _T:
        # Tied to the loop's counter, or XLA would keep every tap of every point in memory.
        t, positions = lax.optimization_barrier((t, points.positions))
        held = points._replace(positions=positions)
        chosen = []
        for axis in range(looped):
            which = t // taps_each ** (looped - 1 - axis) % taps_each
            taps = taps_of_axis(axis, held, spec)
            chosen.append(jax.tree.map(lambda *x, i=which: lax.select_n(i, *x), *taps))
        return visit_rest(carry, held, tuple(chosen))

    if not looped:
        return visit_rest(carry, points, ())
    return lax.fori_loop(0, taps_each**looped, step, carry)
