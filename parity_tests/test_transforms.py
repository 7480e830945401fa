"""JAX's transformations: each gives what the plain program gives, which is torch's."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jaxwarp
from jaxwarp._sampler.backends import cpu, forced
from parity_tests.harness import cases, compare, jax_side, torch_operations, torch_side
from parity_tests.harness.cases import ANYWHERE, Case, Problem
from parity_tests.harness.differences import check_derivatives
from parity_tests.harness.programs import compiled

# What a transformation does to derivatives does not depend on the padding either, once
# it is known how each of them is mapped: one padding for every mode and number of axes.
ROTATED = {
    (axes, mode): cases.PADDINGS[(axes + i) % 3]
    for axes in (1, 2, 3)
    for i, mode in enumerate(cases.MODES)
}
# Where pixels are in [-1, 1] is arithmetic that no transformation looks into, and splat is the
# transpose of what is differentiated here. Objects in images are transformed in their own files.
CASES = [
    c
    for c in cases.CASES
    if (c.positions, c.dtype) == (ANYWHERE, "float64")
    if c.op != "remap" and c not in cases.OBJECT_CASES and not c.align_corners
    if c.op != "splat" or ROTATED[c.axes, c.mode] == c.padding
]
FEWER = [c for c in CASES if ROTATED.get((c.axes, c.mode), "-") == c.padding]
every_case = pytest.mark.parametrize("case", CASES, ids=str)
each_mode = pytest.mark.parametrize("case", FEWER, ids=str)


@every_case
def test_called_directly(case: Case) -> None:
    """Without a jit or a derivative around it."""
    problem = cases.problem(case)
    ct = compare.cotangent(problem)
    value = jax_side.function(case, problem.size)(*problem.operands.values())
    assert isinstance(value, jax.Array)
    expected = jax_side.run(jax_side.first_order, problem, ct)
    tolerance = compare.first_order(problem, expected)[0]
    compare.same(str(case), value, expected[0], tolerance, case.eps)


def stacks_of(problem: Problem) -> tuple[np.ndarray, ...]:
    """Return, for each operand, a stack of three different ones."""
    return tuple(np.stack([x, x[::-1], 0.5 * x]).astype(x.dtype) for x in problem.operands.values())


def cotangents_of(problem: Problem) -> np.ndarray:
    ct = problem.cotangent
    return np.stack([ct, -ct, 2 * ct[::-1]])


def one_at_a_time(problem: Problem, which: int):
    """Run the plain program on a stack's elements: for each result, the list of them."""
    name = list(problem.operands)[which]
    answers = []
    for x, ct in zip(stacks_of(problem)[which], cotangents_of(problem), strict=True):
        element = dataclasses.replace(problem, operands=problem.operands | {name: x})
        answers.append(jax_side.run(jax_side.first_order, element, ct))
    return [np.stack(results) for results in zip(*answers, strict=True)]


def close(ours, expected, what="") -> None:
    scale = np.max(np.abs(expected), initial=1.0)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-12 * scale, err_msg=what)


@each_mode
def test_a_map_over_either_operand_is_differentiable(case: Case) -> None:
    """What is shared gets the sum of the gradients, what is mapped each its own."""
    problem = cases.problem(case)
    stacks, cts = stacks_of(problem), cotangents_of(problem)
    results = jax_side.run(jax_side.differentiated_map, problem, stacks, cts)
    for which, (value, *gradients) in enumerate(results):
        expected_value, *expected = one_at_a_time(problem, which)
        close(value, expected_value)
        for i, (ours, theirs) in enumerate(zip(gradients, expected, strict=True)):
            close(ours, theirs if i == which else theirs.sum(0), f"mapped {which}, gradient {i}")


@every_case
def test_derivatives_are_mapped_over_either_operand(case: Case) -> None:
    """Gradients for each example."""
    problem = cases.problem(case)
    stacks, cts = stacks_of(problem), cotangents_of(problem)
    results = jax_side.run(jax_side.mapped_derivatives, problem, stacks, cts)
    for which, ours in enumerate(results):
        for i, (a, b) in enumerate(zip(ours, one_at_a_time(problem, which), strict=True)):
            close(a, b, f"mapped {which}, result {i}")


@each_mode
def test_a_scan_of_checkpoints_is_differentiable(case: Case) -> None:
    problem = cases.problem(case)
    stacks, cts = stacks_of(problem), cotangents_of(problem)
    value, *gradients = jax_side.run(jax_side.checkpointed_scan, problem, stacks, cts)
    last = len(gradients) - 1
    expected_value, *expected = one_at_a_time(problem, last)
    close(value, expected_value)
    for i, (ours, theirs) in enumerate(zip(gradients, expected, strict=True)):
        close(ours, theirs if i == last else theirs.sum(0), f"gradient {i}")


@pytest.mark.parametrize("mode", cases.MODES)
def test_maps_nest(mode) -> None:
    """Every image of one axis with every grid of another, both batched besides."""
    images = np.random.default_rng(0).normal(size=(3, 2, 2, 4, 5))
    grids = np.random.default_rng(1).uniform(-1.2, 1.2, (4, 2, 6, 2))

    def sample(image, grid):
        return jaxwarp.grid_sample(image, grid, mode, "border")

    table = jax.vmap(jax.vmap(sample, (None, 0)), (0, None))(images, grids)
    for i, image in enumerate(images):
        for j, grid in enumerate(grids):
            close(table[i, j], sample(image, grid))
    both = jax.vmap(sample, in_axes=(1, 1), out_axes=1)(
        np.moveaxis(images, 0, 1), np.moveaxis(grids[:3], 0, 1)
    )
    close(both, np.stack([sample(images[i], grids[i]) for i in range(3)], axis=1))


# Derivatives -----------------------------------------------------------------


def away_from_kinks(axes, size, rng, points=4):
    """Draw coordinates whose pixel positions stay 0.1 away from every half and whole number."""
    coordinates = []
    for s in size[::-1]:
        whole = rng.integers(-1, s, points) + rng.choice([0.0, 0.5], points)
        p = whole + rng.uniform(0.1, 0.4, points)
        coordinates.append((2 * p + 1) / s - 1)
    return np.stack(coordinates, axis=-1)[None]


@pytest.mark.parametrize(("axes", "mode"), ROTATED)
def test_derivatives_to_second_order_are_those_of_finite_differences(axes, mode) -> None:
    """All paddings stand against torch's double backward in test_gradients."""
    padding = ROTATED[axes, mode]
    rng = np.random.default_rng(axes)
    size = (4, 3, 5)[:axes]
    image = jnp.asarray(rng.normal(size=(1, 2, *size)))
    grid = jnp.asarray(away_from_kinks(axes, size, rng))

    def sample(image, grid):
        return jaxwarp.grid_sample(image, grid, mode, padding)

    check_derivatives(sample, (image, grid), order=2, tolerance=1e-5)


@pytest.mark.parametrize("maker", ["affine_grid", "homography_grid"])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_grids_are_differentiable_to_second_order(maker, axes) -> None:
    rows = axes + (maker == "homography_grid")
    theta = np.eye(rows, axes + 1) + np.random.default_rng(0).uniform(
        -0.1, 0.1, (1, rows, axes + 1)
    )
    size = (1, 1, *(2, 3, 2)[:axes])
    make = getattr(jaxwarp, maker)
    check_derivatives(lambda theta: make(theta, size), (theta,), order=2, tolerance=1e-5)


@pytest.mark.parametrize("mode", cases.MODES)
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_the_jacobian_of_a_registration_is_torchs_both_ways(axes, mode) -> None:
    """d image / d theta, as Gauss-Newton needs it: few columns, so forward mode."""
    rng = np.random.default_rng(0)
    size = (2, 1, *(3, 4, 5)[:axes])
    image = rng.normal(size=size)
    theta = np.eye(axes, axes + 1) + rng.uniform(-0.2, 0.2, (2, axes, axes + 1))

    def ours(theta):
        return jaxwarp.grid_sample(image, jaxwarp.affine_grid(theta, size), mode, "border")

    def theirs(theta):
        grid = torch_operations.affine_grid(theta, size[2:], False)
        return torch_operations.grid_sample(torch_side.tensor(image), grid, mode, "border", False)

    expected = torch.autograd.functional.jacobian(theirs, torch_side.tensor(theta))
    expected = torch_side.array(expected)
    close(jax.jit(jax.jacfwd(ours))(theta), expected)
    close(jax.jit(jax.jacrev(ours))(theta), expected)


def test_linearize_is_the_jvp() -> None:
    rng = np.random.default_rng(0)
    image, grid = rng.normal(size=(1, 2, 4, 5)), rng.uniform(-1, 1, (1, 6, 2))
    u = rng.normal(size=image.shape), rng.normal(size=grid.shape)
    value, push = jax.linearize(jaxwarp.grid_sample, image, grid)
    close(value, jaxwarp.grid_sample(image, grid))
    close(push(*u), jax.jvp(jaxwarp.grid_sample, (image, grid), u)[1])


def test_an_operand_that_is_not_differentiated_costs_no_derivative() -> None:
    """Gradients of the grid alone write to no image, and the other way round."""
    image, grid = jnp.ones((1, 2, 4, 5)), jnp.zeros((1, 6, 2))

    def primitives(argnum):
        gradient = jax.grad(lambda *x: jaxwarp.grid_sample(*x).sum(), argnum)
        return jax.jit(gradient).lower(image, grid).as_text()

    with forced("portable"):
        assert "scatter" in primitives(0)
        assert "scatter" not in primitives(1)
    if cpu.why_not() is None:  # a call of a kernel each
        assert [primitives(argnum).count("@jaxwarp_run") for argnum in (0, 1)] == [1, 1]


def test_eager_calls_compile_once() -> None:
    image, grid = jnp.ones((1, 2, 4, 5)), jnp.zeros((1, 6, 2))

    def loss(image, grid):
        return jaxwarp.grid_sample(image, grid, "bicubic", "reflection").sum()

    gradients = jax.grad(loss, (0, 1))
    second = jax.jacfwd(gradients, 1)
    jax.block_until_ready((gradients(image, grid), second(image, grid)))
    with compiled() as again:
        jax.block_until_ready((gradients(image, grid), second(image, grid)))
    assert again == []
