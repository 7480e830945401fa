"""Where the channels are, how memory is laid out, how many points there are: same numbers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jaxwarp
from parity_tests.harness import cases, compare, jax_side, torch_operations, torch_side
from parity_tests.harness.cases import ANYWHERE, AWKWARD_SIZES, Case
from parity_tests.harness.report import Parity

CASES = [
    c
    for c in cases.SAMPLE_CASES
    if (c.op, c.positions, c.dtype) == ("grid_sample", ANYWHERE, "float64") and not c.align_corners
]
modes = pytest.mark.parametrize("mode", cases.MODES)
paddings = pytest.mark.parametrize("padding", cases.PADDINGS)
either_layout = pytest.mark.parametrize("channel_axis", [1, -1], ids=["first", "last"])


def last(x):
    return np.ascontiguousarray(np.moveaxis(x, 1, -1))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_channels_last_is_torch_too(case: Case, parity: Parity) -> None:
    problem = cases.problem(case, AWKWARD_SIZES[case.axes])
    ct = compare.cotangent(problem)
    image, grid = problem.operands.values()
    turned = dataclasses.replace(problem, operands={"input": last(image), "grid": grid})
    value, d_input, d_grid = jax_side.run(jax_side.first_order, turned, last(ct), channel_axis=-1)
    ours = np.moveaxis(value, -1, 1), np.moveaxis(d_input, -1, 1), d_grid
    theirs = torch_side.first_order(problem, ct)
    tolerances = compare.first_order(problem, theirs, torch_side.uses_cudnn(case))
    names = ("value", "d input", "d grid")
    for name, a, b, tolerance in zip(names, ours, theirs, tolerances, strict=True):
        parity.same(case, name, a, b, tolerance)


def small(axes=2, points=(6, 7), batch=2, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(batch, channels, *(4, 5, 3)[:axes]))
    return image, rng.uniform(-1.2, 1.2, (batch, *points, axes))


def laid_out(image, channel_axis):
    return image if channel_axis == 1 else last(image)


@either_layout
@pytest.mark.parametrize("points", [(), (5,), (5, 2), (5, 2, 3), (5, 2, 3, 1), (1, 2, 1, 3, 5)])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_a_grid_has_any_number_of_output_axes(axes, points, channel_axis) -> None:
    image, grid = small(axes, points)
    value = jaxwarp.grid_sample(laid_out(image, channel_axis), grid, channel_axis=channel_axis)
    value = value if channel_axis == 1 else np.moveaxis(np.asarray(value), -1, 1)
    assert value.shape == (2, 3, *points)
    theirs = torch_operations.grid_sample(
        torch_side.tensor(image), torch_side.tensor(grid), "bilinear", "zeros", False
    )
    np.testing.assert_allclose(value, torch_side.array(theirs), rtol=0, atol=1e-13)


@modes
@either_layout
def test_memory_layout_does_not_matter(mode, channel_axis) -> None:
    """Strided, reversed, transposed, broadcast and read-only NumPy arrays."""
    image, grid = small()
    image = laid_out(image, channel_axis)

    def sample(image, grid):
        return jaxwarp.grid_sample(image, grid, mode, channel_axis=channel_axis)

    expected = sample(image, grid)
    wide = np.repeat(image, 2, axis=2)
    backwards = image[:, :, ::-1].copy()
    turned = np.ascontiguousarray(image.T)
    frozen = image.copy()
    frozen.flags.writeable = False
    for view in (
        wide[:, :, ::2],
        backwards[:, :, ::-1],
        turned.T,
        frozen,
        np.asfortranarray(image),
    ):
        np.testing.assert_array_equal(sample(view, grid), expected)
    one = np.broadcast_to(image[:1], image.shape)
    np.testing.assert_array_equal(sample(one, grid), sample(one.copy(), grid))
    flipped = grid[:, ::-1].copy()[:, ::-1]
    np.testing.assert_array_equal(sample(image, flipped), expected)
    np.testing.assert_array_equal(sample(jnp.asarray(image), np.asfortranarray(grid)), expected)


EMPTY = {
    "batch": ((0, 3, 4, 5), (0, 6, 7, 2)),
    "channels": ((2, 0, 4, 5), (2, 6, 7, 2)),
    "rows": ((2, 3, 4, 5), (2, 0, 7, 2)),
    "columns": ((2, 3, 4, 5), (2, 6, 0, 2)),
    "everything": ((0, 0, 4, 5), (0, 0, 0, 2)),
}


@modes
@either_layout
@pytest.mark.parametrize("empty", EMPTY)
def test_empty_results_have_torchs_shapes_and_gradients_of_zero(empty, mode, channel_axis) -> None:
    image, grid = (np.ones(shape) for shape in EMPTY[empty])
    theirs = torch.nn.functional.grid_sample(
        *map(torch.from_numpy, (image, grid)), mode=mode, align_corners=False
    )
    image = laid_out(image, channel_axis)

    def sample(image, grid):
        return jaxwarp.grid_sample(image, grid, mode, channel_axis=channel_axis)

    value, pull = jax.vjp(sample, image, grid)
    assert value.shape == np.moveaxis(np.empty(theirs.shape), 1, channel_axis).shape
    d_image, d_grid = pull(np.ones(value.shape))
    np.testing.assert_array_equal(d_image, np.zeros_like(image))
    np.testing.assert_array_equal(d_grid, np.zeros_like(grid))


@modes
@paddings
@either_layout
def test_one_of_everything(mode, padding, channel_axis) -> None:
    """One image of one channel and one pixel, at one point in its centre."""
    image, grid = np.full((1, 1, 1, 1), 3.0), np.zeros((1, 1, 1, 2))
    value = jaxwarp.grid_sample(image, grid, mode, padding, channel_axis=channel_axis)
    np.testing.assert_array_equal(value, image)


@either_layout
def test_the_result_does_not_depend_on_the_rest_of_the_batch(channel_axis) -> None:
    image, grid = small(batch=5)
    image = laid_out(image, channel_axis)
    whole = jaxwarp.grid_sample(image, grid, channel_axis=channel_axis)
    alone = [
        jaxwarp.grid_sample(image[i : i + 1], grid[i : i + 1], channel_axis=channel_axis)
        for i in range(5)
    ]
    np.testing.assert_array_equal(whole, np.concatenate(alone))


@modes
@pytest.mark.parametrize("channels", [2, 5, 17, 64])
@either_layout
def test_any_number_of_channels_gives_the_same_numbers(mode, channels, channel_axis) -> None:
    """Few and many channels may run through different loops; each channel is what it is alone."""
    image, grid = small(channels=channels)
    ct = np.random.default_rng(1).normal(size=(2, channels, 6, 7))

    def answers(image, ct):
        def sample(image, grid):
            return jaxwarp.grid_sample(image, grid, mode, "border", channel_axis=channel_axis)

        value, pull = jax.vjp(sample, laid_out(image, channel_axis), grid)
        d_image, d_grid = pull(laid_out(ct, channel_axis))
        turn = (lambda x: x) if channel_axis == 1 else (lambda x: np.moveaxis(x, -1, 1))
        return turn(np.asarray(value)), turn(np.asarray(d_image)), np.asarray(d_grid)

    value, d_image, d_grid = answers(image, ct)
    total = np.zeros_like(d_grid)
    for i in range(channels):
        alone = answers(image[:, i : i + 1], ct[:, i : i + 1])
        np.testing.assert_allclose(value[:, i : i + 1], alone[0], rtol=0, atol=1e-13)
        np.testing.assert_allclose(d_image[:, i : i + 1], alone[1], rtol=0, atol=1e-13)
        total += alone[2]
    np.testing.assert_allclose(d_grid, total, rtol=0, atol=1e-11)
