"""Thin-plate splines against their own definition: derivatives, energy, folding, inverse."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxwarp
from parity_tests.harness.control_points import (
    bent,
    lattice,
    scattered,
    scipy_spline,
    shaken,
)
from parity_tests.harness.differences import check_derivatives

# Derivatives ---------------------------------------------------------------------------


def every_function(n: int) -> dict[str, Callable[..., jax.Array]]:
    fit = jaxwarp.tps_fit
    size = (1, 1, *(3, 4, 2)[:n])
    return {
        "apply": lambda t, s, p: jaxwarp.tps_apply(fit(t, s, smoothing=0.01), p),
        "grid": lambda t, s, p: jaxwarp.tps_grid(t, s, size),
        "energy": lambda t, s, p: jaxwarp.bending_energy(fit(t, s)),
        "determinant": lambda t, s, p: jaxwarp.tps_jacobian_determinant(fit(t, s), p),
        "inverse": lambda t, s, p: jaxwarp.tps_invert(fit(t, s), p),
    }


@pytest.mark.parametrize(("n", "order"), [(1, 1), (2, 2), (3, 1)])
@pytest.mark.parametrize("what", every_function(1))
def test_derivatives(n: int, order: int, what: str) -> None:
    """Forward and reverse, and each over the other, against finite differences."""
    target = shaken(0.9 * lattice(3, n), 0.02)[None]
    operands = (target, shaken(target), scattered(4, n, seed=5)[None])
    check_derivatives(every_function(n)[what], operands, order, tolerance=2e-4)


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_derivatives_are_those_of_scipy(n: int, smoothing: float) -> None:
    """First and second, along a direction in all operands, from differences of SciPy's values."""
    random = np.random.default_rng(0)
    target = shaken(lattice(3, n), 0.05)
    operands = (target, shaken(target), scattered(10, n, seed=5))
    direction = tuple(random.standard_normal(x.shape) for x in operands)

    def ours(step):
        t, s, p = (x[None] + step * d[None] for x, d in zip(operands, direction, strict=True))
        return jaxwarp.tps_apply(jaxwarp.tps_fit(t, s, smoothing=smoothing), p)[0]

    def theirs(step):
        t, s, p = (x + step * d for x, d in zip(operands, direction, strict=True))
        return scipy_spline(t, s, p, smoothing)

    h = 1e-4
    low, middle, high = theirs(-h), theirs(0.0), theirs(h)
    derivative = jax.jacfwd(ours)
    first, second = jax.jit(lambda step: (derivative(step), jax.jacfwd(derivative)(step)))(0.0)
    np.testing.assert_allclose(first, (high - low) / (2 * h), rtol=0, atol=2e-5)
    expected = (high - 2 * middle + low) / h**2
    np.testing.assert_allclose(second, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("n", [1, 2, 3])
def test_derivatives_on_a_control_point(n: int) -> None:
    """All finite; the first, where it exists, is the limit from nearby."""
    target = lattice(3, n)[None]
    source = shaken(target)

    def energy(target, source, points):
        moved = jaxwarp.tps_apply(jaxwarp.tps_fit(target, source), points)
        return jnp.sum(jnp.sin(moved))

    gradients_of = jax.grad(energy, argnums=(0, 1, 2))

    @jax.jit
    def derivatives(*operands):
        forward = jax.jvp(energy, operands, operands)[1]
        return gradients_of(*operands), forward, jax.jacfwd(gradients_of, (0, 1, 2))(*operands)

    operands = (target, source, target)
    gradients, forward, second = derivatives(*operands)
    for derivative in jax.tree.leaves((gradients, second)):
        assert np.isfinite(derivative).all()
    np.testing.assert_allclose(
        forward, sum(np.sum(g * x) for g, x in zip(gradients, operands, strict=True)), rtol=1e-9
    )
    if n < 3:  # in 3-D the spline has a cusp there, and the derivative is the mean of both sides
        near = derivatives(target, source, target + 1e-9)[0][2]
        np.testing.assert_allclose(gradients[2], near, rtol=0, atol=1e-6)


def test_smoothing_has_a_derivative() -> None:
    target = scattered(12)[None]
    source, points = shaken(target), scattered(5, seed=5)[None]

    def moved(smoothing):
        return jaxwarp.tps_apply(jaxwarp.tps_fit(target, source, smoothing=smoothing), points)

    check_derivatives(moved, (np.array(0.1),), order=2, tolerance=1e-5)


# Definition ----------------------------------------------------------------------------


def test_energy_is_the_integral_of_squared_second_derivatives() -> None:
    """The integrand falls off as r^-4: what lies outside a radius R is worth about R^-2."""
    target = np.array([[[-1.0, 0.2], [1.0, -0.1], [0.1, 1.0], [0.0, -1.1], [0.3, 0.2]]])
    source = shaken(target, 0.3)
    spline = jaxwarp.tps_fit(target, source)

    @jax.jit
    def density(points):
        hessian = jax.vmap(jax.hessian(lambda p: jaxwarp.tps_apply(spline, p[None, None])[0, 0]))
        return jnp.sum(hessian(points) ** 2, axis=(1, 2, 3))

    # Polar, in log r: cells grow with the radius.
    edges = np.linspace(np.log(1e-3), np.log(1e3), 1601)
    rho = np.exp((edges[1:] + edges[:-1]) / 2)
    phi = 2 * np.pi * (np.arange(96) + 0.5) / 96
    center = target[0, 4]
    around = rho[:, None, None] * np.stack([np.cos(phi), np.sin(phi)], axis=-1)
    values = np.asarray(density((center + around).reshape(-1, 2))).reshape(len(rho), len(phi))
    area = rho[:, None] ** 2 * np.diff(edges)[:, None] * (2 * np.pi / len(phi))
    np.testing.assert_allclose(np.sum(values * area), jaxwarp.bending_energy(spline)[0], rtol=0.02)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_energy_does_not_depend_on_the_frame(n: int) -> None:
    target = lattice(3, n)[None]
    source = shaken(target)
    scaled = jaxwarp.bending_energy(jaxwarp.tps_fit(7 * target + 3, source))
    plain = jaxwarp.bending_energy(jaxwarp.tps_fit(target, source))
    np.testing.assert_allclose(scaled, plain * 7.0 ** (n - 4), rtol=1e-9)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_smoothing_minimises_misfit_and_energy(n: int) -> None:
    """Nothing near the smoothed spline has less of both; units go as the document says."""
    target = lattice(3, n)[None]
    source = shaken(target)
    smoothing, weight = 0.1, 0.1 / {1: 12.0, 2: 8 * np.pi, 3: 8 * np.pi}[n]
    fitted = jaxwarp.tps_apply(jaxwarp.tps_fit(target, source, smoothing=smoothing), target)

    def cost(values):
        energy = jaxwarp.bending_energy(jaxwarp.tps_fit(target, values))[0]
        return jnp.sum((values - source) ** 2) + weight * energy

    slope = jax.jit(jax.grad(cost))
    assert np.abs(slope(fitted)).max() < 1e-9
    assert np.abs(slope(source)).max() > 1e-3
    scale = 5.0
    larger = jaxwarp.tps_fit(scale * target, scale * source, smoothing=smoothing * scale ** (4 - n))
    np.testing.assert_allclose(
        jaxwarp.tps_apply(larger, scale * target), scale * fitted, rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("n", [1, 2, 3])
def test_determinant(n: int) -> None:
    target = lattice(3, n)[None]
    spline = jaxwarp.tps_fit(target, shaken(target))
    points, h = scattered(20, n, seed=5)[None], 1e-6
    steps = h * np.eye(n)
    columns = [
        (jaxwarp.tps_apply(spline, points + d) - jaxwarp.tps_apply(spline, points - d)) / (2 * h)
        for d in steps[:, None, None]
    ]
    expected = np.linalg.det(np.stack(columns, axis=-1))
    ours = jaxwarp.tps_jacobian_determinant(spline, points)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-8)


def test_the_determinant_shows_folds() -> None:
    """Two points that change places turn what lies between them over."""
    target = np.concatenate([lattice(4), [[-0.1, 0.0], [0.1, 0.0]]])[None]
    source = target.copy()
    source[0, -2:] = source[0, :-3:-1]
    between = np.array([[[0.0, 0.0], [0.9, 0.9]]])
    folds = jaxwarp.tps_jacobian_determinant(jaxwarp.tps_fit(target, source), between)
    assert folds[0, 0] < 0 < folds[0, 1]


# Inverse -------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_inverse(n: int, dtype: str) -> None:
    target = np.stack([lattice(4, n), 0.9 * lattice(4, n)]).astype(dtype)
    spline = jaxwarp.tps_fit(target, bent(target).astype(dtype))
    points = np.stack([scattered(60, n, seed) for seed in (5, 6)]).reshape(2, 6, 10, n)
    points = points.astype(dtype)
    back = jaxwarp.tps_invert(spline, jaxwarp.tps_apply(spline, points), steps=3)
    assert back.shape == points.shape
    np.testing.assert_allclose(back, points, rtol=0, atol=2e-6 if dtype == "float32" else 1e-12)


def test_swapping_the_ends_is_not_the_inverse() -> None:
    target = lattice(4)[None]
    source = bent(target)
    points = scattered(60, seed=5)[None]
    moved = jaxwarp.tps_apply(jaxwarp.tps_fit(target, source), points)
    swapped = jaxwarp.tps_apply(jaxwarp.tps_fit(source, target), moved)
    assert 1e-3 < np.abs(swapped - points).max() < 0.1


def test_a_point_without_a_preimage_is_nan() -> None:
    """A strong pull in 1-D leaves x beyond the fold unreachable from Newton's start, or not."""
    target = np.array([[[-1.0], [0.0], [1.0]]])
    source = np.array([[[-1.0], [0.0], [-1.0]]])  # a tent: nothing maps to 3
    spline = jaxwarp.tps_fit(target, source)
    swapped_start = np.array([[[3.0]]])
    assert np.isnan(jaxwarp.tps_invert(spline, swapped_start)).all()
