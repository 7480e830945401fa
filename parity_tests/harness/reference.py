"""A slow sampler in NumPy, written from the rules in words rather than from any other code.

Each axis of each point becomes a dense row of weights over all pixels of that axis, and a
sample is the product of its rows with the image. Nothing is gathered, so nothing that can go
wrong with an index in a fast implementation can go wrong here in the same way. It also says
what NaN, infinite and huge coordinates mean, which torch's kernels do not agree on.
"""

import string
from typing import NamedTuple

import numpy as np

from parity_tests.harness.cases import Problem

KEYS_A = -0.75


class Rows(NamedTuple):
    """For each point, a dense row over the pixels of one axis: (..., S) each."""

    weight: np.ndarray
    slope: np.ndarray  # of the weight, by the coordinate
    touched: np.ndarray  # whether the pixel is read at all, be it with weight 0


class Sampled(NamedTuple):
    """Values and the gradients of ``sum(values * cotangent)``."""

    value: np.ndarray
    d_input: np.ndarray
    d_grid: np.ndarray


def to_pixels(g, size, align_corners):
    """Return the pixel position of a normalised coordinate."""
    return (g + 1) / 2 * (size - 1) if align_corners else ((g + 1) * size - 1) / 2


def pixels_per_unit(size, align_corners):
    """Return the slope of `to_pixels`."""
    return (size - 1) / 2 if align_corners else size / 2


def grid_sample(image, grid, cotangent, mode, padding_mode, align_corners) -> Sampled:
    """Sample (N, C, *spatial) at (N, *out, n) normalised points, in float64."""
    rows = []
    for axis, size in enumerate(image.shape[2:]):
        g = grid[..., grid.shape[-1] - 1 - axis].astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            p = to_pixels(g, size, align_corners)
        scale = pixels_per_unit(size, align_corners)
        rows.append(axis_rows(p, scale, size, mode, padding_mode, align_corners))
    return _contract(image, cotangent, rows)


def remap(image, positions, cotangent, mode, padding_mode) -> Sampled:
    """Sample at pixel positions; reflection is about the outer pixels' edges."""
    rows = []
    for axis, size in enumerate(image.shape[2:]):
        p = positions[..., positions.shape[-1] - 1 - axis].astype(np.float64)
        rows.append(axis_rows(p, 1.0, size, mode, padding_mode, align_corners=False))
    return _contract(image, cotangent, rows)


def axis_rows(p, scale, size, mode, padding_mode, align_corners) -> Rows:
    """Spread positions ``p``, which move by ``scale`` per unit of coordinate, over an axis."""
    shape = (*p.shape, size)
    rows = Rows(np.zeros(shape), np.zeros(shape), np.zeros(shape, bool))
    p, moves, exists = _finite(p, size, padding_mode)
    for index, weight, slope in _taps(p, size, mode, padding_mode, align_corners):
        inside = exists & (index >= 0) & (index < size)
        at = (*np.nonzero(inside), index[inside].astype(int))
        np.add.at(rows.weight, at, weight[inside])
        np.add.at(rows.slope, at, (slope * scale * moves)[inside])
        rows.touched[at] = True
    return rows


def _finite(p, size, padding_mode):
    """Return a tame position, whether the coordinate has any slope, and whether it reads at all."""
    finite = np.isfinite(p)
    if padding_mode == "zeros":
        far = ~finite | (np.abs(p) > 2.0**40)
        return np.where(far, 0.0, p), ~far, ~far
    if padding_mode == "border":
        beyond = np.isinf(p) | (finite & (np.abs(p) > 2.0**40))
        tame = np.where(beyond, np.where(p > 0, size + 9.0, -9.0), p)
        return np.where(np.isnan(p), 0.0, tame), ~beyond & finite, np.ones(p.shape, bool)
    return np.where(finite, p, 0.0), finite, np.ones(p.shape, bool)


def _taps(p, size, mode, padding_mode, align_corners):
    if mode == "bicubic":
        start = np.floor(p)
        for offset in (-1, 0, 1, 2):
            index, _ = _pad(start + offset, size, padding_mode, align_corners)
            weight, slope = _keys(p - start - offset)
            yield index, weight, slope
        return
    p, sign = _pad(p, size, padding_mode, align_corners)
    if mode == "nearest":
        yield np.rint(p), np.ones_like(p), np.zeros_like(p)
        return
    start = np.floor(p)
    yield start, 1 - (p - start), -sign
    yield start + 1, p - start, sign


def _pad(p, size, padding_mode, align_corners):
    """Map a position to where it is read, and return the slope of that map."""
    if padding_mode == "zeros":
        return p, np.ones_like(p)
    sign = np.ones_like(p)
    if padding_mode == "reflection":
        low, span = (0.0, size - 1) if align_corners else (-0.5, size)
        if span == 0:
            return np.zeros_like(p), np.zeros_like(p)
        p, sign = _fold(p - low, span)
        p = p + low
    sign = np.where((p > 0) & (p < size - 1), sign, 0.0)
    return np.clip(p, 0, size - 1), sign


def _fold(x, span):
    sign = np.where(x < 0, -1.0, 1.0)
    flips, rest = np.divmod(np.abs(x), span)
    odd = flips % 2 == 1
    return np.where(odd, span - rest, rest), np.where(odd, -sign, sign)


def _keys(distance):
    """Return Keys' cubic kernel and its slope at a signed distance from a pixel."""
    a, x, sign = KEYS_A, np.abs(distance), np.sign(distance)
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * (x**3 - 5 * x**2 + 8 * x - 4)
    near_slope = 3 * (a + 2) * x**2 - 2 * (a + 3) * x
    far_slope = a * (3 * x**2 - 10 * x + 8)
    return np.where(x <= 1, near, far), sign * np.where(x <= 1, near_slope, far_slope)


def first_order(problem: Problem, cotangent: np.ndarray) -> Sampled:
    """Answer a sampling case of the table, in its dtype."""
    case, (image, points) = problem.case, problem.operands.values()
    if case.op == "remap":
        sampled = remap(image, points, cotangent, case.mode, case.padding)
    else:
        options = (case.mode, case.padding, case.align_corners)
        sampled = grid_sample(image, points, cotangent, *options)
    return Sampled(*(x.astype(case.dtype) for x in sampled))


def _contract(image, cotangent, rows) -> Sampled:
    """Multiply the image by every axis's rows, and transpose that for the gradients."""
    n = len(rows)
    letters = string.ascii_lowercase[:n]
    flat = [Rows(*(a.reshape(a.shape[0], -1, a.shape[-1]) for a in r)) for r in rows]
    out = rows[0].weight.shape[1:-1]
    batch, channels = image.shape[:2]
    ct = cotangent.reshape(batch, channels, -1).astype(np.float64)

    pixels = f"NC{letters}"
    weights = ",".join(f"NP{x}" for x in letters)
    finite = np.isfinite(image)
    clean = np.where(finite, image, 0.0).astype(np.float64)

    w = [r.weight for r in flat]
    value = np.einsum(f"{pixels},{weights}->NCP", clean, *w)
    # 0 * NaN is NaN: a touched pixel spoils its sample whatever its weight, an untouched never.
    touched = [r.touched.astype(float) for r in flat]
    spoiled = np.einsum(f"{pixels},{weights}->NCP", (~finite).astype(float), *touched) > 0
    value = np.where(spoiled, np.nan, value)

    d_input = np.einsum(f"NCP,{weights}->{pixels}", ct, *w)
    d_grid = []
    for axis in range(n):
        one_slope = [r.slope if i == axis else r.weight for i, r in enumerate(flat)]
        d_grid.append(np.einsum(f"NCP,{pixels},{weights}->NP", ct, clean, *one_slope))
    return Sampled(
        value.reshape(batch, channels, *out),
        d_input,
        np.stack(d_grid[::-1], axis=-1).reshape(batch, *out, n),
    )
