"""jaxwarp's answer to every case.

Each lens is one compiled program for each way of asking, kept for the cases that share it:
compiling is what takes the suite's time.
"""

from collections.abc import Callable
from functools import lru_cache

import jax
import numpy as np
from jaxtyping import PyTree

import jaxwarp
from parity_tests.harness import cases, quickly
from parity_tests.harness.cases import Case, Problem


def function(case: Case, size: tuple[int, ...], **layout: int) -> Callable[..., jax.Array]:
    """Return the case's operation as a function of its operands alone."""
    f = getattr(jaxwarp, case.op)
    if case.op == "grid_sample":
        options = (case.mode, case.padding, case.align_corners)
        return lambda image, grid: f(image, grid, *options, **layout)
    if case.op == "remap":
        return lambda image, positions: f(image, positions, case.mode, case.padding, **layout)
    if case.op == "splat":
        options = (size, case.mode, case.padding, case.align_corners)
        return lambda values, grid: f(values, grid, *options, **layout)
    if case.op in _OBJECTS:
        return _OBJECTS[case.op](f, case)
    if case.op in ("affine_grid", "homography_grid"):
        return lambda theta: f(theta, (theta.shape[0], 1, *size), case.align_corners)
    if case.op == "tps_grid":
        return lambda target, source: f(
            target, source, (target.shape[0], 1, *size), case.align_corners
        )
    if case.op == "flow_grid":
        return lambda flow: f(flow, case.align_corners)
    return f


_OBJECTS = {
    "patch_affine": lambda f, case: (
        lambda img, theta: f(
            img,
            cases.BOXES,
            theta,
            cases.OWNERS,
            mode=case.mode,
            padding_mode=case.padding,
            align_corners=case.align_corners,
        )
    ),
    "crop_and_resize": lambda f, case: (
        lambda img, boxes: f(
            img, boxes, cases.OWNERS, cases.PATCH, mode=case.mode, padding_mode=case.padding
        )
    ),
    "paste": lambda f, case: (
        lambda canvas, patches, boxes: f(canvas, patches, boxes, cases.OWNERS, mode=case.mode)
    ),
}


def run(
    lens: Callable[..., PyTree[jax.Array]],
    problem: Problem,
    *arguments: PyTree[np.ndarray],
    **layout: int,
) -> PyTree[np.ndarray]:
    """Run a lens on the problem's operands and more arguments; return NumPy arrays."""
    case = problem.case
    size = () if case.samples else problem.size
    key = (case.op, case.mode, case.padding, case.align_corners)
    program = _program(lens, key, size, tuple(sorted(layout.items())))
    return jax.tree.map(np.asarray, program(tuple(problem.operands.values()), *arguments))


# Tests that share a program follow each other, with other lenses in between; in test_properties
# each of the 18 ways of sampling comes up again and again. More would take too much memory.
@lru_cache(maxsize=24)
def _program(lens, key, size, layout):
    """Compile once for all that share it; what shapes and dtypes say is left to jit's cache."""
    op, mode, padding, align_corners = key
    f = function(Case(op, 0, "", mode, padding, align_corners), size, **dict(layout))
    options = quickly.options(optimised=lens is first_order)
    return jax.jit(lambda *arguments: lens(f, *arguments), compiler_options=options)


# The lenses ------------------------------------------------------------------


def first_order(f, operands, cotangent):
    """Return the value and the gradient of every operand; as optimised as everyone's program."""
    result, pull = jax.vjp(f, *operands)
    return result, *pull(cotangent)


def second_order(f, operands, cotangent, tangents):
    """Return J u, and the gradient of <c, J u> for every operand by three routes.

    Reverse over reverse, forward over reverse and reverse over forward.
    """

    def gradients(*operands):
        return jax.vjp(f, *operands)[1](cotangent)

    def forward(*operands):
        return jax.jvp(f, operands, tangents)[1]

    _, pull_gradients = jax.vjp(gradients, *operands)
    j_u, pull_forward = jax.vjp(forward, *operands)
    _, forward_over_reverse = jax.jvp(gradients, operands, tangents)
    return j_u, pull_gradients(tangents), forward_over_reverse, pull_forward(cotangent)


def differentiated_map(f, operands, stacks, cotangents):
    """Map over a stack of each operand in turn, and differentiate the map."""
    results = []
    for i, stack in enumerate(stacks):
        mapped = jax.vmap(f, in_axes=[0 if j == i else None for j in range(len(operands))])
        results.append(first_order(mapped, _with(operands, i, stack), cotangents))
    return results


def mapped_derivatives(f, operands, stacks, cotangents):
    """Map value and gradients together over a stack of each operand in turn."""
    return [
        jax.vmap(lambda x, ct, i=i: first_order(f, _with(operands, i, x), ct))(stack, cotangents)
        for i, stack in enumerate(stacks)
    ]


def checkpointed_scan(f, operands, stacks, cotangents):
    """Scan a checkpointed operation over a stack of its last operand, and differentiate that."""

    def scanned(*operands):
        def step(carry, x):
            return carry, jax.checkpoint(f)(*operands[:-1], x)

        return jax.lax.scan(step, (), operands[-1])[1]

    return first_order(scanned, (*operands[:-1], stacks[-1]), cotangents)


def _with(operands, i, x):
    return (*operands[:i], x, *operands[i + 1 :])
