"""Every case of the table has torch's gradient for every operand, kinks included."""

import pytest

from parity_tests.harness import cases, compare, jax_side, reference, torch_side
from parity_tests.harness.cases import NOT_FINITE, THIN, Case
from parity_tests.harness.report import Parity


@pytest.mark.parametrize("case", cases.CASES, ids=str)
def test_gradients_are_torchs(case: Case, parity: Parity) -> None:
    """At coordinates that are not finite, where torch crashes: the documented ones."""
    problem = cases.problem(case)
    ct = compare.cotangent(problem)
    ours = jax_side.run(jax_side.first_order, problem, ct)
    oracle = reference if case.positions == NOT_FINITE else torch_side
    theirs = oracle.first_order(problem, ct)
    tolerances = compare.first_order(problem, theirs, torch_side.uses_cudnn(case))
    for i, name in enumerate(problem.operands, start=1):
        parity.same(case, f"d {name}", ours[i], theirs[i], tolerances[i])


# remap is grid_sample in other units, see test_theorems.
TWICE = [
    c
    for c in cases.CASES
    if c.dtype == "float64"
    and c.op not in ("remap", "splat")
    and c.positions not in (NOT_FINITE, THIN)
]


@pytest.mark.parametrize("case", TWICE, ids=str)
def test_second_derivatives_are_torchs(case: Case, parity: Parity) -> None:
    """J u, and both gradients of <c, J u> by three routes, against torch's double backward."""
    problem = cases.problem(case)
    ct, tangents = compare.cotangent(problem, order=2), cases.tangents(problem)
    theirs = torch_side.second_order(problem, ct, tangents)
    j_u, *routes = jax_side.run(jax_side.second_order, problem, ct, tangents)
    tolerances = compare.second_order(problem, tangents, theirs)
    parity.same(case, "J u", j_u, theirs[0], tolerances[0])
    for gradients in routes:
        for i, name in enumerate(problem.operands):
            what = f"d2 {name}"
            parity.same(case, what, gradients[i], theirs[i + 1], tolerances[i + 1])
