"""jaxwarp.testing on functions: what it compares, what it allows, what it says to bad input."""

import subprocess
import sys
from importlib.metadata import version
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jaxwarp
from jaxwarp import testing
from jaxwarp.testing import Measured, Report, Row, assert_module_parity, assert_parity

X = np.random.default_rng(0).normal(size=(3, 4))


pytestmark = pytest.mark.usefixtures("as_users_have_it")


def identity(x):
    return x


def whats(report):
    return [row.what for row in report.rows]


# What is compared -------------------------------------------------------------


def test_values_and_gradients_of_every_floating_operand_by_name():
    def ours(table, index, scale):
        return {"rows": table["t"][index] * scale, "index": index}

    def theirs(table, index, scale):
        return {"rows": table["t"][index] * scale, "index": index}

    report = assert_parity(ours, theirs, {"t": X}, np.array([2, 0]), 0.5)
    assert whats(report) == ["value.index", "value.rows", "d table.t", "d scale"]
    assert report.name == "ours"
    assert all(row.dtype == "float64" for row in report.rows)


def test_lists_and_tuples_are_the_same_and_torchs_named_tuples_too():
    assert_parity(lambda x: [jnp.max(x, 1), jnp.argmax(x, 1)], lambda x: x.max(1), X)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_every_precision(dtype):
    report = assert_parity(jnp.tanh, torch.tanh, X, dtypes=[dtype])
    assert {row.dtype for row in report.rows} == {dtype}


def test_second_derivatives_and_forward_mode_in_every_way():
    options: dict[str, Any] = {"order": 2, "forward": True, "under": ["eager", "jit", "vmap"]}
    report = assert_parity(lambda x: x**3, lambda x: x**3, X, **options)
    expected = ["value", "d x", "J u of value", "d2 x"]
    expected += ["d2 x (forward over reverse)", "d2 x (reverse over forward)"]
    ways = [*expected, *(f"{w}, jit" for w in expected), *(f"{w}, vmap" for w in expected)]
    assert whats(report) == ways


def test_a_wrong_derivative_is_found_in_its_order_only():
    @jax.custom_jvp
    def cube(x):
        return x**3

    cube.defjvp(lambda p, t: (cube(*p), 3 * jax.lax.stop_gradient(p[0]) ** 2 * t[0]))
    assert_parity(cube, lambda x: x**3, X)
    with pytest.raises(AssertionError, match=r"the same: value, d x, J u of value") as error:
        assert_parity(cube, lambda x: x**3, X, order=2)
    error.match(r"d2 x: 12 of 12 entries differ.*; ours is zero everywhere")


def test_what_only_vmap_gets_wrong_is_found():
    @jax.custom_batching.custom_vmap
    def double(x):
        return 2 * x

    double.def_vmap(lambda size, batched, x: (3 * x, True))
    assert_parity(double, lambda x: 2 * x, X, order=0, under=["eager", "jit"])
    with pytest.raises(AssertionError, match=r"under vmap: 1 of 1 arrays differ"):
        assert_parity(double, lambda x: 2 * x, X, order=0, under=["vmap"])


def test_a_function_that_looks_at_its_values_runs_eagerly():
    def ours(x):
        return x if x.sum() > 0 else -x

    assert_parity(ours, lambda x: x if x.sum() > 0 else -x, X)
    with pytest.raises(AssertionError, match="arrays differ"):
        assert_parity(ours, lambda x: 2 * x, X)


def test_results_must_be_alike():
    with pytest.raises(AssertionError, match=r"only ours returns value.0\n.*only ours .*\.1\n.*"):
        assert_parity(lambda x: (x, x), identity, X)
    with pytest.raises(AssertionError, match=r"value is float64\(4, 3\) against .*\(3, 4\)"):
        assert_parity(jnp.transpose, identity, X)
    with pytest.raises(AssertionError, match=r"value is float32\(3, 4\) against torch's float64"):
        assert_parity(lambda x: x.astype(jnp.float32), identity, X)


# What is allowed --------------------------------------------------------------


def test_cancellation_is_not_error():
    """x + 3e5 - 3e5 is good to 1e-10, whatever is left of x; and no better."""

    def theirs(x):
        return x + 3e5 - 3e5

    report = assert_parity(lambda x: x + 1e5 - 1e5, theirs, X)
    assert report.rows[0].measured.ulp > 0
    with pytest.raises(AssertionError, match="12 of 12"):
        assert_parity(lambda x: x + 1e5 - 1e5 + 1e-8, theirs, X)


def test_an_ill_conditioned_problem_is_allowed_its_condition_and_no_more():
    points = np.linspace(0, 1, 8)
    matrix = points[:, None] ** np.arange(8)  # condition number 1e6

    def ours(a, b):
        return jnp.linalg.solve(a, b)

    report = assert_parity(ours, torch.linalg.solve, matrix, np.ones(8), under=["jit"])
    assert report.rows[0].measured.share < 1
    with pytest.raises(AssertionError, match="differ by more than allowed"):
        assert_parity(lambda a, b: ours(a, b) * (1 + 1e-7), torch.linalg.solve, matrix, np.ones(8))


def test_a_relative_error_of_a_few_thousand_ulp_is_found():
    for f, g in [(jnp.exp, torch.exp), (jnp.sin, torch.sin), (jnp.log1p, torch.log1p)]:
        x = np.abs(X)
        assert_parity(f, g, x)
        with pytest.raises(AssertionError, match=r"value: 12 of 12"):
            assert_parity(lambda x, f=f: f(x) * (1 + 1e-12), g, x)


def test_what_is_allowed_is_not_measured_on_our_side():
    """A result that jumps about does not widen its own tolerance."""
    with pytest.raises(AssertionError, match="value: 12 of 12"):
        assert_parity(lambda x: x + 1e-6 * jnp.sin(1e16 * x), identity, X, order=0)


def test_a_jump_in_reach_excuses_few_entries():
    def ours(x):
        return jnp.floor(8 * x + 1e-15)

    def theirs(x):
        return torch.floor(8 * x - 1e-15)

    x = np.random.default_rng(1).uniform(1.01, 1.12, 100)
    x[0] = 1.125  # nine eighths: torch's is 8 there, and ours 9
    assert_parity(ours, theirs, x, order=0)
    with pytest.raises(AssertionError, match=r"20 entries lie on a kink .*; choose operands away"):
        assert_parity(ours, theirs, np.full(20, 1.125), order=0)


def test_ulp_is_what_one_asks_for():
    def ours(x):
        return x * (1 + 1e-13)

    assert_parity(ours, identity, X, ulp=1000)
    with pytest.raises(AssertionError, match="differ"):
        assert_parity(ours, identity, X)


# Bad input --------------------------------------------------------------------

BAD = {
    "text": ((identity, identity, "abc"), TypeError, r"x must hold real numbers.* got <U3 \(str\)"),
    "an object": ((identity, identity, object()), TypeError, r"x must hold .* got object"),
    "ragged": ((identity, identity, [[1.0], "a"]), TypeError, r"x\.1 must hold real numbers"),
    "a tensor": (
        (identity, identity, torch.ones(2)),
        TypeError,
        r"x must be a NumPy array, got Tensor: use \.numpy\(\)",
    ),
    "complex": ((identity, identity, X * 1j), TypeError, r"got complex128"),
    "no operand": ((identity, identity), ValueError, r"operands: give at least one"),
    "ours returns nothing": (
        (lambda x: None, identity, X),
        ValueError,
        r"ours returns nothing: it must return an array",
    ),
    "theirs returns nothing": (
        (identity, lambda x: [], X),
        ValueError,
        r"theirs returns nothing: it must return an array",
    ),
    "theirs returns text": (
        (identity, lambda x: "abc", X),
        TypeError,
        r"theirs must return tensors, got str as value",
    ),
    "ours returns text": (
        (lambda x: "abc", identity, X),
        TypeError,
        r"ours must return arrays, got str as value",
    ),
    "integers": (
        (identity, identity, np.arange(3)),
        ValueError,
        r"no gradient to compare, as no operand is floating; pass order=0",
    ),
    "integers returned": (
        (jnp.argmax, lambda a: a.argmax(), X),
        ValueError,
        r"no gradient to compare, as no result of torch's is floating; pass order=0",
    ),
    "random numbers": (
        (identity, torch.nn.functional.dropout, X),
        ValueError,
        r"theirs returns another value each time: it draws random numbers",
    ),
    "NaN given": (
        (identity, identity, np.array([1, np.nan])),
        ValueError,
        r"x holds 1 NaN, .* pass equal_nan=True",
    ),
    "NaN on both sides": (
        (jnp.log, torch.log, np.array([2.0, -1.0])),
        AssertionError,
        r"value: NaN on both sides in 1 of 2 entries, the first at \(1,\): nothing is compared",
    ),
    "NaN in ours": (
        (lambda x: jnp.where(x > 0, x, jnp.nan), identity, np.array([2.0, -1.0])),
        AssertionError,
        r"value: 1 of 2 .*; NaN on one side only in 1; worst at \(1,\): nan against -1.0",
    ),
    "NaN in torch's": (
        (identity, lambda x: torch.where(x > 0, x, torch.nan), np.array([2.0, -1.0])),
        AssertionError,
        r"value: 1 of 2 .*; NaN on one side only in 1; worst at \(1,\): -1.0 against nan",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    arguments, kind, message = BAD[case]
    with pytest.raises(kind, match=message):
        assert_parity(*arguments)


def test_nan_that_is_meant():
    assert_parity(jnp.log, torch.log, np.array([2.0, -1.0, np.nan]), equal_nan=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtypes": ["float8"]}, r"dtypes must be of float64, .*, got float8"),
        ({"under": []}, r"under must be of eager, jit, vmap, got none"),
        ({"order": 3}, r"order must be 0, 1 or 2, got 3"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        assert_parity(identity, identity, X, **options)


def test_bad_options_of_modules():
    from flax import nnx

    ours, theirs = nnx.Linear(4, 2, rngs=nnx.Rngs(0)), torch.nn.Linear(4, 2)
    with pytest.raises(TypeError, match=r"ours must be an nnx\.Module, got Linear"):
        assert_module_parity(cast(Any, theirs), theirs, X)
    with pytest.raises(TypeError, match=r"theirs must be a torch\.nn\.Module, got Linear"):
        assert_module_parity(ours, cast(Any, ours), X)
    for options, message in [
        ({"modes": ["dreaming"]}, r"modes must be of evaluation, training, got dreaming"),
        ({"modes": ["evaluation"], "steps": 1}, r"steps: losses are compared in training"),
        ({"in_layouts": "NCHW"}, r'in_layouts must look like "NCHW->NHWC", got \'NCHW\''),
        ({"in_layouts": [None, None]}, r"in_layouts must have one entry for each of 1 inputs"),
        ({"in_layouts": "NCHW->NHWC"}, r"a layout of 4 letters was given for an array \(3, 4\)"),
        ({"out_layouts": [None, None]}, r"out_layouts must have one entry for each output"),
        ({"rename": {"a": "b"}}, r"rename: no key of state_dict starts with 'a'"),
    ]:
        with pytest.raises(ValueError, match=message):
            assert_module_parity(ours, theirs, X, **cast(Any, options))


# The report and the plugin ----------------------------------------------------


def test_a_report_prints_as_a_table():
    rows = (
        Row("value", "float64", Measured(1.25, 64.0, 0.02)),
        Row("d x", "float32", Measured(0, 0, 0)),
    )
    assert str(Report("f", rows, ("a note",))).splitlines() == [
        "f      dtype    ulp  allowed  of allowed",
        "value  float64  1.2  64       2%",
        "d x    float32  0    0        0%",
        "a note",
    ]


def test_same_measures_in_ulp_of_the_magnitude():
    tolerance = testing.Tolerance(np.array([4.0, 0.0]), np.array([2.0, 1.0]))
    found = testing.same("x", np.array([1.0, 5.0]), np.array([3.0, 5.0]), tolerance, 0.5)
    assert found == Measured(ulp=2.0, allowed_ulp=4.0, share=0.5)
    with pytest.raises(AssertionError, match=r"x: 1 of 2 entries .* worst at \(1,\): 5.5 against"):
        testing.same("x", np.array([1.0, 5.5]), np.array([3.0, 5.0]), tolerance, 0.5)


SUITE = """
import jax, numpy as np, pytest, torch
from jaxwarp.testing import assert_parity

@pytest.mark.parametrize("seed", range(3))
def test_silu(parity, seed):
    x = np.random.default_rng(seed).normal(size=4)
    parity.collect(assert_parity(jax.nn.silu, torch.nn.functional.silu, x))
"""


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one process", "two workers"])
def test_the_plugin_in_a_project_of_ones_own(workers, tmp_path):
    (tmp_path / "test_port.py").write_text(SUITE)
    (tmp_path / "conftest.py").write_text(
        "def pytest_parity_facts():\n    return {'weights': 'of today'}\n"
    )
    options = ["-p", "jaxwarp.testing.plugin", "--jax-platform", "cpu", "--torch-device", "cpu"]
    command = [sys.executable, "-m", "pytest", *options, "--parity-report", "found", *workers]
    root = str(jaxwarp.__path__[0]).rpartition("/")[0]
    run = subprocess.run(
        command,
        cwd=tmp_path,
        env={"PYTHONPATH": root, "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"torch {version('torch')} on CPU, weights of today" in run.stdout
    table = (tmp_path / "found.md").read_text()
    assert "| operation | dtype | cases |" in table
    assert "| silu | float64 | 3 | d x " in table
    assert "written: found.json" in run.stdout
