"""Flows that compose, invert, integrate and fold: values, and what must hold of them."""

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy.linalg import expm
from scipy.ndimage import map_coordinates

import jaxwarp

SIZES = {1: (9,), 2: (6, 8), 3: (5, 4, 6)}
NUMPY_MODES: dict[str, Any] = {
    "zeros": "constant",
    "border": "edge",
    "reflection": "symmetric",
    "wrap": "wrap",
}
MIXED = ("border", "wrap", "zeros")
in_each_dimension = pytest.mark.parametrize("axes", SIZES)
with_each_padding = pytest.mark.parametrize("padding_mode", NUMPY_MODES)
few = settings(max_examples=25, deadline=None, derandomize=True, database=None)


def random_flow(axes, reach, seed=0, batch=2):
    shape = (batch, *SIZES[axes], axes)
    return np.random.default_rng(seed).uniform(-reach, reach, shape)


def pixels(spatial):
    """Return every pixel's position, (*spatial, n), listed (x, y, z)."""
    return np.stack(np.indices(spatial)[::-1], axis=-1).astype(np.float64)


def composed(outer, inner, padding_mode):
    """Compose with NumPy and SciPy alone; the outer flow is padded by as far as anything moves."""
    axes = inner.shape[-1]
    modes = padding_mode if isinstance(padding_mode, tuple) else (padding_mode,) * axes
    reach = 2 + int(np.abs(inner).max())
    for axis, mode in enumerate(modes, start=1):
        widths = [(reach, reach) if a == axis else (0, 0) for a in range(outer.ndim)]
        outer = np.pad(outer, widths, NUMPY_MODES[mode])
    where = np.moveaxis((pixels(inner.shape[1:-1]) + inner + reach)[..., ::-1], -1, 1)
    read = [
        np.stack([map_coordinates(x[..., i], at, order=1) for i in range(axes)], axis=-1)
        for x, at in zip(outer, where, strict=True)
    ]
    return inner + np.stack(read)


def affine_flow(matrix, spatial):
    """Return the flow (1, *spatial, n) of an affine map (n, n + 1) of pixel positions."""
    x = pixels(spatial)
    return (x @ matrix[:, :-1].T + matrix[:, -1] - x)[None]


def generator(axes, spatial, strength=0.3, seed=0, inwards=0.0):
    """Return the velocity x -> A (x - middle) as a matrix (n, n + 1)."""
    linear = np.random.default_rng(seed).uniform(-strength, strength, (axes, axes)) / axes
    linear -= inwards * np.eye(axes)
    middle = (np.array(spatial[::-1]) - 1) / 2
    return np.concatenate([linear, -(linear @ middle)[:, None]], axis=1)


def small_steps(matrix, steps):
    """Return 2**steps small steps with a velocity (n, n + 1), as one affine map."""
    rate = homogeneous(matrix)
    small = np.eye(len(rate)) + rate / 2**steps
    return np.linalg.matrix_power(small, 2**steps)[:-1]


def homogeneous(rate):
    return np.concatenate([rate, np.zeros((1, rate.shape[1]))])


def inner_half(flow):
    """Leave out a quarter of the pixels at each end of every axis."""
    cut = tuple(slice(size // 4, size - size // 4) for size in flow.shape[1:-1])
    return np.asarray(flow)[(slice(None), *cut)]


def close(ours, theirs, atol=1e-12):
    np.testing.assert_allclose(np.asarray(ours), theirs, rtol=0, atol=atol)


# Compose ----------------------------------------------------------------------


@in_each_dimension
@with_each_padding
def test_the_outer_flow_is_read_where_the_inner_one_leads(axes, padding_mode):
    outer, inner = random_flow(axes, 3.0, seed=1), random_flow(axes, 3.0, seed=2)
    ours = jaxwarp.compose_flow(outer, inner, padding_mode=padding_mode)
    close(ours, composed(outer, inner, padding_mode))


@in_each_dimension
def test_a_padding_for_each_axis(axes):
    outer, inner = random_flow(axes, 3.0, seed=1), random_flow(axes, 3.0, seed=2)
    ours = jaxwarp.compose_flow(outer, inner, padding_mode=MIXED[:axes])
    close(ours, composed(outer, inner, MIXED[:axes]))


@in_each_dimension
def test_a_flow_of_zero_changes_no_bit(axes):
    flow = random_flow(axes, 5.0)
    zero = np.zeros_like(flow)
    np.testing.assert_array_equal(jaxwarp.compose_flow(flow, zero), flow)
    np.testing.assert_array_equal(jaxwarp.compose_flow(zero, flow), flow)
    np.testing.assert_array_equal(jaxwarp.integrate_velocity(zero), zero)
    np.testing.assert_array_equal(jaxwarp.invert_flow(zero), zero)
    np.testing.assert_array_equal(jaxwarp.flow_jacobian_determinant(zero), np.ones(flow.shape[:-1]))


@in_each_dimension
def test_affine_flows_compose_as_their_matrices(axes):
    spatial = (12,) * axes
    outer, inner = (generator(axes, spatial, seed=seed) + np.eye(axes, axes + 1) for seed in (1, 2))
    both = np.asarray(jaxwarp.compose_affine(outer[None], inner[None]))[0]
    flows = [affine_flow(matrix, spatial) for matrix in (outer, inner, both)]
    # Linear interpolation is exact for affine maps, where it does not leave the frame.
    close(inner_half(jaxwarp.compose_flow(*flows[:2])), inner_half(flows[2]))


def test_warping_twice_is_warping_with_the_composition():
    """Of a picture that is affine itself no interpolation loses anything."""
    spatial = (12, 12)
    outer, inner = (
        affine_flow(generator(2, spatial, seed=s) + np.eye(2, 3), spatial) for s in (1, 2)
    )
    ramp = (2 * pixels(spatial)[..., 0] - 3 * pixels(spatial)[..., 1])[None, None]

    def warp(image, flow):
        return jaxwarp.remap(image, pixels(spatial) + np.asarray(flow), padding_mode="border")

    twice = warp(warp(ramp, outer), inner)
    once = warp(ramp, jaxwarp.compose_flow(outer, inner))
    close(np.asarray(twice)[0, 0, 3:9, 3:9], np.asarray(once)[0, 0, 3:9, 3:9])


# Invert -----------------------------------------------------------------------


@in_each_dimension
@with_each_padding
def test_the_inverse_composes_to_nothing(axes, padding_mode):
    """Where no slope exceeds 1/2, in every axis together, 50 steps leave 2**-50."""
    flow = random_flow(axes, 0.25 / axes)
    inverse = jaxwarp.invert_flow(flow, steps=50, padding_mode=padding_mode)
    close(jaxwarp.compose_flow(flow, inverse, padding_mode=padding_mode), 0)


@in_each_dimension
def test_the_inverse_of_an_affine_flow_is_that_of_its_matrix(axes):
    spatial = (12,) * axes
    matrix = generator(axes, spatial) + np.eye(axes, axes + 1)
    back = np.asarray(jaxwarp.invert_affine(matrix[None]))[0]
    inverse = jaxwarp.invert_flow(affine_flow(matrix, spatial), steps=50)
    close(inner_half(inverse), inner_half(affine_flow(back, spatial)))
    # Inside, the other order gives nothing either.
    both = jaxwarp.compose_flow(inverse, affine_flow(matrix, spatial))
    close(inner_half(both), 0)


def test_each_step_shrinks_the_error_by_the_slope():
    x = pixels((16,))[None]
    flow = 0.5 * (x - 7.5)
    exact = -(x - 7.5) / 3
    errors = [np.abs(jaxwarp.invert_flow(flow, steps=steps) - exact).max() for steps in range(3, 9)]
    np.testing.assert_allclose(np.divide(errors[1:], errors[:-1]), 0.5, rtol=1e-9)


@with_each_padding
def test_a_flow_that_folds_has_a_finite_result_and_a_negative_determinant(padding_mode):
    flow = np.random.default_rng(0).uniform(-9, 9, (1, 8, 8, 2))
    assert jaxwarp.flow_jacobian_determinant(flow).min() < 0
    for result in (
        jaxwarp.invert_flow(flow, padding_mode=padding_mode),
        jaxwarp.integrate_velocity(flow, padding_mode=padding_mode),
    ):
        assert np.isfinite(result).all()
        assert np.abs(result).max() <= 128 * 9


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_so_in_its_own_batch_element(bad):
    flow = random_flow(2, 0.1)
    flow[0, 2, 3, 0] = bad
    for result in (jaxwarp.invert_flow(flow), jaxwarp.integrate_velocity(flow)):
        lost = np.any(~np.isfinite(result), axis=-1)  # inf, or NaN of 0 * inf and inf - inf
        assert lost[0, 2, 3]
        assert not lost[1].any()


# Integrate --------------------------------------------------------------------


@in_each_dimension
@with_each_padding
def test_integration_is_scaling_and_squaring(axes, padding_mode):
    velocity = random_flow(axes, 2.0)
    expected = velocity / 8
    for _ in range(3):
        expected = composed(expected, expected, padding_mode)
    close(jaxwarp.integrate_velocity(velocity, steps=3, padding_mode=padding_mode), expected)


def test_on_a_periodic_axis_integration_does_not_care_where_the_seam_is():
    velocity = random_flow(2, 2.0)
    periodic = ("border", "wrap")
    moved = jaxwarp.integrate_velocity(np.roll(velocity, 3, axis=2), padding_mode=periodic)
    still = jaxwarp.integrate_velocity(velocity, padding_mode=periodic)
    close(moved, np.roll(still, 3, axis=2))


@in_each_dimension
def test_no_steps_give_the_velocity_and_constant_velocities_their_shift(axes):
    velocity = random_flow(axes, 2.0)
    np.testing.assert_array_equal(jaxwarp.integrate_velocity(velocity, steps=0), velocity)
    shift = np.full_like(velocity, 2.75)
    np.testing.assert_array_equal(jaxwarp.integrate_velocity(shift), shift)
    close(jaxwarp.integrate_velocity(shift, steps=64), shift)


@in_each_dimension
def test_a_linear_velocity_integrates_to_its_matrix_exponential(axes):
    """Exactly to the power that 2**steps small steps are, and that tends to the exponential."""
    spatial = (12,) * axes
    # Inwards, so that no step leaves the frame and linear interpolation is exact.
    matrix = generator(axes, spatial, 0.1, inwards=0.3)
    velocity = affine_flow(matrix + np.eye(axes, axes + 1), spatial)
    exact = affine_flow(expm(homogeneous(matrix))[:-1], spatial)
    misses = []
    for steps in (6, 7):
        ours = jaxwarp.integrate_velocity(velocity, steps=steps)
        close(ours, affine_flow(small_steps(matrix, steps), spatial))
        misses.append(np.abs(ours - exact).max())
    assert misses[1] == pytest.approx(misses[0] / 2, rel=0.05)


@in_each_dimension
def test_the_flow_of_the_negative_velocity_is_the_inverse(axes):
    """To what 2**steps small steps forth and back leave: (1 - A / 2**s) (1 + A / 2**s)."""
    spatial, steps = (24,) * axes, 7
    matrix = generator(axes, spatial)
    velocity = affine_flow(matrix + np.eye(axes, axes + 1), spatial)
    forth, back = (jaxwarp.integrate_velocity(s * velocity, steps=steps) for s in (1, -1))
    rate = homogeneous(matrix)
    left = np.linalg.matrix_power(np.eye(axes + 1) - rate @ rate / 4**steps, 2**steps)
    both = inner_half(jaxwarp.compose_flow(back, forth))
    # What enters over the edges fades, pixel by pixel, but does not end.
    close(both, inner_half(affine_flow(left[:-1], spatial)), 1e-9)
    assert 0 < np.abs(both).max() < 2e-3 * np.abs(forth).max()


@few
@given(st.integers(0, 2**32 - 1), st.integers(2, 9), st.floats(0.1, 3.0))
def test_on_a_line_no_velocity_folds(seed, size, speed):
    """Increasing maps of a line compose to increasing ones, and so do their interpolations."""
    velocity = np.random.default_rng(seed).uniform(-speed, speed, (1, 9, 1))
    velocity[:, size:] = 0
    flow = jaxwarp.integrate_velocity(velocity)
    assert np.diff(np.asarray(flow)[0, :, 0] + np.arange(9)).min() > 0
    assert jaxwarp.flow_jacobian_determinant(flow).min() > 0


@few
@given(st.integers(0, 2**32 - 1), st.sampled_from(sorted(SIZES)))
def test_a_small_velocity_folds_nowhere(seed, axes):
    """Slopes of a tenth at most leave the derivative's diagonal larger than its rest."""
    velocity = random_flow(axes, 0.1, seed)
    flow = jaxwarp.integrate_velocity(velocity)
    assert jaxwarp.flow_jacobian_determinant(flow).min() > 0


# Determinant ------------------------------------------------------------------


@in_each_dimension
def test_the_determinant_is_that_of_numpys_gradient(axes):
    flow = random_flow(axes, 3.0)
    slopes = [
        [np.gradient(flow[..., i], axis=axis) for axis in range(axes, 0, -1)] for i in range(axes)
    ]
    matrix = np.moveaxis(np.array(slopes), (0, 1), (-2, -1)) + np.eye(axes)
    close(jaxwarp.flow_jacobian_determinant(flow), np.linalg.det(matrix))


@in_each_dimension
def test_the_determinant_of_an_affine_flow_is_its_matrixs(axes):
    matrix = generator(axes, SIZES[axes], 2.0) + np.eye(axes, axes + 1)
    determinant = jaxwarp.flow_jacobian_determinant(affine_flow(matrix, SIZES[axes]))
    close(determinant, np.linalg.det(matrix[:, :-1]))


def test_along_one_pixel_nothing_changes_size():
    flow = np.random.default_rng(0).normal(size=(1, 1, 5, 2))
    along_x = 1 + np.gradient(flow[..., 0], axis=2)
    close(jaxwarp.flow_jacobian_determinant(flow), along_x)
