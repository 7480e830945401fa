"""JAX's means of debugging work on every operation, and so do threads and `pmap`."""

import threading
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxwarp

# NumPy's: they are float64 in a test, which JAX's, made here, would not be.
IMAGE = np.random.default_rng(0).normal(size=(2, 3, 7, 6))
GRID = np.random.default_rng(1).uniform(-0.9, 0.9, (2, 5, 4, 2))
POINTS = np.random.default_rng(2).uniform(-1, 1, (2, 6, 2))
BOXES = np.array([[0, 0, 4, 5], [1, 2, 6, 7]])
WHERE = np.array([0, 1])
THETA = np.tile(np.array([[0.9, 0.1, 0.0], [-0.1, 0.8, 0.1]]), (2, 1, 1))
FLOW = 0.1 * np.sin(np.arange(2 * 7 * 6 * 2.0)).reshape(2, 7, 6, 2)

# Each of one differentiable operand.
OPERATIONS = {
    "grid_sample": (lambda x: jaxwarp.grid_sample(x, GRID), IMAGE),
    "its grid": (lambda g: jaxwarp.grid_sample(IMAGE, g, "bicubic", "border"), GRID),
    "remap": (lambda x: jaxwarp.remap(x, 3 * GRID + 3, "bicubic", "wrap"), IMAGE),
    "splat": (lambda v: jaxwarp.splat(v, GRID, (7, 6)), IMAGE[:, :, :5, :4]),
    "warp_flow": (lambda f: jaxwarp.warp_flow(IMAGE, f), np.moveaxis(FLOW, -1, 1)),
    "compose_flow": (lambda f: jaxwarp.compose_flow(f, FLOW), FLOW),
    "integrate_velocity": (partial(jaxwarp.integrate_velocity, steps=2), FLOW),
    "tps_grid": (lambda s: jaxwarp.tps_grid(POINTS, s, (2, 3, 4, 5)), POINTS + 0.1),
    "patch_affine": (lambda x: jaxwarp.patch_affine(x, BOXES, THETA, WHERE), IMAGE),
    "crop_and_resize": (lambda x: jaxwarp.crop_and_resize(x, BOXES, WHERE, (3, 3)), IMAGE),
    "paste": (lambda x: jaxwarp.paste(x, IMAGE[:, :, :3, :2], BOXES, WHERE), IMAGE),
    "affine_grid": (lambda t: jaxwarp.affine_grid(t, (2, 3, 4, 5)), THETA),
}


def value_and_gradient(f, x):
    value, pull = jax.vjp(f, x)
    return value, *pull(jnp.ones_like(value))


def check_equal(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.fixture(scope="module")
def expected():
    return {name: value_and_gradient(f, x) for name, (f, x) in OPERATIONS.items()}


@pytest.mark.parametrize("name", OPERATIONS)
def test_without_jit(name, expected):
    with jax.disable_jit():
        check_equal(value_and_gradient(*OPERATIONS[name]), expected[name])


@pytest.mark.parametrize("name", OPERATIONS)
def test_with_checks_for_nan_infinity_and_leaks(name, expected):
    with (
        jax.debug_nans(True),
        jax.debug_infs(True),
        jax.checking_leaks(),
        jax.enable_checks(True),
    ):
        check_equal(value_and_gradient(*OPERATIONS[name]), expected[name])


def test_a_nan_is_found():
    with jax.debug_nans(True), pytest.raises(FloatingPointError, match="nan"):
        jaxwarp.grid_sample(jnp.asarray(IMAGE).at[0, 0].set(jnp.nan), GRID).block_until_ready()


def test_several_threads_at_once(expected):
    """More calls in flight than there are threads to compute them, from threads of Python's."""
    f, x = OPERATIONS["its grid"]
    large, grid = jnp.ones((3, 2, 200, 200)), jnp.zeros((3, 200, 200, 2))
    program = jax.jit(lambda x: value_and_gradient(f, x))
    sample = jax.jit(lambda x, g: value_and_gradient(partial(jaxwarp.grid_sample, x), g))
    outcomes = []

    def work():
        with jax.enable_x64(True):  # what is set is set for one thread
            for _ in range(20):
                in_flight = [sample(large, grid) for _ in range(4)]
                outcomes.append(program(x))
                jax.block_until_ready(in_flight)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert not any(thread.is_alive() for thread in threads)
    assert len(outcomes) == 120
    for outcome in outcomes:
        check_equal(outcome, expected["its grid"])


def test_pmap():
    f, x = OPERATIONS["grid_sample"]
    mapped = jax.pmap(lambda x: value_and_gradient(f, x))(x[None])
    check_equal([y[0] for y in mapped], value_and_gradient(f, x))
