"""Thin-plate splines against SciPy, against torch, and against their own definition."""

import dataclasses
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from jax.test_util import check_grads
from scipy.interpolate import RBFInterpolator

import jaxwarp
from jaxwarp._spline import spline as spline_module
from parity_tests.harness.tps_torch import ThinPlateSplineGrid

# SciPy's names for the kernels of 1, 2 and 3 axes.
KERNELS = {1: "cubic", 2: "thin_plate_spline", 3: "linear"}


def scipy_spline(target, source, points, smoothing=0.0):
    """SciPy's float64 answer for one batch element."""
    target, source, points = (np.asarray(x, np.float64) for x in (target, source, points))
    kernel = KERNELS[target.shape[1]]
    return RBFInterpolator(target, source, kernel=kernel, degree=1, smoothing=smoothing)(points)


# Control points ----------------------------------------------------------------


def lattice(per_axis: int, n: int = 2) -> np.ndarray:
    axes = np.meshgrid(*[np.linspace(-1, 1, per_axis)] * n, indexing="ij")
    return np.stack(axes, axis=-1).reshape(-1, n)


def scattered(count: int, n: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (count, n))


def clustered(count: int, n: int = 2) -> np.ndarray:
    """Three points in four lie within a few hundredths of one place."""
    random = np.random.default_rng(1)
    near = 0.3 + 0.02 * random.standard_normal((count - count // 4, n))
    return np.concatenate([scattered(count // 4, n), near])


def far_off(count: int, n: int = 2) -> np.ndarray:
    return 100 + scattered(count, n)


def bent(points: np.ndarray) -> np.ndarray:
    """Move points smoothly, and not by an affine map."""
    return points + 0.1 * np.sin(3 * points[..., ::-1] + 1)


def shaken(points: np.ndarray, by: float = 0.05, seed: int = 2) -> np.ndarray:
    return points + by * np.random.default_rng(seed).standard_normal(points.shape)


def pixel_centers(*size: int) -> np.ndarray:
    """The identity grid's points (x, y, z), align_corners=False."""
    axes = np.meshgrid(*[(2 * np.arange(s) + 1 - s) / s for s in size], indexing="ij")
    return np.stack(axes[::-1], axis=-1).reshape(-1, len(size))


# SciPy, float64 -------------------------------------------------------------------

SETS = {
    "1-D lattice": lattice(7, 1),
    "2-D corners": lattice(2),
    "2-D lattice 64": lattice(8),
    "2-D scattered 40": scattered(40),
    "2-D clustered 80": clustered(80),
    "2-D far off": far_off(40),
    "3-D lattice 27": lattice(3, 3),
    "3-D scattered 40": scattered(40, 3),
    "3-D clustered 80": clustered(80, 3),
    "3-D far off": far_off(40, 3),
}
every_set = pytest.mark.parametrize("target", SETS.values(), ids=SETS)


@every_set
@pytest.mark.parametrize("smoothing", [0.0, 1e-3, 0.5])
@pytest.mark.parametrize("move", [bent, shaken])
def test_equals_scipy(target: np.ndarray, smoothing: float, move: Callable) -> None:
    source = np.stack([move(target), 2 * move(target)[:, ::-1] + 1])
    n = target.shape[1]
    points = np.stack([scattered(50, n, seed) + target.mean(0) for seed in (5, 6)])
    for targets in (target[None], np.stack([target, target])):
        spline = jaxwarp.tps_fit(targets, source, smoothing=smoothing)
        ours = jaxwarp.tps_apply(spline, points)
        for i in range(2):
            theirs = scipy_spline(target, source[i], points[i], smoothing)
            scale = max(1.0, np.abs(theirs).max())
            np.testing.assert_allclose(ours[i], theirs, rtol=0, atol=1e-10 * scale)


@pytest.mark.parametrize("size", [(9,), (5, 7), (3, 4, 5)])
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_grids_equal_scipy(size: tuple[int, ...], align_corners: bool, smoothing: float) -> None:
    """Both ways to a grid, through the batch, the axis order and where the pixels are."""
    n = len(size)
    target = np.stack([shaken(lattice(5 - n, n), 0.05, seed) for seed in (0, 1, 2)])
    source = shaken(target)
    identity = np.eye(n, n + 1)[None]
    base = jaxwarp.affine_grid(identity, (1, 1, *size), align_corners)[0]
    for targets in (target, target[:1]):
        for fixed in (False, True):
            grid = (
                jaxwarp.tps_operator(targets, (3, 1, *size), align_corners, smoothing=smoothing)(
                    source
                )
                if fixed
                else jaxwarp.tps_grid(
                    targets, source, (3, 1, *size), align_corners, smoothing=smoothing
                )
            )
            assert grid.shape == (3, *size, n)
            for i in range(3):
                t = targets[i % len(targets)]
                theirs = scipy_spline(t, source[i], base.reshape(-1, n), smoothing)
                np.testing.assert_allclose(grid[i].reshape(-1, n), theirs, rtol=0, atol=1e-10)


def test_equals_scikit_image() -> None:
    """Which keeps its matrix in float32."""
    transform = pytest.importorskip("skimage.transform")
    target = scattered(20)
    source, points = bent(target), scattered(50, seed=5)
    theirs = transform.ThinPlateSplineTransform.from_estimate(target, source)(points)
    ours = jaxwarp.tps_apply(jaxwarp.tps_fit(target[None], source[None]), points[None])[0]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5)


# SciPy, float32 -------------------------------------------------------------------

SIZE = (1, 1, 48, 48)

# For each set of control points, the error in half image widths that a float32 LU solve was
# seen to make (measured independently of jaxwarp).
FLOAT32 = {
    "lattice 16": (lattice(4), 4e-7),
    "lattice 256": (lattice(16), 2e-5),
    "lattice 1024": (lattice(32), 2e-4),
    "scattered 256": (scattered(256), 1e-2),
    "clustered 1024": (clustered(1024), 2e-4),
}


@pytest.mark.parametrize(("target", "of_fit"), FLOAT32.values(), ids=FLOAT32)
def test_float32(target: np.ndarray, of_fit: float) -> None:
    """A fixed spline is as exact as a matrix in float32 can be, however many its points."""
    target = target.astype(np.float32)
    source = bent(target).astype(np.float32)
    free, fixed, _ = float32_errors(target, source)
    assert free < of_fit
    operator = jaxwarp.tps_operator(target[None], SIZE)
    moved = np.asarray(operator.matrix[0], np.float64) @ (source - target).astype(np.float64)
    best = (np.asarray(operator.base, np.float64).reshape(-1, 2) + moved).astype(np.float32)
    expected = scipy_spline(target, source, pixel_centers(48, 48).astype(np.float32))
    # One ulp more than when all sums are exact and only matrix and result are rounded.
    assert fixed < np.abs(best - expected).max() + np.finfo(np.float32).eps


@pytest.mark.parametrize("name", ["lattice 256", "lattice 1024", "scattered 256"])
def test_float32_beats_the_inverse(name: str) -> None:
    """Source points that don't move smoothly cost accuracy, but less than the torch module's."""
    target = FLOAT32[name][0].astype(np.float32)
    free, fixed, of_torch = float32_errors(target, shaken(target).astype(np.float32))
    assert free < 0.5 * of_torch
    assert fixed < 3e-7


def float32_errors(target: np.ndarray, source: np.ndarray) -> list[float]:
    """Return the errors of tps_grid, tps_operator and the torch module on 48 x 48 pixels."""
    module = ThinPlateSplineGrid(torch.tensor(target)[None], SIZE[2:], False)
    grids = [
        jaxwarp.tps_grid(target[None], source[None], SIZE),
        jaxwarp.tps_operator(target[None], SIZE)(source[None]),
        module(torch.tensor(source)[None]),
    ]
    expected = scipy_spline(target, source, pixel_centers(48, 48).astype(np.float32))
    errors = []
    for grid in map(np.asarray, grids):
        assert grid.dtype == np.float32
        errors.append(np.abs(grid.reshape(-1, 2) - expected).max())
    return errors


# The torch module ---------------------------------------------------------------------


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("target", [lattice(3), scattered(12)], ids=["lattice", "scattered"])
def test_equals_the_torch_module(target: np.ndarray, align_corners: bool) -> None:
    """The same grid, the same image, and the same gradients in every operand."""
    batch, out = 2, (6, 9)
    target = np.stack([target, shaken(target, 0.02)])
    source = shaken(target)
    random = np.random.default_rng(3)
    image = random.standard_normal((batch, 3, 7, 8))
    of_grid = random.standard_normal((batch, *out, 2))
    of_image = random.standard_normal((batch, 3, *out))

    cpt, cps, picture = (torch.tensor(x, requires_grad=True) for x in (target, source, image))
    their_grid = ThinPlateSplineGrid(cpt, out, align_corners)(cps)
    their_image = F.grid_sample(picture, their_grid, align_corners=align_corners)
    theirs = [their_grid, their_image]
    theirs += torch.autograd.grad(their_grid, (cpt, cps), torch.tensor(of_grid), retain_graph=True)
    theirs += torch.autograd.grad(their_image, (cpt, cps, picture), torch.tensor(of_image))

    def grid(target, source):
        return jaxwarp.tps_grid(target, source, (batch, 1, *out), align_corners)

    def warped(target, source, image):
        return jaxwarp.grid_sample(image, grid(target, source), align_corners=align_corners)

    our_grid, pull_grid = jax.vjp(grid, target, source)
    our_image, pull_image = jax.vjp(warped, target, source, image)
    ours = [our_grid, our_image, *pull_grid(of_grid), *pull_image(of_image)]
    for a, b in zip(ours, theirs, strict=True):
        expected = b.detach().numpy()
        scale = np.abs(expected).max()
        np.testing.assert_allclose(a, expected, rtol=0, atol=1e-11 * max(scale, 1.0))

    operator = jaxwarp.tps_operator(target, (batch, 1, *out), align_corners)
    by_matrix, pull_matrix = jax.vjp(operator, source)
    np.testing.assert_allclose(by_matrix, our_grid, rtol=0, atol=1e-12)
    np.testing.assert_allclose(pull_matrix(of_grid)[0], ours[3], rtol=0, atol=1e-10)


# Identity ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(11,), (5, 9), (3, 4, 5)])
def test_points_that_stay_give_the_identity_exactly(size, align_corners, dtype) -> None:
    n = len(size)
    target = scattered(20, n)[None].astype(dtype)
    full = (1, 1, *size)
    theta = np.eye(n, n + 1, dtype=dtype)[None]
    base = np.asarray(jaxwarp.affine_grid(theta, full, align_corners))
    grid = np.asarray(jaxwarp.tps_grid(target, target, full, align_corners))
    operator = np.asarray(jaxwarp.tps_operator(target, full, align_corners)(target))
    np.testing.assert_array_equal(grid, base)
    np.testing.assert_array_equal(operator, base)


@pytest.mark.parametrize("align_corners", [False, True])
def test_the_identity_does_nothing_to_an_image(align_corners: bool) -> None:
    """One align_corners for grid and sampler; sizes whose pixel centres are exact in binary."""
    size = (1, 3, 5, 9) if align_corners else (1, 3, 4, 8)
    image = np.random.default_rng(0).standard_normal(size)
    target = scattered(10)[None]
    grid = jaxwarp.tps_grid(target, target, size, align_corners)
    result = jaxwarp.grid_sample(image, grid, align_corners=align_corners)
    np.testing.assert_array_equal(result, image)


def test_affine_maps_are_reproduced() -> None:
    target = scattered(20)[None]
    matrix, shift = np.array([[0.9, 0.2], [-0.3, 1.1]]), np.array([[0.1, -0.2]])
    spline = jaxwarp.tps_fit(target, target @ matrix.T + shift)
    points = 3 * scattered(30, seed=4)[None]
    np.testing.assert_allclose(
        jaxwarp.tps_apply(spline, points), points @ matrix.T + shift, rtol=0, atol=1e-12
    )
    assert abs(jaxwarp.bending_energy(spline)[0]) < 1e-20


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
    check_grads(every_function(n)[what], operands, order, atol=2e-4, rtol=2e-4)


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
    first = jax.jacfwd(ours)
    np.testing.assert_allclose(first(0.0), (high - low) / (2 * h), rtol=0, atol=2e-5)
    second = (high - 2 * middle + low) / h**2
    np.testing.assert_allclose(
        jax.jacfwd(first)(0.0), second, rtol=0, atol=2e-5 * np.abs(second).max()
    )


@pytest.mark.parametrize("n", [1, 2, 3])
def test_derivatives_on_a_control_point(n: int) -> None:
    """All finite; the first, where it exists, is the limit from nearby."""
    target = lattice(3, n)[None]
    source = shaken(target)

    def energy(target, source, points):
        moved = jaxwarp.tps_apply(jaxwarp.tps_fit(target, source), points)
        return jnp.sum(jnp.sin(moved))

    operands = (target, source, target)
    gradients = jax.grad(energy, argnums=(0, 1, 2))(*operands)
    for gradient in gradients:
        assert np.isfinite(gradient).all()
    forward = jax.jvp(energy, operands, operands)[1]
    np.testing.assert_allclose(
        forward, sum(np.sum(g * x) for g, x in zip(gradients, operands, strict=True)), rtol=1e-9
    )
    for i in range(3):
        for row in jax.jacfwd(jax.grad(energy, argnums=(0, 1, 2)), argnums=i)(*operands):
            assert np.isfinite(row).all()
    if n < 3:  # in 3-D the spline has a cusp there, and the derivative is the mean of both sides
        near = jax.grad(energy, argnums=2)(target, source, target + 1e-9)
        np.testing.assert_allclose(gradients[2], near, rtol=0, atol=1e-6)


def test_smoothing_has_a_derivative() -> None:
    target = scattered(12)[None]
    source, points = shaken(target), scattered(5, seed=5)[None]

    def moved(smoothing):
        return jaxwarp.tps_apply(jaxwarp.tps_fit(target, source, smoothing=smoothing), points)

    check_grads(moved, (np.array(0.1),), order=2, atol=1e-5, rtol=1e-5)


# Definition ----------------------------------------------------------------------------


def test_energy_is_the_integral_of_squared_second_derivatives() -> None:
    """The integrand falls off as r^-4: what lies outside a radius R is worth about R^-2."""
    target = np.array([[[-1.0, 0.2], [1.0, -0.1], [0.1, 1.0], [0.0, -1.1], [0.3, 0.2]]])
    source = shaken(target, 0.3)
    spline = jaxwarp.tps_fit(target, source)

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

    assert np.abs(jax.grad(cost)(fitted)).max() < 1e-9
    assert np.abs(jax.grad(cost)(source)).max() > 1e-3
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


@pytest.mark.parametrize("how", REASONS)
@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_degenerate_points_are_nan_under_a_trace(how: str, n: int, dtype: str) -> None:
    """That batch element and no other, gradients included."""
    good = scattered(8, n)[None].astype(dtype)
    target = np.concatenate([good, spoiled(how, n, dtype), good])
    source = np.concatenate([bent(good)] * 3).astype(dtype)
    size = (3, 1, *(4, 3, 2)[:n])

    @jax.jit
    def run(target, source):
        grid, pull_back = jax.vjp(lambda t, s: jaxwarp.tps_grid(t, s, size), target, source)
        return grid, pull_back(jnp.ones_like(grid))

    grid, gradients = run(target, source)
    assert np.isnan(grid[1]).all()
    expected, expected_gradients = run(good.repeat(3, 0), source)
    for i in (0, 2):
        np.testing.assert_array_equal(grid[i], expected[i])
        for ours, theirs in zip(gradients, expected_gradients, strict=True):
            np.testing.assert_array_equal(ours[i], theirs[i])


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


# Errors ------------------------------------------------------------------------------------

T, S, P = (np.zeros(shape) for shape in ((2, 5, 2), (2, 5, 2), (2, 7, 2)))
GOOD = np.stack([scattered(5), scattered(5, seed=1)])


def good_spline() -> jaxwarp.ThinPlateSpline:
    return jaxwarp.tps_fit(GOOD, GOOD)


@dataclasses.dataclass(frozen=True)
class Wrong:
    """A call that must fail, and what its message must say."""

    name: str
    call: Callable[[], Any]
    error: type[Exception]
    says: str


untyped: Any = jaxwarp

WRONG = [
    Wrong("list", lambda: untyped.tps_fit([[0.0, 0.0]], S), TypeError, "target .* got list"),
    Wrong("integers", lambda: untyped.tps_fit(T.astype(int), S), TypeError, "target .* int64"),
    Wrong("complex", lambda: untyped.tps_fit(T, S + 0j), TypeError, "source .* complex128"),
    Wrong(
        "no batch", lambda: untyped.tps_fit(T[0], S), ValueError, r"target .*\(N, T, n\).*\(5, 2\)"
    ),
    Wrong(
        "4-D", lambda: untyped.tps_fit(T, np.zeros((2, 5, 4))), ValueError, "source .* 1, 2 or 3"
    ),
    Wrong(
        "too few",
        lambda: untyped.tps_fit(T[:, :2], S[:, :2]),
        ValueError,
        r"target .* at least 3 points, got shape \(2, 2, 2\)",
    ),
    Wrong(
        "count",
        lambda: untyped.tps_fit(T, S[:, :4]),
        ValueError,
        r"source .*\(N, 5, 2\).* 5 points",
    ),
    Wrong(
        "axes", lambda: untyped.tps_fit(T, np.zeros((2, 5, 3))), ValueError, r"source .*\(N, 5, 2\)"
    ),
    Wrong("batch", lambda: untyped.tps_fit(T, S[:1]), ValueError, "target has 2, source has 1"),
    Wrong(
        "negative", lambda: untyped.tps_fit(GOOD, GOOD, smoothing=-1), ValueError, "smoothing .* -1"
    ),
    Wrong(
        "smoothing nan",
        lambda: untyped.tps_fit(GOOD, GOOD, smoothing=np.array(np.nan)),
        ValueError,
        "smoothing .* nan",
    ),
    Wrong("flag", lambda: untyped.tps_fit(T, S, smoothing=True), TypeError, "smoothing .* bool"),
    Wrong("vector", lambda: untyped.tps_fit(T, S, smoothing=np.zeros(2)), ValueError, "scalar"),
    Wrong("no spline", lambda: untyped.tps_apply(T, P), TypeError, "spline .* ndarray"),
    Wrong("no energy", lambda: untyped.bending_energy(T), TypeError, "spline .* ndarray"),
    Wrong(
        "points' axes",
        lambda: untyped.tps_apply(good_spline(), np.zeros((2, 7, 3))),
        ValueError,
        r"points .*\(N, \.\.\., 2\)",
    ),
    Wrong(
        "points' batch", lambda: untyped.tps_apply(good_spline(), P[:1]), ValueError, "points has 1"
    ),
    Wrong(
        "integer points",
        lambda: untyped.tps_invert(good_spline(), P.astype(int)),
        TypeError,
        "points .* int64",
    ),
    Wrong("steps", lambda: untyped.tps_invert(good_spline(), P, steps=0), ValueError, "steps .* 0"),
    Wrong(
        "half a step", lambda: untyped.tps_invert(good_spline(), P, steps=1.5), TypeError, "float"
    ),
    Wrong(
        "size", lambda: untyped.tps_grid(T, S, (2, 1, 4)), ValueError, "size .* 4 entries .* 2-D"
    ),
    Wrong(
        "size's batch", lambda: untyped.tps_grid(T, S, (3, 1, 4, 4)), ValueError, "size .* batch"
    ),
    Wrong("empty", lambda: untyped.tps_grid(T, S, (2, 1, 0, 4)), ValueError, "size .* positive"),
    Wrong(
        "align", lambda: untyped.tps_grid(T, S, (2, 1, 4, 4), 1), TypeError, "align_corners .* 1"
    ),
    Wrong(
        "fixed: 3-D", lambda: untyped.tps_operator(GOOD, (2, 1, 4, 4, 4)), ValueError, "4 entries"
    ),
    Wrong(
        "fixed: batch", lambda: untyped.tps_operator(GOOD, (3, 1, 4, 4)), ValueError, "batch size 2"
    ),
    Wrong(
        "fixed: source",
        lambda: untyped.tps_operator(GOOD, (2, 1, 4, 4))(GOOD[:, :3]),
        ValueError,
        r"source .*\(N, 5, 2\)",
    ),
    Wrong(
        "fixed: source's batch",
        lambda: untyped.tps_operator(GOOD, (2, 1, 4, 4))(GOOD[:1]),
        ValueError,
        "source has 1",
    ),
    Wrong(
        "fixed: traced",
        lambda: jax.jit(lambda t: untyped.tps_operator(t, (2, 1, 4, 4)))(GOOD),
        TypeError,
        "target must be concrete",
    ),
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.name)
def test_errors(wrong: Wrong) -> None:
    with pytest.raises(wrong.error, match=re.compile(wrong.says, re.DOTALL)):
        wrong.call()


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
        return jnp.sum(spline_module.everywhere(spline_module.move, spline, points) ** 2)

    plain = jax.value_and_grad(moved, argnums=(0, 1))(spline, points)
    monkeypatch.setattr(spline_module, "_VALUES_AT_ONCE", 128 * 8)
    cut = jax.value_and_grad(moved, argnums=(0, 1))(spline, points)
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
