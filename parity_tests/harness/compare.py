"""The one definition of "the same as torch".

Both sides round. An error in the last bit of a normalised coordinate moves the point by
``delta = 2 eps S (1 + |g|)`` pixels, and the sample by that much times the local slope, so that
is what is allowed, and no more. The constants are torch's own distance from float64; what share
of them is used stands in the report's last column.

Where what is compared jumps (a kink), points within ``4 delta`` of the jump are left out: their
cotangent is zero on both sides. More than `LEFT_OUT` of a case's points may not be.

Cases whose numbers are exact in binary have no rounding: nothing is left out there, kinks
included, and the results must be equal bit for bit (but for the float32 bicubic, whose products
of weights need more than 24 bits).

An "ulp" in the report is eps times the largest magnitude that the sum could have reached, so
that cancellation does not count as error.
"""

from collections.abc import Sequence

import numpy as np

from jaxwarp.testing import Tolerance
from jaxwarp.testing import same as same  # beside the tolerances that it is given here
from parity_tests.harness import reference
from parity_tests.harness.cases import HUGE, Case, Problem

VERIFIED_TORCH = "2.13.0"
LEFT_OUT = 0.02
# On CUDA torch hands bilinear + zeros + align_corners to cuDNN, which orders the arithmetic
# in its own way. An allowance for that, not a measurement.
CUDNN_FACTOR = 8.0
# The other operations: a few steps on well-conditioned numbers, in ulp of the largest entry.
ULP = {
    "splat": 32.0,  # a sum over the points that a pixel gets something of
    # Weights depend on where the boxes' edges are, and pixels on what was drawn before.
    **dict.fromkeys(("patch_affine", "crop_and_resize", "paste"), 64.0),
    "affine_grid": 16.0,
    "homography_grid": 64.0,
    "flow_grid": 16.0,
    "compose_affine": 16.0,
    "invert_affine": 64.0,
    "tps_grid": 256.0,  # a linear system is solved
}


def _ulp(case: Case) -> float:
    """Return how many units of the largest entry are allowed where the image is not read."""
    return 0.0 if case.op == "splat" and case.exact else ULP[case.op]


def of_largest(theirs: np.ndarray, ulp: float) -> Tolerance:
    """Allow ``ulp`` units of the array's largest entry."""
    scale = np.array(np.max(np.abs(theirs), initial=0.0), np.float64)
    return Tolerance(ulp * np.finfo(theirs.dtype).eps * scale, scale)


# The lenses -------------------------------------------------------------------


def first_order(
    problem: Problem, theirs: Sequence[np.ndarray], cudnn: bool = False
) -> list[Tolerance]:
    """Return the tolerances of the value and of the gradient of every operand."""
    if not problem.case.samples:
        return [of_largest(x, _ulp(problem.case)) for x in theirs]
    sampling = _Sampling(problem, cudnn=cudnn)
    return sampling.first_order(np.where(sampling.kink[:, None], 0, problem.cotangent))


def second_order(
    problem: Problem, tangents: Sequence[np.ndarray], theirs: Sequence[np.ndarray]
) -> list[Tolerance]:
    """Return the tolerances of J u and of the gradients of <c, J u>."""
    if not problem.case.samples:
        return [of_largest(x, 4 * _ulp(problem.case)) for x in theirs]
    return _Sampling(problem, order=2).second_order(cotangent(problem, order=2), tangents)


def cotangent(problem: Problem, order: int = 1, left_out: float = LEFT_OUT) -> np.ndarray:
    """Return the problem's cotangent, zero for the points that lie too near a kink.

    They may not be more than the share ``left_out`` of all points.
    """
    if not problem.case.samples:
        return problem.cotangent
    kink = _Sampling(problem, order).kink
    assert kink.mean() <= left_out, f"{kink.mean():.1%} of the points are too near a kink"
    return np.where(kink[:, None], 0, problem.cotangent)


# Sampling --------------------------------------------------------------------


class _Sampling:
    """What a sampling problem's tolerances are made of, for each of its points."""

    def __init__(self, problem: Problem, order: int = 1, cudnn: bool = False) -> None:
        self.problem, self.case = problem, problem.case
        self.eps, self.factor = self.case.eps, CUDNN_FACTOR if cudnn else 1.0
        self.sizes = np.array(problem.size[::-1])
        self.grid, self.pixels_per_unit = _normalized(problem)
        self.largest = _largest(problem.operands["input"])
        # What NaN, infinite and huge coordinates give does not depend on their last bits.
        known = np.isfinite(self.grid) & (np.abs(self.grid) < min(map(abs, HUGE)))
        known &= self.pixels_per_unit > 0  # an axis of one pixel with align_corners
        g = np.where(known, self.grid, 0.0)
        self.delta = np.where(known, 2 * self.eps * self.sizes * (1 + np.abs(g)), 0.0).max(-1)
        p = reference.to_pixels(g, self.sizes, self.case.align_corners)
        near = _kink_distance(p, self.case.mode, order) <= 4 * self.delta[..., None]
        self.kink = (near & known).any(-1) & (not self.case.exact)

    def first_order(self, ct: np.ndarray) -> list[Tolerance]:
        """Return the tolerances of the value and of <ct, value>'s gradients."""
        ct = np.abs(ct.astype(np.float64))
        value, slope = self._errors()[:2]
        scale = ct.sum(1)[..., None] * self.largest * self.pixels_per_unit
        return [
            self._of_value(value, np.full(ct.shape, self.largest)),
            self._spread(ct, value),
            Tolerance(slope[..., None] * scale, scale),
        ]

    def second_order(self, ct: np.ndarray, tangents: Sequence[np.ndarray]) -> list[Tolerance]:
        """Return the tolerances of J u and of <ct, J u>'s gradients."""
        ct = np.abs(ct.astype(np.float64))
        u_input, u_grid = tangents
        _, slope, curve = self._errors()
        # How far, in pixels, the tangent moves each point.
        moved = (np.abs(u_grid) * self.pixels_per_unit).sum(-1)
        change = _largest(u_input) + self.largest * moved
        scale = ct.sum(1)[..., None] * change[..., None] * self.pixels_per_unit
        return [
            self._of_value(slope, np.broadcast_to(change[:, None], ct.shape)),
            self._spread(ct * moved[:, None], slope),
            Tolerance(curve[..., None] * scale, scale),
        ]

    def _errors(self) -> list[np.ndarray]:
        """Return the relative errors, for each point, of a sample, its slope and its curvature."""
        return [self._error(*e) for e in _ERRORS[self.case.mode]]

    def _error(self, rounding: float, moving: float) -> np.ndarray:
        if not self.case.exact:
            return self.factor * (rounding * self.eps + moving * self.delta)
        rounds = (self.case.mode, self.case.dtype) == ("bicubic", "float32")
        return np.full_like(self.delta, 16 * self.eps if rounds else 0.0)

    def _of_value(self, error: np.ndarray, scale: np.ndarray) -> Tolerance:
        jumps = self.kink & (self.case.mode == "nearest")
        allowed = np.where(jumps[:, None], 2.0, error[:, None] * (self.case.mode != "nearest"))
        return Tolerance(allowed * scale, scale)

    def _spread(self, amounts: np.ndarray, error: np.ndarray) -> Tolerance:
        """Add each point's amount to every pixel that it may touch."""
        case, letters, near = self.case, "abc"[: self.case.axes], []
        for axis, size in enumerate(self.problem.size):
            with np.errstate(invalid="ignore", over="ignore"):
                g = self.grid[..., case.axes - 1 - axis]
                p = reference.to_pixels(g, size, case.align_corners)
            # Half a pixel to both sides covers what rounding may move.
            rows = [
                reference.axis_rows(p + h, 1.0, size, case.mode, case.padding, case.align_corners)
                for h in (-0.5, 0.0, 0.5)
            ]
            touched = np.any([r.touched for r in rows], axis=0)
            near.append(touched.reshape(len(p), -1, size).astype(float))
        subscripts = ",".join(f"NP{x}" for x in letters)

        def spread(x):
            x = x.reshape(*x.shape[:2], -1)
            return np.einsum(f"NCP,{subscripts}->NC{letters}", x, *near, optimize=True)

        return Tolerance(spread(amounts * error[:, None]), spread(amounts))


# For a sample, its slope and its curvature: the multiples of eps and of delta that are allowed.
_ERRORS = {
    "nearest": ((16.0, 0.0), (0.0, 0.0), (0.0, 0.0)),
    "bilinear": ((16.0, 1.5), (32.0, 4.0), (64.0, 8.0)),
    "bicubic": ((96.0, 2.5), (32.0, 4.0), (64.0, 8.0)),
}


def _largest(x: np.ndarray) -> float:
    return float(np.max(np.abs(x), initial=0.0))


def _normalized(problem: Problem):
    """Return the problem's coordinates, normalised, and the pixels in a unit of its own."""
    sizes = np.array(problem.size[::-1])
    if problem.case.op == "remap":
        positions = problem.operands["positions"].astype(np.float64)
        return (2 * positions + 1) / sizes - 1, np.ones(len(sizes))
    grid = problem.operands["grid"].astype(np.float64)
    return grid, reference.pixels_per_unit(sizes, problem.case.align_corners)


def _kink_distance(p: np.ndarray, mode: str, order: int) -> np.ndarray:
    """Return how far a position is from where the ``order``-th derivative jumps."""
    if mode == "bicubic" and order == 1:
        return np.full_like(p, np.inf)  # its slope is continuous
    shift = 0.5 if mode == "nearest" else 0.0
    return np.abs(p - shift - np.rint(p - shift))
