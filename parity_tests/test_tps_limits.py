"""Thin-plate splines where there is none, under transformations, and what they cost."""

import subprocess
import sys
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxwarp
from jaxwarp._spline import evaluate
from parity_tests.harness.control_points import (
    bent,
    lattice,
    scattered,
    scipy_spline,
    shaken,
)
from parity_tests.harness.programs import compiled

# Degenerate points -----------------------------------------------------------------------


def spoiled(how: str, n: int, dtype: str = "float64") -> np.ndarray:
    """Control points of which no spline is made."""
    target = scattered(8, n)
    if how == "twice":
        target[5] = target[2]
    elif how == "flat":
        target[:, -1] = 0.3 + 2 * target[:, :-1].sum(1)
    elif how == "nan":
        target[3, 0] = np.nan
    elif how == "infinite":
        target[3, 0] = -np.inf
    return target[None].astype(dtype)


REASONS = {"twice": "same point twice", "flat": "line or plane", "nan": "NaN", "infinite": "NaN"}


@pytest.mark.parametrize("how", REASONS)
@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_degenerate_points_raise_where_concrete(how: str, n: int, dtype: str) -> None:
    good = scattered(8, n)[None].astype(dtype)
    target = np.concatenate([good, spoiled(how, n, dtype)])
    size = (2, 1, *(4, 3, 2)[:n])
    says = f"target has no spline in batch element 1: .*{REASONS[how]}"
    for call in (
        lambda: jaxwarp.tps_fit(target, target),
        lambda: jaxwarp.tps_grid(target, target, size),
        lambda: jaxwarp.tps_operator(target, size),
    ):
        with pytest.raises(ValueError, match=says):
            call()


@partial(jax.jit, static_argnames="size")
def grid_and_gradients(target, source, size):
    grid, pull_back = jax.vjp(lambda t, s: jaxwarp.tps_grid(t, s, size), target, source)
    return grid, pull_back(jnp.ones_like(grid))


@pytest.mark.parametrize("how", REASONS)
@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_degenerate_points_are_nan_under_a_trace(how: str, n: int, dtype: str) -> None:
    """That batch element and no other, gradients included."""
    good = scattered(8, n)[None].astype(dtype)
    target = np.concatenate([good, spoiled(how, n, dtype), good])
    source = np.concatenate([bent(good)] * 3).astype(dtype)
    size = (3, 1, *(4, 3, 2)[:n])
    grid, gradients = jax.device_get(grid_and_gradients(target, source, size))
    assert np.isnan(grid[1]).all()
    expected, theirs = jax.device_get(grid_and_gradients(good.repeat(3, 0), source, size))
    for i in (0, 2):
        for x, y in zip((grid, *gradients), (expected, *theirs), strict=True):
            np.testing.assert_array_equal(x[i], y[i])


def test_smoothing_cures_duplicates() -> None:
    target = spoiled("twice", 2)
    source, points = shaken(target), scattered(9, seed=5)[None]
    ours = jaxwarp.tps_apply(jaxwarp.tps_fit(target, source, smoothing=0.1), points)
    theirs = scipy_spline(target[0], source[0], points[0], 0.1)
    np.testing.assert_allclose(ours[0], theirs, rtol=0, atol=1e-10)
    size = (1, 1, 4, 3)
    grid = jaxwarp.tps_grid(target, source, size, smoothing=0.1)
    fixed = jaxwarp.tps_operator(target, size, smoothing=0.1)(source)
    np.testing.assert_allclose(fixed, grid, rtol=0, atol=1e-11)
    with pytest.raises(ValueError, match="line or plane"):
        jaxwarp.tps_fit(spoiled("flat", 2), source, smoothing=0.1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_thin_is_not_flat(dtype: str) -> None:
    """A row of text, say: a thousand times as wide as high."""
    target = (scattered(20)[None] * np.array([1.0, 1e-3]) + 0.3).astype(dtype)
    spline = jaxwarp.tps_fit(target, bent(target).astype(dtype))
    assert np.isfinite(jaxwarp.tps_apply(spline, target)).all()


GOOD = np.stack([scattered(5), scattered(5, seed=1)])

# Transformations ------------------------------------------------------------------------------


def test_vmap_equals_a_batch() -> None:
    target = np.stack([scattered(8, seed=s) for s in range(3)])
    source, points = shaken(target), scattered(15, seed=5).reshape(1, 5, 3, 2).repeat(3, 0)

    def one(target, source, points):
        spline = jaxwarp.tps_fit(target[None], source[None])
        inverse = jaxwarp.tps_invert(spline, points[None])
        return jaxwarp.tps_apply(spline, points[None])[0], inverse[0]

    spline = jaxwarp.tps_fit(target, source)
    batched = jaxwarp.tps_apply(spline, points), jaxwarp.tps_invert(spline, points)
    for ours, theirs in zip(jax.vmap(one)(target, source, points), batched, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)


def test_an_operator_is_a_pytree_and_is_made_where_a_module_is_traced() -> None:
    target = scattered(8)[None]
    source, size = shaken(target), (1, 1, 4, 5)
    operator = jaxwarp.tps_operator(target, size)
    through_jit = jax.jit(lambda operator, source: operator(source))(operator, source)
    np.testing.assert_allclose(through_jit, operator(source), rtol=0, atol=1e-15)
    made_inside = jax.jit(lambda source: jaxwarp.tps_operator(target, size)(source))(source)
    np.testing.assert_allclose(made_inside, operator(source), rtol=0, atol=1e-15)


def test_low_precision_points_are_computed_in_float32() -> None:
    target = jnp.asarray(lattice(3)[None], jnp.bfloat16)
    source = jnp.asarray(bent(lattice(3))[None], jnp.bfloat16)
    size = (1, 1, 5, 6)
    grid = jaxwarp.tps_grid(target, source, size)
    assert grid.dtype == jnp.float32
    wide = jaxwarp.tps_grid(target.astype(jnp.float32), source.astype(jnp.float32), size)
    np.testing.assert_array_equal(grid, wide)
    fixed = jaxwarp.tps_operator(target, size)(source)
    assert fixed.dtype == jnp.float32
    np.testing.assert_allclose(fixed, grid, rtol=0, atol=1e-6)


def test_no_points_and_no_batch() -> None:
    spline = jaxwarp.tps_fit(GOOD, GOOD)
    assert jaxwarp.tps_apply(spline, np.zeros((2, 0, 3, 2))).shape == (2, 0, 3, 2)
    nothing = jaxwarp.tps_fit(GOOD[:0], GOOD[:0])
    assert jaxwarp.tps_apply(nothing, np.zeros((0, 4, 2))).shape == (0, 4, 2)


@pytest.mark.parametrize("count", [1, 127, 128, 129, 1000])
def test_chunks_leave_no_trace(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However the points are cut up, each is mapped as if alone, and so are its derivatives."""
    target = scattered(8)[None]
    spline = jaxwarp.tps_fit(target, shaken(target))
    points = scattered(count, seed=5)[None]

    def moved(spline, points):
        return jnp.sum(evaluate.everywhere(evaluate.move, spline, points) ** 2)

    plain = jax.jit(jax.value_and_grad(moved, argnums=(0, 1)))(spline, points)
    monkeypatch.setattr(evaluate, "_VALUES_AT_ONCE", 128 * 8)
    cut = jax.jit(jax.value_and_grad(moved, argnums=(0, 1)))(spline, points)
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(cut), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-11 * max(1, np.abs(b).max()))


SEVERAL_AT_ONCE = """
import jax, jax.numpy as jnp, jaxwarp

def total(sources):
    grids = [jaxwarp.tps_grid(s[..., ::-1], s, (16, 1, 4, 4)) for s in sources]
    return sum(jnp.sum(g**2) for g in grids)

sources = jax.random.uniform(jax.random.key(0), (4, 16, 64, 2))
step = jax.jit(jax.value_and_grad(total))
for _ in range(100):
    jax.block_until_ready(step(sources))
"""


def test_splines_that_are_fitted_at_once_do_not_wait_for_each_other() -> None:
    """Batches of LAPACK calls in flight at once stop jaxlib's threads for good (0.10, CPU)."""
    subprocess.run([sys.executable, "-c", SEVERAL_AT_ONCE], check=True, timeout=120)


# Cost -------------------------------------------------------------------------------------------


def temp_megabytes(f: Callable, *operands) -> float:
    stats = jax.jit(f).lower(*operands).compile().memory_analysis()
    assert stats is not None
    return stats.temp_size_in_bytes / 1e6


def test_free_targets_never_hold_the_kernel_matrix() -> None:
    """512 x 512 points and 256 control points in float32: the matrix alone is 268 MB."""
    target = scattered(256)[None].astype(np.float32)
    source = bent(target).astype(np.float32)

    def forward(target, source):
        return jaxwarp.tps_grid(target, source, (1, 1, 512, 512))

    def backward(target, source):
        return jax.grad(lambda t, s: jnp.sum(forward(t, s) ** 2), argnums=(0, 1))(target, source)

    assert temp_megabytes(forward, target, source) < 20
    assert temp_megabytes(backward, target, source) < 60


def test_an_operator_takes_few_programs_within_a_traced_function_too() -> None:
    """What is wrong with the points, and the grid; their operations are no programs of their own.

    Three more make arrays of the points and the smoothing, in the dtype that is computed in.
    """

    def moved(target, size, source):
        return jaxwarp.tps_operator(target, (1, 1, *size))(source)

    target = scattered(23)[None].astype(np.float32)
    with compiled() as outside:
        jaxwarp.tps_operator(target, (1, 1, 29, 31))
    with compiled() as inside:
        jax.jit(partial(moved, target[:, 1:], (31, 29))).lower(target[:, 1:])
    assert max(len(outside), len(inside)) <= 5
