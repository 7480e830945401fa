"""What both sides are asked: a function, its operands, and which derivatives."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from jaxwarp.testing._operands import Operands, is_float


class Question(NamedTuple):
    """Operands, what torch returns for them, cotangents and tangents, and what is asked."""

    operands: Operands
    values: Mapping[str, np.ndarray]
    cotangents: Mapping[str, np.ndarray]
    tangents: tuple[np.ndarray, ...]
    order: int
    forward: bool

    def wants_tangents(self) -> bool:
        """Tell whether J u is asked for."""
        return self.forward or self.order > 1

    def expected(self) -> tuple[tuple[str, tuple[int, ...], str], ...]:
        """Return name, shape and dtype of every result, with the dtypes that JAX has here."""
        return tuple(
            (name, x.shape, str(jax.dtypes.canonicalize_dtype(x.dtype)))
            for name, x in sorted(self.values.items())
        )

    def numbers(self) -> list[np.ndarray]:
        """Return every floating number that the answer depends on."""
        return [*self.operands.floats(), *self.cotangents.values(), *self.tangents]

    def at(self, numbers: Sequence[np.ndarray]) -> "Question":
        """Ask the same at other numbers, in the order of `numbers`."""
        rest = iter(numbers)
        floats = [next(rest) for _ in self.operands.moving]
        cotangents = {name: next(rest) for name in self.cotangents}
        operands = self.operands.replaced(floats)
        return self._replace(operands=operands, cotangents=cotangents, tangents=tuple(rest))


def differentiated_twice(name: str) -> str:
    """Name the gradient of <c, J u> with respect to an operand."""
    return f"d2 {name}"


def draw(
    operands: Operands, values: Mapping[str, np.ndarray], order: int, forward: bool, seed: int
) -> Question:
    """Draw a cotangent for every floating result, and a tangent for every operand."""
    rng = np.random.default_rng(seed)
    cotangents = {
        name: rng.normal(size=x.shape).astype(x.dtype)
        for name, x in sorted(values.items())
        if is_float(x) and not name.startswith(AFTER)
    }
    tangents = tuple(
        rng.normal(size=operands.leaves[i].shape).astype(operands.leaves[i].dtype)
        for i in operands.differentiated
    )
    return Question(operands, values, cotangents, tangents, order, forward)


# What a module's buffers are called once it was called: they take no cotangent.
AFTER = "after "

# A function of the operands that returns its result, and what is compared but has no gradient.
Side = Callable[..., tuple[PyTree, Mapping[str, PyTree]]]


def refuse_other_kinds(ours: Mapping[str, PyTree], expected: tuple[PyTree, ...]) -> None:
    """Raise an AssertionError unless results have the names, shapes and dtypes expected."""
    found = {name: (tuple(x.shape), str(x.dtype)) for name, x in ours.items()}
    wanted = {name: (shape, dtype) for name, shape, dtype in expected}
    wrong = [f"only ours returns {name}" for name in sorted(found.keys() - wanted.keys())]
    wrong += [f"only torch returns {name}" for name in sorted(wanted.keys() - found.keys())]
    for name in sorted(found.keys() & wanted.keys()):
        if found[name] != wanted[name]:
            (shape, dtype), (their_shape, their_dtype) = found[name], wanted[name]
            wrong.append(f"{name} is {dtype}{shape} against torch's {their_dtype}{their_shape}")
    if wrong:
        raise AssertionError("the results are not alike:\n  " + "\n  ".join(wrong))
