"""What is allowed between two computations that nobody has analysed.

Torch is asked the same question again, its operands and cotangents moved at random by a few
units in their last place: several times in the same precision, and several times in another
(float32 for float64, float64 for float32), where its rounding is another, too. How far its own
answer moves says what its last bits are worth, without any look into the function. The moves
of an entry hold, in units of the coarser precision's eps,

- its conditioning: the sum of its terms' magnitudes, also where they cancel in the result (for
  a dot product ``a . b`` it is of the size of ``eps sum |a b|``, not of ``eps |a . b|``);
- the rounding inside: the answer of ``(x + 1e5) - 1e5`` is good to 1e5 eps;
- any jump within reach: a maximum about to change hands, a sample on a pixel's edge.

So the magnitude that an entry could have reached is taken to be

    scale = max(|theirs|, largest move / (REACH eps), FLOOR * the array's largest scale),

and a difference of up to ``ULP`` times eps times that is allowed: an answer is right if it is
the answer to a question that could not be told from the one asked. Nothing here is measured on
the side under test, so that no mistake in it can widen what is allowed to it. In float64 all of
this is some 1e-14 of the magnitude, and even where float32 takes another branch 1e-8: mistakes
are larger.

An entry *jumps* if it moves, in the same precision, by more than ``sqrt(eps)`` of the largest
number of the whole answer: more than conditioning and rounding explain. It may be where the
jump takes it, but of each array no more than the share `LEFT_OUT` may need that. Otherwise
operands that lie on kinks (pixels sampled exactly at their centres) would excuse every mistake.

The limits: rounding in ours alone, by a less stable algorithm, is not seen (raise ``ulp``);
constants inside a function are not moved (make them operands); two mistakes of the size of
rounding are rounding.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.typing import DTypeLike

from jaxwarp.testing import _measure
from jaxwarp.testing._measure import Tolerance
from jaxwarp.testing._operands import is_float

Answer = Mapping[str, np.ndarray]

ULP = {"float64": 64.0, "float32": 64.0, "float16": 8.0, "bfloat16": 8.0}
_OTHER = {
    "float64": "float32",
    "float32": "float64",
    "float16": "float32",
    "bfloat16": "float32",
}
REACH = 4.0  # in eps: the least that survives rounding in the operands themselves
PROBES = 8  # a sum of any signs is near zero in all of them with probability 1e-9
FLOOR = 1e-3
LEFT_OUT = 0.02


class Allowed(NamedTuple):
    """The tolerance of one array; where it jumps, and how far."""

    tolerance: Tolerance
    jumps: np.ndarray
    moves: np.ndarray

    def complaint(self, ours: npt.ArrayLike, theirs: npt.ArrayLike) -> str:
        """Say in what way two arrays differ by more than allowed; nothing if they don't."""
        plain = _measure.complaint(ours, theirs, self.tolerance)
        if not plain or not self.jumps.any() or np.shape(ours) != np.shape(theirs):
            return plain
        wide = Tolerance(np.where(self.jumps, 2 * self.moves, self.tolerance.allowed), _ONE)
        beyond = _measure.complaint(ours, theirs, wide)
        if beyond:
            return beyond
        left_out = self.left_out(ours, theirs)
        return "" if left_out <= LEFT_OUT * self.jumps.size else _TOO_MANY.format(left_out, plain)

    def left_out(self, ours: npt.ArrayLike, theirs: npt.ArrayLike) -> int:
        """Count the entries that are only excused by a jump."""
        over = _measure.errors(ours, theirs) > self.tolerance.allowed
        return int((over & self.jumps).sum())

    def measure(self, ours: npt.ArrayLike, theirs: npt.ArrayLike, eps: float) -> _measure.Measured:
        """Measure the differences of all entries that are not excused by a jump."""
        over = _measure.errors(ours, theirs) > self.tolerance.allowed
        ours = np.where(over & self.jumps, theirs, ours)
        return _measure.measure(ours, theirs, self.tolerance, eps)


_ONE = np.array(1.0)
_TOO_MANY = (
    "{} entries lie on a kink (torch's own result jumps there when its operands move by a few "
    "units in the last place); choose operands away from it: {}"
)


def allowed(
    ask: Callable[[Sequence[np.ndarray]], Answer],
    numbers: Sequence[np.ndarray],
    answer: Answer,
    dtype: DTypeLike,
    ulp: float | None = None,
    seed: int = 0,
) -> dict[str, Allowed]:
    """Return what is allowed for every array of ``answer``, which is ``ask(numbers)``."""
    dtype = jnp.dtype(dtype)
    eps = float(jnp.finfo(dtype).eps)
    rng = np.random.default_rng(seed)
    moves = _moves(ask, numbers, answer, dtype, rng)
    coarse = max(dtype, jnp.dtype(_OTHER[dtype.name]), key=lambda d: jnp.finfo(d).eps)
    rounding = _moves(ask, numbers, answer, jnp.dtype(_OTHER[dtype.name]), rng)
    largest = max((_largest(x) for x in answer.values()), default=0.0)
    found = {}
    for name, theirs in answer.items():
        jumps = moves[name] > np.sqrt(eps) * largest
        plain = np.where(jumps, 0, moves[name] / eps)
        reached = np.maximum(plain, rounding[name] / float(jnp.finfo(coarse).eps)) / REACH
        tolerance = _tolerance(theirs, reached, ULP[dtype.name] if ulp is None else ulp, eps)
        found[name] = Allowed(tolerance, jumps, moves[name])
    return found


def _moves(
    ask: Callable[[Sequence[np.ndarray]], Answer],
    numbers: Sequence[np.ndarray],
    answer: Answer,
    dtype: DTypeLike,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Return how far each entry moves at most, when asked in ``dtype``."""
    moves = {name: np.zeros(x.shape) for name, x in answer.items()}
    eps = max(float(jnp.finfo(x.dtype).eps) for x in (*numbers, np.zeros(0, dtype)))
    same = all(x.dtype == dtype for x in numbers)
    for _ in range(PROBES if same else PROBES // 2):
        try:
            other = ask([_moved(x, eps, rng).astype(dtype) for x in numbers])
        except (RuntimeError, TypeError):
            break  # torch computes this in one precision only
        for name, x in other.items():
            if x.shape == answer[name].shape and (same or is_float(x)):
                move = np.nan_to_num(_measure.errors(x, answer[name]), nan=0, posinf=0)
                moves[name] = np.maximum(moves[name], move)
    return moves


def _tolerance(theirs: np.ndarray, reached: np.ndarray, ulp: float, eps: float) -> Tolerance:
    if not is_float(theirs):
        return Tolerance(np.zeros(theirs.shape), np.ones(theirs.shape))
    with np.errstate(invalid="ignore"):
        size = np.where(np.isfinite(_measure.wide(theirs)), np.abs(_measure.wide(theirs)), 0)
    scale = np.maximum(size, reached)
    scale = np.maximum(scale, FLOOR * np.max(scale, initial=0.0))
    return Tolerance(ulp * eps * scale, scale)


def _moved(x: np.ndarray, eps: float, rng: np.random.Generator) -> np.ndarray:
    step = REACH * eps * rng.uniform(-1, 1, x.shape)
    with np.errstate(invalid="ignore"):
        return _measure.wide(x) * (1 + step)


def _largest(x: np.ndarray) -> float:
    size = np.abs(_measure.wide(x))
    return float(np.max(np.where(np.isfinite(size), size, 0), initial=0.0))
