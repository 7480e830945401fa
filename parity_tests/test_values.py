"""Every case of the table has torch's value."""

import numpy as np
import pytest

from parity_tests.harness import cases, compare, jax_side, reference, torch_side
from parity_tests.harness.cases import NOT_FINITE, Case
from parity_tests.harness.report import Parity

FINITE = [c for c in cases.CASES if c.positions != NOT_FINITE]
ODD = [c for c in cases.CASES if c.positions == NOT_FINITE]


@pytest.mark.parametrize("case", FINITE, ids=str)
def test_value_is_torchs(case: Case, parity: Parity) -> None:
    problem = cases.problem(case)
    ct = compare.cotangent(problem)
    ours = jax_side.run(jax_side.first_order, problem, ct)[0]
    theirs = torch_side.first_order(problem, ct)
    tolerance = compare.first_order(problem, theirs, torch_side.uses_cudnn(case))[0]
    parity.same(case, "value", ours, theirs[0], tolerance)


@pytest.mark.parametrize("case", ODD, ids=str)
def test_value_at_not_finite_coordinates_is_the_documented_one(case: Case, parity: Parity) -> None:
    problem = cases.problem(case)
    ct = compare.cotangent(problem)
    ours = jax_side.run(jax_side.first_order, problem, ct)[0]
    expected = reference.first_order(problem, ct)
    parity.same(case, "value", ours, expected.value, compare.first_order(problem, expected)[0])


@pytest.mark.parametrize("case", [c for c in ODD if c.op == "grid_sample"], ids=str)
def test_value_at_not_finite_coordinates_is_torchs_where_its_kernels_agree(case: Case) -> None:
    """Values only: torch's backward pass may crash the process on these coordinates."""
    problem = cases.problem(case)
    ct = compare.cotangent(problem)
    ours = jax_side.run(jax_side.first_order, problem, ct)[0]
    theirs = torch_side.value(problem)
    agree = _torch_agrees(case, problem.operands["grid"])[:, None]
    assert agree.any()
    tolerance = compare.first_order(problem, [theirs])[0]
    ours, theirs = np.where(agree, ours, 0), np.where(agree, theirs, 0)
    compare.same(str(case), ours, theirs, tolerance, case.eps)


# Where torch's kernels give for (NaN, infinities) what jaxwarp documents; for huge numbers they
# all do. One axis is sampled by the 4-D kernel, too.
_AGREES = {
    ("4-D", "nearest", "zeros"): (True, True),
    ("4-D", "nearest", "border"): (True, True),
    ("4-D", "nearest", "reflection"): (True, True),
    ("4-D", "bilinear", "border"): (True, True),
    ("4-D", "bilinear", "reflection"): (True, True),
    ("5-D", "nearest", "zeros"): (True, True),
    ("5-D", "nearest", "border"): (False, True),
    ("5-D", "bilinear", "zeros"): (True, True),
    ("5-D", "bilinear", "border"): (False, True),
}


def _torch_agrees(case: Case, grid: np.ndarray) -> np.ndarray:
    kernel = "5-D" if case.axes == 3 else "4-D"
    nan, infinite = _AGREES.get((kernel, case.mode, case.padding), (False, False))
    has_nan, has_infinite = (np.any(f(grid), axis=-1) for f in (np.isnan, np.isinf))
    return np.where(has_nan, nan, np.where(has_infinite, infinite, True))


@pytest.mark.parametrize("case", [c for c in FINITE if c.samples and c.axes > 1], ids=str)
def test_the_reference_is_torch(case: Case) -> None:
    """The NumPy reference may speak for torch where torch is silent: elsewhere they agree."""
    problem = cases.problem(case)
    ct = compare.cotangent(problem)
    theirs = torch_side.first_order(problem, ct)
    tolerances = compare.first_order(problem, theirs, torch_side.uses_cudnn(case))
    expected = reference.first_order(problem, ct)
    for name, ours, other, t in zip(expected._fields, expected, theirs, tolerances, strict=True):
        compare.same(f"{case}: {name}", ours, other, t, case.eps)
