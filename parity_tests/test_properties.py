"""Random shapes and numbers, beyond the table's, have torch's answers too."""

import dataclasses

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings

import jaxwarp
from parity_tests.harness import cases, compare, jax_side, reference, torch_side
from parity_tests.harness.cases import ANYWHERE, Case, Problem

# Compiling takes most of an example's time, and the same examples every time make a suite
# that passes or fails for a reason.
few = settings(max_examples=25, deadline=None, derandomize=True, database=None)
many = settings(max_examples=200, deadline=None, derandomize=True, database=None)

options = {
    "mode": st.sampled_from(cases.MODES),
    "padding": st.sampled_from(cases.PADDINGS),
    "align_corners": st.booleans(),
}


@st.composite
def sampling_problems(draw, dtypes=cases.DTYPES) -> Problem:
    axes = draw(st.integers(1, 3))
    chosen = {name: draw(strategy) for name, strategy in options.items()}
    case = Case("grid_sample", axes, draw(st.sampled_from(dtypes)), **chosen, positions=ANYWHERE)
    size = tuple(draw(st.lists(st.integers(1, 9), min_size=axes, max_size=axes)))
    points = tuple(draw(st.lists(st.integers(1, 5), min_size=0, max_size=4)))
    batch, channels = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    reach = draw(st.sampled_from([0.9, 1.0, 1.5, 4.0, 100.0]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    operands = {
        "input": rng.normal(size=(batch, channels, *size)).astype(case.dtype),
        "grid": rng.uniform(-reach, reach, (batch, *points, axes)).astype(case.dtype),
    }
    cotangent = rng.normal(size=(batch, channels, *points)).astype(case.dtype)
    return Problem(case, operands, cotangent, size)


@few
@given(sampling_problems())
def test_any_shape_is_sampled_as_torch_does(problem: Problem) -> None:
    ct = compare.cotangent(problem, left_out=1.0)
    ours = jax_side.run(jax_side.first_order, problem, ct)
    theirs = torch_side.first_order(problem, ct)
    tolerances = compare.first_order(problem, theirs, torch_side.uses_cudnn(problem.case))
    for name, a, b, t in zip(("value", *problem.operands), ours, theirs, tolerances, strict=True):
        compare.same(f"{problem.case}: {name}", a, b, t, problem.case.eps)


@many
@given(sampling_problems())
def test_the_reference_is_torch_at_any_shape(problem: Problem) -> None:
    ct = compare.cotangent(problem, left_out=1.0)
    ours = reference.first_order(problem, ct)
    theirs = torch_side.first_order(problem, ct)
    tolerances = compare.first_order(problem, theirs, torch_side.uses_cudnn(problem.case))
    for name, a, b, t in zip(ours._fields, ours, theirs, tolerances, strict=True):
        compare.same(f"{problem.case}: {name}", a, b, t, problem.case.eps)


wild = st.one_of(
    st.floats(width=64),
    st.floats(-3, 3),
    st.sampled_from([np.nan, np.inf, -np.inf, -1.0, 1.0, 0.0, -0.0, *cases.HUGE]),
)
# One shape for each way of asking, so that examples cost no compiling.
WILD_SIZE, WILD_POINTS = (4, 5), 4


@many
@given(
    case=st.builds(Case, st.just("grid_sample"), st.just(2), st.just("float64"), **options),
    numbers=st.lists(wild, min_size=2 * WILD_POINTS, max_size=2 * WILD_POINTS),
)
def test_no_number_as_a_coordinate_breaks_anything(case: Case, numbers: list[float]) -> None:
    """Values and gradients stay finite and inside the image's range, and touch no other point."""
    rng = np.random.default_rng(0)
    image = rng.uniform(1, 2, (1, 2, *WILD_SIZE))
    tame = rng.uniform(-1, 1, (1, WILD_POINTS, 2))
    grid = np.concatenate([tame, np.array(numbers).reshape(1, WILD_POINTS, 2)], axis=1)
    ct = np.ones((1, 2, 2 * WILD_POINTS))
    problem = Problem(case, {"input": image, "grid": grid}, ct, WILD_SIZE)
    calm = dataclasses.replace(
        problem, operands={"input": image, "grid": np.concatenate([tame, tame], axis=1)}
    )
    value, d_input, d_grid = jax_side.run(jax_side.first_order, problem, ct)
    expected_value, _, expected_d_grid = jax_side.run(jax_side.first_order, calm, ct)
    assert np.isfinite(value).all()
    assert np.isfinite(d_input).all()
    assert np.isfinite(d_grid).all()
    overshoot = 0.0 if case.mode != "bicubic" else 2.0
    assert value.max() <= 2 + overshoot + 1e-12
    assert value.min() >= (0.0 if case.padding == "zeros" else 1.0) - overshoot - 1e-12
    np.testing.assert_array_equal(value[..., :WILD_POINTS], expected_value[..., :WILD_POINTS])
    np.testing.assert_array_equal(d_grid[:, :WILD_POINTS], expected_d_grid[:, :WILD_POINTS])
    odd = ~np.isfinite(grid)
    np.testing.assert_array_equal(d_grid[odd], 0)


@few
@given(
    theta=st.lists(st.floats(-4, 4), min_size=12, max_size=12),
    axes=st.integers(1, 3),
    sizes=st.lists(st.integers(1, 6), min_size=3, max_size=3),
    align_corners=st.booleans(),
)
def test_any_affine_grid_is_torchs(theta, axes, sizes, align_corners) -> None:
    case = Case("affine_grid", axes, "float64", align_corners=align_corners)
    matrix = np.array(theta[: axes * (axes + 1)]).reshape(1, axes, axes + 1)
    size = tuple(sizes[:axes])
    problem = Problem(case, {"theta": matrix}, np.ones((1, *size, axes)), size)
    ours = jaxwarp.affine_grid(jnp.asarray(matrix), (1, 1, *size), align_corners)
    compare.same("grid", ours, torch_side.value(problem), compare.of_largest(matrix, 16), case.eps)


@few
@given(
    axes=st.integers(1, 2),
    channels=st.sampled_from([1, 2, 7, 40]),
    mode=options["mode"],
    padding=options["padding"],
    channel_axis=st.sampled_from([1, -1]),
)
def test_sampling_and_its_transpose_are_adjoint_for_any_channels(
    axes, channels, mode, padding, channel_axis
) -> None:
    rng = np.random.default_rng(channels)
    shape = (2, channels, *(5, 2, 3)[:axes])
    image = rng.integers(-4, 5, shape).astype("float64")
    grid = rng.uniform(-1.5, 1.5, (2, 7, axes))
    y = rng.integers(-4, 5, (2, channels, 7)).astype("float64")
    image, y = (np.moveaxis(x, 1, channel_axis) for x in (image, y))

    def sample(image):
        return jaxwarp.grid_sample(image, grid, mode, padding, channel_axis=channel_axis)

    value, pull = jax.vjp(sample, image)
    (back,) = pull(y)
    np.testing.assert_allclose(np.sum(value * y), np.sum(image * back), rtol=1e-12, atol=1e-10)
