"""Thin-plate splines against SciPy, scikit-image and torch, and where they are the identity."""

from collections.abc import Callable

import jax
import numpy as np
import pytest
import torch
import torch.nn.functional as F

import jaxwarp
from jaxwarp._spline.fit import _elimination_order
from parity_tests.harness.control_points import (
    bent,
    clustered,
    far_off,
    lattice,
    pixel_centers,
    scattered,
    scipy_spline,
    shaken,
)
from parity_tests.harness.tps_torch import ThinPlateSplineGrid

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
        ours = np.asarray(jaxwarp.tps_apply(spline, points))
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


def test_the_first_points_to_be_eliminated_are_spread_over_all() -> None:
    for count in (1, 2, 7, 100, 1024):
        order = _elimination_order(count)
        assert sorted(order) == list(range(count))
        for first in (1, 3, 10, 50):
            chosen = np.sort(order[:first])
            gaps = np.diff([-1, *chosen, count])
            assert gaps.max() <= 3 * np.ceil(count / len(chosen))


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

    @jax.jit
    def results_and_gradients(target, source, image):
        our_grid, pull_grid = jax.vjp(grid, target, source)
        our_image, pull_image = jax.vjp(warped, target, source, image)
        return our_grid, our_image, *pull_grid(of_grid), *pull_image(of_image)

    ours = results_and_gradients(target, source, image)
    for a, b in zip(ours, theirs, strict=True):
        expected = b.detach().numpy()
        scale = np.abs(expected).max()
        np.testing.assert_allclose(a, expected, rtol=0, atol=1e-11 * max(scale, 1.0))

    operator = jaxwarp.tps_operator(target, (batch, 1, *out), align_corners)
    by_matrix, pull_matrix = jax.vjp(operator, source)
    np.testing.assert_allclose(by_matrix, ours[0], rtol=0, atol=1e-12)
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
