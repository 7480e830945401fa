"""Our answer to a question, and in which ways it can be asked for."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxwarp.testing._operands import is_float, named_leaves
from jaxwarp.testing._question import Question, differentiated_twice, refuse_other_kinds

Answer = dict[str, np.ndarray]


class Ours(NamedTuple):
    """A function of extras and operands that returns its result, and what has no gradient.

    A translation asks it in other names and layouts than torch's, and puts the answer back.
    Programs are kept for equal ``call``, so whatever it holds must take part in its equality.
    """

    call: Callable[..., tuple[PyTree, Mapping[str, jax.Array]]]
    extras: PyTree = ()
    translation: Any = None

    def posed(self, question: Question) -> Question:
        """Return the question in our names and layouts."""
        return self.translation.question(question) if self.translation else question


class _Asked(NamedTuple):
    """Whatever of a question a program depends on, apart from shapes and dtypes."""

    structure: Any
    names: tuple[str, ...]
    expected: tuple[Any, ...]
    differentiated: tuple[int, ...]
    order: int
    forward: bool


def answer(ours: Ours, question: Question, way: str) -> Answer:
    """Return values and derivatives by name, asked for in one of the `WAYS`."""
    question = ours.posed(question)
    given = (question.operands.leaves, dict(question.cotangents), question.tangents)
    leaves, cotangents, tangents = jax.device_put(given)
    found = _program(ours.call, asked(question), way)(leaves, cotangents, (ours.extras, tangents))
    found = jax.tree.map(np.asarray, found)
    return ours.translation.answer(found) if ours.translation else found


def asked(question: Question) -> _Asked:
    """Return what a program for the question depends on."""
    operands = question.operands
    wanted = (operands.differentiated, question.order, question.forward)
    return _Asked(operands.structure, operands.names, question.expected(), *wanted)


def program(call: Callable[..., PyTree], asked: _Asked) -> Callable[..., dict[str, PyTree]]:
    """Return all that is asked for as one function that can be traced."""

    def run(leaves, cotangents, extras):
        extras, tangents = extras
        return _run(call, asked, leaves, cotangents, extras, tangents)

    return run


@lru_cache(maxsize=32)
def _program(call, asked: _Asked, way: str):
    return WAYS[way](program(call, asked))


def _mapped(run):
    """Map over a stack of every floating operand and of the cotangents."""

    def stacked(leaves, cotangents, extras):
        axes = tuple(0 if is_float(x) else None for x in leaves)
        return jax.vmap(run, in_axes=(axes, 0, None))(leaves, cotangents, extras)

    return jax.jit(stacked)


WAYS: dict[str, Callable[[Any], Any]] = {
    "eager": lambda run: run,
    "jit": jax.jit,
    "vmap": _mapped,
}


def _run(call, asked, leaves, cotangents, extras, tangents) -> dict[str, PyTree]:
    moving = tuple(leaves[i] for i in asked.differentiated)

    def f(*moving):
        rest = list(leaves)
        for i, x in zip(asked.differentiated, moving, strict=True):
            rest[i] = x
        result, after = _called(call, asked.structure, extras, rest)
        refuse_other_kinds(result | after, asked.expected)
        weighed = {n: result[n] for n in cotangents}
        return weighed, {n: x for n, x in (result | after).items() if n not in weighed}

    if not asked.order and not asked.forward:
        weighed, others = f(*moving)
        return weighed | others
    names = [asked.names[i] for i in asked.differentiated]
    weighed, pull, others = jax.vjp(f, *moving, has_aux=True)
    found = weighed | others
    if asked.order:
        found |= {f"d {n}": g for n, g in zip(names, pull(cotangents), strict=True)}
    if asked.forward or asked.order > 1:
        found |= _further(asked, lambda *x: f(*x)[0], names, moving, cotangents, tangents)
    return found


def _further(asked, f, names, moving, cotangents, tangents) -> dict[str, PyTree]:
    """Return J u, and the gradient of <c, J u> by three routes."""

    def gradients(*moving):
        return jax.vjp(f, *moving)[1](cotangents)

    def forward(*moving):
        return jax.jvp(f, moving, tangents)[1]

    pushed = forward(*moving)
    found = {f"J u of {n}": x for n, x in pushed.items()}
    if asked.order < 2:
        return found
    routes = {
        "": jax.vjp(gradients, *moving)[1](tangents),
        " (forward over reverse)": jax.jvp(gradients, moving, tangents)[1],
        " (reverse over forward)": jax.vjp(forward, *moving)[1](cotangents),
    }
    for route, result in routes.items():
        found |= {
            f"{differentiated_twice(n)}{route}": g for n, g in zip(names, result, strict=True)
        }
    return found


def _called(call, structure, extras, leaves) -> tuple[dict[str, PyTree], dict[str, PyTree]]:
    result, after = call(extras, *jax.tree.unflatten(structure, leaves))
    named = named_leaves("ours", result)
    return {name: _as_array(name, x) for name, x in named.items()}, dict(after)


def _as_array(name: str, x: Any) -> Any:
    try:
        return jnp.asarray(x)
    except TypeError as error:
        raise TypeError(f"ours must return arrays, got {type(x).__name__} as {name}") from error
