"""Derivatives against finite differences, all of them in one compiled program.

`jax.test_util.check_grads` compares the same things, but asks for them one by one: at second order
that is a dozen programs, each of which contains most of the others.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import ArrayLike, PyTree

STEP = 1e-4


def check_derivatives(
    f: Callable[..., jax.Array], operands: Sequence[ArrayLike], order: int, tolerance: float
) -> None:
    """Compare derivatives forward and reverse, and up to `order` each over the other.

    Forward ones are compared with differences of what is derived, along a random direction in all
    operands; reverse ones are its adjoint, which rounding alone may disturb. What is derived at
    second order is the value with both first derivatives, as a function of the operands, their
    tangents and the result's cotangent. The values that come with derivatives are compared, too.
    """
    random = np.random.default_rng(0)
    functions: list[Callable[..., Any]] = [f]
    at: Any = tuple(np.asarray(x) for x in operands)
    for _ in range(order):
        at = (at, *_directions(random, functions[-1], at))
        functions.append(both_ways(functions[-1]))
    derived = functions.pop()

    @jax.jit
    def program(*at):
        result, values = derived(*at), []
        for g in reversed(functions):
            values.append(_values(g, *at[:2]))
            at = at[0]
        return result, values

    def value(step: float) -> PyTree[jax.Array]:
        base, tangents, cotangents = at
        moved = jax.tree.map(lambda x, u: x + step * u, base, tangents)
        return program(moved, tangents, cotangents)[0][0]

    (_, forward, reverse), values = program(*at)
    for plain, pushed, pulled in values:
        _same(pushed, plain, tolerance)
        _same(pulled, plain, tolerance)
    higher, lower = value(STEP), value(-STEP)
    differences = jax.tree.map(lambda x, y: (x - y) / (2 * STEP), higher, lower)
    _same(forward, differences, tolerance)
    _same_inner_product(at[2], forward, reverse, at[1])


def both_ways(f: Callable[..., PyTree[jax.Array]]) -> Callable[..., tuple[Any, Any, Any]]:
    """Return a function of operands, tangents and cotangents: f's value, J u and c J."""

    def derived(operands, tangents, cotangents):
        value, pull = jax.vjp(f, *operands)
        return value, jax.jvp(f, operands, tangents)[1], pull(cotangents)

    return derived


def _values(f: Callable[..., Any], operands: PyTree, tangents: PyTree) -> tuple[Any, Any, Any]:
    """Return f's value as it is, beside J u, and beside c J."""
    return f(*operands), jax.jvp(f, operands, tangents)[0], jax.vjp(f, *operands)[0]


def _directions(random: np.random.Generator, f: Callable[..., Any], operands: PyTree) -> Any:
    """Draw tangents for the operands and cotangents for the result."""

    def like(x):
        return np.asarray(random.standard_normal(x.shape), x.dtype)

    return jax.tree.map(like, (operands, jax.eval_shape(f, *operands)))


def _same(ours: PyTree, expected: PyTree, tolerance: float) -> None:
    for x, y in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)


def _same_inner_product(cotangents, forward, reverse, tangents) -> None:
    """Hold <c, J u> against <c J, u>: what is left of sums that cancel is rounding."""
    one, other = _products(cotangents, forward), _products(reverse, tangents)
    bound = 1e-9 * (1 + np.abs(one).sum() + np.abs(other).sum())
    np.testing.assert_allclose(one.sum(), other.sum(), rtol=0, atol=bound)


def _products(a: PyTree, b: PyTree) -> np.ndarray:
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return np.concatenate([np.ravel(np.asarray(x) * np.asarray(y)) for x, y in pairs])
