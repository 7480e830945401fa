"""splat, the adjoint of grid_sample: torch's gradient of the image, as an operation of its own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxwarp
from parity_tests.harness import cases, jax_side
from parity_tests.harness.cases import ANYWHERE, AWKWARD_SIZES, Case

CASES = [c for c in cases.SPLAT_CASES if c.positions == ANYWHERE]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_channels_last_is_the_same(case: Case) -> None:
    """What channels first are torch's in is in the table of cases."""
    problem = cases.problem(case, AWKWARD_SIZES[case.axes])
    first = jax_side.function(case, problem.size)(*problem.operands.values())
    values, grid = problem.operands.values()
    splatted = jax_side.function(case, problem.size, channel_axis=-1)
    last = splatted(np.moveaxis(values, 1, -1), grid)
    np.testing.assert_allclose(jnp.moveaxis(last, -1, 1), first, rtol=0, atol=1e-12)


@pytest.mark.parametrize("mode", cases.MODES)
@pytest.mark.parametrize("padding", cases.PADDINGS)
def test_its_gradients_are_those_of_the_sampling_it_transposes(mode, padding) -> None:
    """<splat(v, g), y> = <v, sample(y, g)>, so both sides have the same gradients."""
    rng = np.random.default_rng(0)
    values, grid = rng.normal(size=(2, 3, 6)), rng.uniform(-1.2, 1.2, (2, 6, 2))
    image = rng.normal(size=(2, 3, 4, 5))

    def splatted(values, grid, image):
        return jnp.sum(jaxwarp.splat(values, grid, (4, 5), mode, padding) * image)

    def sampled(values, grid, image):
        return jnp.sum(values * jaxwarp.grid_sample(image, grid, mode, padding))

    operands = tuple(map(jnp.asarray, (values, grid, image)))
    ours = jax.jit(jax.grad(splatted, (0, 1, 2)))(*operands)
    theirs = jax.jit(jax.grad(sampled, (0, 1, 2)))(*operands)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


def test_whole_pixels_move_and_pile_up() -> None:
    """A forward warp by whole pixels: what lands on one pixel is added, what leaves is lost."""
    values = np.arange(1.0, 5.0)[None, None]
    grid = np.array([-0.75, -0.75, 0.25, 3.0])[None, :, None]  # pixels 0, 0, 2 and outside of 4
    np.testing.assert_array_equal(jaxwarp.splat(values, grid, (4,)), [[[3, 0, 3, 0]]])


@pytest.mark.parametrize("padding", ["border", "reflection"])
def test_padding_loses_nothing(padding) -> None:
    rng = np.random.default_rng(0)
    values, grid = rng.normal(size=(2, 3, 50)), rng.uniform(-3, 3, (2, 50, 2))
    total = jaxwarp.splat(values, grid, (4, 5), "bicubic", padding).sum((2, 3))
    np.testing.assert_allclose(total, values.sum(-1), rtol=0, atol=1e-12)


def test_its_sums_are_at_least_float32() -> None:
    values, grid = jnp.ones((1, 1, 2048), "bfloat16"), jnp.zeros((1, 2048, 1), "float32")
    result = jaxwarp.splat(values, grid, (1,))
    assert result.dtype == jnp.bfloat16
    np.testing.assert_array_equal(result.astype("float32"), 2048.0)


@pytest.mark.parametrize("shape", [(0, 3, 6), (2, 0, 6), (2, 3, 0)])
def test_nothing_splats_to_nothing(shape) -> None:
    grid = np.zeros((shape[0], shape[2], 2))
    np.testing.assert_array_equal(
        jaxwarp.splat(np.ones(shape), grid, (4, 5)), np.zeros((*shape[:2], 4, 5))
    )
