"""Ask both sides one question, and judge the answers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxwarp.testing import _jax_side, _torch_side, _wobble
from jaxwarp.testing._jax_side import Ours
from jaxwarp.testing._measure import wide
from jaxwarp.testing._operands import Operands, is_float
from jaxwarp.testing._question import Question, Side, draw
from jaxwarp.testing._report import Row
from jaxwarp.testing._suspects import suspects_of
from jaxwarp.testing._symptoms import RANDOM, symptoms_of
from jaxwarp.testing._wobble import Allowed

_SHOWN = 12


class Wanted(NamedTuple):
    """What is to be compared, and how strictly."""

    order: int = 1
    forward: bool = False
    under: tuple[str, ...] = ("eager",)
    ulp: float | None = None
    equal_nan: bool = False
    seed: int = 0


class Judged(NamedTuple):
    """An answer of ours next to torch's, and what is allowed between them."""

    way: str
    ours: Mapping[str, np.ndarray]
    theirs: Mapping[str, np.ndarray]
    allowed: Mapping[str, Allowed]

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Yield the names of arrays on both sides; ours may come to one by several routes."""
        order = list(self.theirs)
        pairs = [(n, n.partition(" (")[0] if n not in self.theirs else n) for n in self.ours]
        yield from sorted(pairs, key=lambda pair: order.index(pair[1]))

    def complaints(self, equal_nan: bool) -> dict[str, str]:
        """Return what is wrong with each of our arrays."""
        found = {}
        for name, other in self.pairs():
            ours, theirs = self.ours[name], self.theirs[other]
            text = self.allowed[other].complaint(ours, theirs) or _hidden(ours, theirs, equal_nan)
            if text and is_float(ours) and not wide(ours).any():
                text += "; ours is zero everywhere"
            if text:
                found[name] = text
        return found


def compare(
    name: str,
    ours: Ours,
    theirs: Side,
    operands: Operands,
    wanted: Wanted,
    layer: Callable[[], str] = lambda: "",
    doubts: Sequence[str] = (),
) -> list[Row]:
    """Compare all that is wanted.

    ``layer`` names the layer where a difference begins; ``doubts`` are what might explain it.
    """
    dtype = _precision(operands)
    values = _torch_side.values(theirs, operands)
    _refuse_random(values, _torch_side.values(theirs, operands))
    question = draw(operands, values, wanted.order, wanted.forward, wanted.seed)
    if (wanted.order or wanted.forward) and not (question.cotangents and operands.differentiated):
        raise ValueError(
            f"{name}: there is no gradient to compare, as "
            + ("no result of torch's" if operands.differentiated else "no operand")
            + " is floating; pass order=0 to compare values only"
        )
    rows: list[Row] = []
    for way in wanted.under:
        try:
            judged = _judged(ours, theirs, question, wanted, way, dtype)
        except AssertionError as error:
            raise AssertionError(f"{name}, {dtype}: {error}") from error
        complaints = judged.complaints(wanted.equal_nan)
        if complaints:
            hints = list(_hints(ours, theirs, question, judged, complaints, layer, doubts))
            raise AssertionError(_message(f"{name}, {dtype}", judged, complaints, hints))
        rows += _rows(judged, dtype)
    return rows


def _precision(operands: Operands) -> str:
    floats = operands.floats()
    return str(floats[0].dtype) if floats else "float64"


def _refuse_random(values: Mapping[str, np.ndarray], again: Mapping[str, np.ndarray]) -> None:
    for name, x in values.items():
        # Sums on a GPU come in any order, and differ in their last bits.
        noise = 1e-2 * np.max(np.abs(np.nan_to_num(wide(x))), initial=0.0)
        if is_float(x) and not np.allclose(wide(x), wide(again[name]), 0, noise, equal_nan=True):
            raise ValueError(
                f"theirs returns another {name} each time: it draws random numbers, which cannot "
                "be the same in JAX; take dropout out on both sides"
            )


# Asking -----------------------------------------------------------------------


def _judged(ours, theirs, question: Question, wanted: Wanted, way: str, dtype: str) -> Judged:
    if way != "vmap":
        answer = _torch_side.answer(theirs, question)
        allowed = _allowed(theirs, question, answer, wanted, dtype)
        return Judged(way, _jax_side.answer(ours, question, way), answer, allowed)
    examples = [question, _neighbour(question, wanted.seed)]
    answers = [_torch_side.answer(theirs, q) for q in examples]
    each = [_allowed(theirs, q, a, wanted, dtype) for q, a in zip(examples, answers, strict=True)]
    stacked = question._replace(
        operands=question.operands.replaced(
            [np.stack(pair) for pair in zip(*(q.operands.floats() for q in examples), strict=True)]
        ),
        cotangents={n: np.stack([c, c]) for n, c in question.cotangents.items()},
    )
    return Judged(
        way,
        _jax_side.answer(ours, stacked, way),
        {n: np.stack([a[n] for a in answers]) for n in answers[0]},
        {n: _stacked([a[n] for a in each]) for n in answers[0]},
    )


def _allowed(theirs, question: Question, answer, wanted: Wanted, dtype: str):
    return _wobble.allowed(
        lambda moved: _torch_side.answer(theirs, question.at(moved)),
        question.numbers(),
        answer,
        dtype,
        wanted.ulp,
        wanted.seed,
    )


def _neighbour(question: Question, seed: int) -> Question:
    """Ask the same a few percent aside: it stays in the function's domain."""
    rng = np.random.default_rng((seed, 1))
    floats = question.operands.floats()
    aside = [(wide(x) * (1 + rng.uniform(-0.05, 0.05, x.shape))).astype(x.dtype) for x in floats]
    return question.at([*aside, *question.numbers()[len(floats) :]])


def _stacked(allowed: Sequence[Allowed]) -> Allowed:
    return jax.tree.map(lambda *x: np.stack(x), *allowed)


# Judging ----------------------------------------------------------------------


def _hidden(ours: np.ndarray, theirs: np.ndarray, equal_nan: bool) -> str:
    both = np.isnan(wide(ours)) & np.isnan(wide(theirs))
    if equal_nan or not both.any():
        return ""
    at = tuple(int(i) for i in np.argwhere(both)[0])
    return (
        f"NaN on both sides in {int(both.sum())} of {both.size} entries, the first at {at}: "
        "nothing is compared there; pass equal_nan=True if that is meant"
    )


def _rows(judged: Judged, dtype: str) -> list[Row]:
    rows = []
    for name, other in judged.pairs():
        ours, theirs = judged.ours[name], judged.theirs[other]
        eps = float(jnp.finfo(theirs.dtype).eps) if is_float(theirs) else 1.0
        measured = judged.allowed[other].measure(ours, theirs, eps)
        what = name if judged.way == "eager" else f"{name}, {judged.way}"
        rows.append(Row(what, dtype, measured))
    return rows


def _hints(ours, theirs, question, judged: Judged, complaints, layer, doubts) -> Iterator[str]:
    try:
        yield layer()
        yield from _likely(ours, theirs, question, judged, complaints, doubts)
    except Exception as error:  # looking for the reason must not hide the difference
        yield from doubts
        yield f"no more is known: {type(error).__name__}: {error}"


def _likely(ours, theirs, question, judged: Judged, complaints, doubts) -> Iterator[str]:
    symptoms = symptoms_of(ours, question, complaints)
    found: list[str] = []
    if judged.way != "vmap" and RANDOM not in symptoms:  # torch cannot draw the same numbers
        found += suspects_of(theirs, question, judged, complaints)
    yield from found or doubts
    yield from symptoms.values()


def _message(name: str, judged: Judged, complaints: Mapping[str, str], hints: list[str]) -> str:
    way = "" if judged.way == "eager" else f" under {judged.way}"
    lines = [f"{name}{way}: {len(complaints)} of {len(judged.ours)} arrays differ from torch's"]
    lines += [f"  {what}: {text}" for what, text in list(complaints.items())[:_SHOWN]]
    if len(complaints) > _SHOWN:
        lines.append(f"  and {', '.join(list(complaints)[_SHOWN:])}")
    good = [n for n, _ in judged.pairs() if n not in complaints]
    if good:
        lines.append(f"  the same: {', '.join(good[:_SHOWN])}{', ...' * (len(good) > _SHOWN)}")
    return "\n".join([*lines, *(f"  {hint}" for hint in dict.fromkeys(hints) if hint)])
