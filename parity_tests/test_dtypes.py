"""Low and mixed precision: the image's dtype goes in and out, float32 happens in between.

Torch on CPU counts pixels in bfloat16, which cannot count past 256, so the other side is torch
in float32 on the same rounded numbers. The only difference allowed beyond float32's own is that
the result is rounded once.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jaxwarp
from parity_tests.harness import cases, compare, jax_side, torch_side
from parity_tests.harness.cases import ANYWHERE, AWKWARD_SIZES, Case, Problem
from parity_tests.harness.report import Parity

DTYPES = [  # of the image and of the grid
    ("bfloat16", "float32"),
    ("bfloat16", "bfloat16"),
    ("float16", "float32"),
    ("float16", "float16"),
    ("float32", "bfloat16"),
    ("float32", "float16"),
]
# Rounding knows nothing of further axes; two of them are here for the 4-D kernel itself.
CASES = [
    (c, dtypes)
    for c in cases.SAMPLE_CASES
    if (c.op, c.positions, c.dtype) == ("grid_sample", ANYWHERE, "float32") and not c.align_corners
    for dtypes in {1: DTYPES, 2: DTYPES[:1], 3: ()}[c.axes]
]


def in_dtypes(problem: Problem, dtypes: tuple[str, str]) -> Problem:
    operands = {
        name: x.astype(jnp.dtype(dtype))
        for (name, x), dtype in zip(problem.operands.items(), dtypes, strict=True)
    }
    cotangent = problem.cotangent.astype(jnp.dtype(dtypes[0]))
    return dataclasses.replace(problem, operands=operands, cotangent=cotangent)


def before_rounding(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Return what rounds to ``ours`` and lies nearest to ``theirs``: half a last place away."""
    info = jnp.finfo(ours.dtype)
    value = ours.astype(np.float32)
    half = np.maximum(np.abs(value) * np.float32(info.eps), np.float32(info.smallest_subnormal)) / 2
    return np.clip(theirs, value - half, value + half) if info.bits < 32 else value


@pytest.mark.parametrize(("case", "dtypes"), CASES, ids=str)
def test_low_precision_is_float32_rounded_once(case: Case, dtypes, parity: Parity) -> None:
    low = in_dtypes(cases.problem(case, AWKWARD_SIZES[case.axes]), dtypes)
    full = in_dtypes(low, ("float32", "float32"))
    ct = compare.cotangent(full)
    ours = jax_side.run(jax_side.first_order, low, ct.astype(jnp.dtype(dtypes[0])))
    theirs = torch_side.first_order(full, ct)
    tolerances = compare.first_order(full, theirs)
    row = dataclasses.replace(case, dtype=dtypes[0], positions=f"grid {dtypes[1]}")
    names = ["value", *(f"d {name}" for name in low.operands)]
    kinds = (dtypes[0], *dtypes)
    for name, a, b, t, dtype in zip(names, ours, theirs, tolerances, kinds, strict=True):
        assert a.dtype == jnp.dtype(dtype), name
        parity.same(row, name, before_rounding(a, b), b, t, eps=case.eps)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("mode", cases.MODES)
def test_positions_do_not_lose_their_place_in_a_wide_image(mode, dtype) -> None:
    """bfloat16 holds whole numbers to 256; the pixels of a line of 4096 must be told apart."""
    line = (np.arange(4096) % 7).astype(jnp.dtype(dtype))[None, None]
    grid = jaxwarp.affine_grid(np.array([[[1, 0]]], np.float32), line.shape)
    np.testing.assert_array_equal(jaxwarp.grid_sample(line, grid, mode), line)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("channel_axis", [1, -1])
def test_a_gradient_is_summed_in_float32(dtype, channel_axis) -> None:
    """2048 cotangents of one land on one pixel; a bfloat16 sum would stall at 256."""
    image = jnp.zeros((1, 1, 1), dtype)
    grid = jnp.zeros((1, 2048, 1), "float32")
    _, pull = jax.vjp(lambda x: jaxwarp.grid_sample(x, grid, channel_axis=channel_axis), image)
    shape = (1, 1, 2048) if channel_axis == 1 else (1, 2048, 1)
    (gradient,) = pull(jnp.ones(shape, dtype))
    np.testing.assert_array_equal(gradient.astype("float32"), 2048.0)


@pytest.mark.parametrize("dtypes", [("float32", "float64"), ("float64", "float32")], ids="-".join)
def test_mixed_full_precision_computes_in_the_higher_and_returns_the_images(dtypes) -> None:
    case = Case("grid_sample", 2, "float64", "bilinear", "border")
    mixed = in_dtypes(cases.problem(case), dtypes)
    high = in_dtypes(mixed, ("float64", "float64"))
    ours = jax_side.run(jax_side.first_order, mixed, mixed.cotangent)
    expected = jax_side.run(jax_side.first_order, high, high.cotangent)
    for a, b, dtype in zip(ours, expected, (dtypes[0], *dtypes), strict=True):
        np.testing.assert_array_equal(a, b.astype(dtype))


MAKERS = {
    "affine_grid": lambda x: jaxwarp.affine_grid(x[:, :2], (2, 1, 4, 5)),
    "homography_grid": lambda x: jaxwarp.homography_grid(x, (2, 1, 4, 5)),
    "flow_grid": lambda x: jaxwarp.flow_grid(x[..., :2, None, :2]),
    "compose_affine": lambda x: jaxwarp.compose_affine(x[:, :2], x[:, :2]),
    "invert_affine": lambda x: jaxwarp.invert_affine(x[:, :2]),
}


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_coordinates_are_at_least_float32(maker, dtype) -> None:
    """A low-precision matrix gives what its float32 twin gives."""
    matrix = np.eye(3) + np.random.default_rng(0).uniform(-0.2, 0.2, (2, 3, 3))
    low = jnp.asarray(matrix, dtype)
    high = low.astype("float64" if dtype == "float64" else "float32")
    result = MAKERS[maker](low)
    assert result.dtype == high.dtype
    np.testing.assert_array_equal(result, MAKERS[maker](high))


def test_mixed_matrices_compose_in_the_higher_precision() -> None:
    theta = np.random.default_rng(0).normal(size=(2, 2, 3))
    mixed = jaxwarp.compose_affine(theta.astype("float32"), theta)
    expected = jaxwarp.compose_affine(theta.astype("float32").astype("float64"), theta)
    np.testing.assert_array_equal(mixed, expected)


def test_a_wider_grid_leaves_the_images_dtype() -> None:
    """Torch raises. The sample is that of a float64 image, rounded once."""
    problem = cases.problem(Case("grid_sample", 2, "float64", "bilinear", "zeros"))
    image, grid = problem.operands["input"].astype(np.float32), problem.operands["grid"]
    ours = jaxwarp.grid_sample(image, grid)
    exact = jaxwarp.grid_sample(image.astype(np.float64), grid)
    np.testing.assert_array_equal(ours, exact.astype(np.float32))
    with pytest.raises(RuntimeError, match="expected scalar type"):
        torch.nn.functional.grid_sample(
            torch.tensor(image), torch.tensor(grid), align_corners=False
        )
