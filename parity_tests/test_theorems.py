"""What must hold of sampling and of grids whatever torch does.

The image sizes and numbers are exact in binary, so most of these are equalities of bits.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxwarp
from parity_tests.harness import cases, jax_side, reference
from parity_tests.harness.cases import BATCH, CHANNELS, EXACT, OUT, Case, Problem

SAMPLERS = [
    c for c in cases.SAMPLE_CASES if c.positions == EXACT and c.dtype == "float64"
]  # fmt: skip
GRID_SAMPLERS = [c for c in SAMPLERS if c.op == "grid_sample"]
every_sampler = pytest.mark.parametrize("case", SAMPLERS, ids=str)
every_grid_sampler = pytest.mark.parametrize("case", GRID_SAMPLERS, ids=str)
in_each_dimension = pytest.mark.parametrize("axes", [1, 2, 3])
both_corners = pytest.mark.parametrize("align_corners", [False, True], ids=["edges", "corners"])


def sample(case: Case, image, points=None, cotangent=None):
    """Run the case's program on another image and (N, P, n) points: value and gradients.

    The points are filled up to the number that the program was compiled for, with a
    cotangent of zero.
    """
    problem = cases.problem(case)
    name = list(problem.operands)[1]
    own = problem.operands[name]
    count = own[0, ..., 0].size if points is None else points.shape[1]
    flat = own.reshape(BATCH, -1, case.axes).copy()
    if points is not None:
        flat[:, :count] = points
    ct = np.zeros((BATCH, CHANNELS, flat.shape[1]))
    ct[..., :count] = 0 if cotangent is None else cotangent
    other = Problem(case, {"input": image, name: flat.reshape(own.shape)}, ct, problem.size)
    value, d_input, d_points = jax_side.run(
        jax_side.first_order, other, ct.reshape(problem.cotangent.shape)
    )
    return (
        value.reshape(BATCH, CHANNELS, -1)[..., :count],
        d_input,
        d_points.reshape(flat.shape)[:, :count],
    )


def whole_numbers(shape, seed=0):
    return np.random.default_rng(seed).integers(-7, 8, shape).astype(np.float64)


def image_of(case: Case, seed=0):
    return whole_numbers((BATCH, CHANNELS, *cases.spatial_size(case)), seed)


def identity(axes):
    return np.broadcast_to(np.eye(axes, axes + 1), (BATCH, axes, axes + 1))


def affine_points(theta, size, align_corners):
    grid = jaxwarp.affine_grid(theta, (BATCH, CHANNELS, *size), align_corners)
    return np.asarray(grid).reshape(BATCH, -1, len(size))


# Sampling ---------------------------------------------------------------------


@every_grid_sampler
def test_the_identity_grid_returns_the_image(case: Case) -> None:
    image = image_of(case)
    points = affine_points(identity(case.axes), image.shape[2:], case.align_corners)
    np.testing.assert_array_equal(sample(case, image, points)[0].reshape(image.shape), image)


def cube_symmetries(axes):
    """List every flip and right-angle rotation as (order of axes, signs)."""
    for order in itertools.permutations(range(axes)):
        for signs in itertools.product((1, -1), repeat=axes):
            yield order, signs


@every_grid_sampler
def test_flips_and_right_angles_move_pixels_and_change_none(case: Case) -> None:
    image = image_of(case)
    for order, signs in cube_symmetries(case.axes):
        # Output axis i runs along input axis order[i], backwards if signs[i] is negative.
        expected = np.transpose(image, (0, 1, *(2 + a for a in order)))
        expected = np.flip(expected, tuple(2 + i for i, s in enumerate(signs) if s < 0))
        theta = np.zeros((BATCH, case.axes, case.axes + 1))
        for i, (a, s) in enumerate(zip(order, signs, strict=True)):
            theta[:, case.axes - 1 - a, case.axes - 1 - i] = s
        points = affine_points(theta, expected.shape[2:], case.align_corners)
        value = sample(case, image, points)[0].reshape(expected.shape)
        np.testing.assert_array_equal(value, expected, f"axes {order}, signs {signs}")


@every_sampler
def test_constants_are_reproduced_inside_and_by_padding_everywhere(case: Case) -> None:
    image = np.full((BATCH, CHANNELS, *cases.spatial_size(case)), 3.0)
    value = sample(case, image)[0]
    points = list(cases.problem(case).operands.values())[1].reshape(BATCH, -1, case.axes)
    sizes = np.array(cases.spatial_size(case)[::-1])
    pixels = (
        points if case.op == "remap" else reference.to_pixels(points, sizes, case.align_corners)
    )
    reach = 1 if case.mode == "bicubic" else 0
    inside = np.all((pixels >= reach) & (pixels <= sizes - 1 - reach), axis=-1)
    held = inside if case.padding == "zeros" else np.ones_like(inside)
    assert held.any() or min(sizes) <= 2 * reach
    np.testing.assert_array_equal(np.moveaxis(value, 1, -1)[held], 3.0)


@every_sampler
def test_sampling_is_linear_in_the_image(case: Case) -> None:
    x, y = image_of(case, 1), image_of(case, 2)
    both = sample(case, 3 * x - 5 * y)[0]
    np.testing.assert_array_equal(both, 3 * sample(case, x)[0] - 5 * sample(case, y)[0])


@every_sampler
def test_sampling_and_its_vjp_are_adjoint(case: Case) -> None:
    """<sample(x), y> = <x, vjp(y)>, without rounding."""
    x, y = image_of(case), whole_numbers((BATCH, CHANNELS, int(np.prod(OUT[case.axes]))), 1)
    value, d_input, _ = sample(case, x, cotangent=y)
    assert np.sum(value * y) == np.sum(x * d_input)


@every_sampler
def test_padded_weights_sum_to_one(case: Case) -> None:
    """Border and reflection lose nothing of a cotangent; zeros loses what lies outside."""
    ones = np.ones((BATCH, CHANNELS, int(np.prod(OUT[case.axes]))))
    total = sample(case, image_of(case), cotangent=ones)[1].sum(axis=tuple(range(2, 2 + case.axes)))
    if case.padding == "zeros":
        assert (total < ones.sum(-1)).all()
    else:
        np.testing.assert_array_equal(total, ones.sum(-1))


@pytest.mark.parametrize("case", [c for c in GRID_SAMPLERS if c.axes == 3], ids=str)
def test_a_product_of_lines_is_sampled_line_by_line(case: Case) -> None:
    size = cases.spatial_size(case)
    lines = [whole_numbers((BATCH, CHANNELS, s), i) for i, s in enumerate(size)]
    volume = (
        lines[0][..., :, None, None] * lines[1][..., None, :, None] * lines[2][..., None, None, :]
    )
    grid = cases.problem(case).operands["grid"].reshape(BATCH, -1, 3)
    options = (case.mode, case.padding, case.align_corners)
    product = 1.0
    for axis, line in enumerate(lines):
        along = np.ascontiguousarray(grid[..., 2 - axis, None])
        product = product * np.asarray(jaxwarp.grid_sample(line, along, *options))
    np.testing.assert_array_equal(sample(case, volume, grid)[0], product)


@every_sampler
def test_a_nan_pixel_spoils_only_the_samples_that_read_it(case: Case) -> None:
    """A weight of zero reads; a tap outside the image does not."""
    image = image_of(case)
    one_each = np.random.default_rng(3).integers(0, image[0, 0].size, (BATCH, CHANNELS, 1))
    np.put_along_axis(image.reshape(BATCH, CHANNELS, -1), one_each, np.nan, axis=-1)
    problem = cases.problem(case)
    name = list(problem.operands)[1]
    other = Problem(case, problem.operands | {"input": image}, problem.cotangent, problem.size)
    expected = reference.first_order(other, problem.cotangent)
    value, d_input, _ = jax_side.run(jax_side.first_order, other, problem.cotangent)
    assert np.isnan(expected.value).any()
    assert np.isfinite(expected.value).any(), name
    np.testing.assert_array_equal(value, expected.value)
    np.testing.assert_array_equal(d_input, expected.d_input)


@pytest.mark.parametrize("case", [c for c in SAMPLERS if c.padding == "reflection"], ids=str)
def test_reflecting_a_huge_number_stays_inside_the_image(case: Case) -> None:
    """Which pixel it is is left to rounding."""
    rng = np.random.default_rng(4)
    shape = (BATCH, int(np.prod(OUT[case.axes])), case.axes)
    points = rng.choice(np.array([*cases.HUGE, 1.5e308, -1.5e308, 3.0e15]), shape)
    ones = np.ones((BATCH, CHANNELS, shape[1]))
    value, d_input, d_points = sample(case, np.full_like(image_of(case), 2.0), points, ones)
    np.testing.assert_allclose(value, 2.0, rtol=1e-13)
    np.testing.assert_allclose(
        d_input.sum(axis=tuple(range(2, 2 + case.axes))), shape[1], rtol=1e-12
    )
    assert np.isfinite(d_points).all()


@pytest.mark.parametrize("case", [c for c in SAMPLERS if c.op == "remap"], ids=str)
def test_remap_is_grid_sample_in_pixels(case: Case) -> None:
    image, positions = cases.problem(case).operands.values()
    size = np.array(image.shape[:1:-1])
    twin = Case("grid_sample", case.axes, case.dtype, case.mode, case.padding, False, EXACT)
    grid = ((2 * positions + 1) / size - 1).reshape(BATCH, -1, case.axes)
    np.testing.assert_array_equal(sample(case, image)[0], sample(twin, image, grid)[0])


# Grids ------------------------------------------------------------------------


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


SIZE = {1: (5,), 2: (4, 5), 3: (2, 4, 5)}


@in_each_dimension
@both_corners
def test_composed_maps_are_applied_one_after_the_other(axes, align_corners) -> None:
    outer, inner = normal(BATCH, axes, axes + 1), normal(BATCH, axes, axes + 1, seed=1)
    both = affine_points(jaxwarp.compose_affine(outer, inner), SIZE[axes], align_corners)
    first = affine_points(inner, SIZE[axes], align_corners)
    then = np.einsum("nij,npj->npi", outer[..., :-1], first) + outer[:, None, :, -1]
    np.testing.assert_allclose(both, then, rtol=0, atol=1e-14 * np.abs(then).max() * 8)


@in_each_dimension
def test_composing_with_the_inverse_gives_the_identity(axes) -> None:
    theta = normal(BATCH, axes, axes + 1) + 3 * identity(axes)
    inverse = jaxwarp.invert_affine(theta)
    for product in (jaxwarp.compose_affine(theta, inverse), jaxwarp.compose_affine(inverse, theta)):
        np.testing.assert_allclose(product, identity(axes), rtol=0, atol=1e-14)


@in_each_dimension
def test_a_singular_map_spoils_only_its_own_batch_element(axes) -> None:
    theta = normal(BATCH, axes, axes + 1) + 3 * identity(axes)
    broken = theta.copy()
    broken[0, :, :-1] = 0
    inverse = np.asarray(jaxwarp.invert_affine(broken))
    assert not np.isfinite(inverse[0]).all()
    np.testing.assert_array_equal(inverse[1], np.asarray(jaxwarp.invert_affine(theta))[1])


@in_each_dimension
@both_corners
def test_a_homography_without_perspective_is_affine(axes, align_corners) -> None:
    theta = normal(BATCH, axes, axes + 1)
    last = np.broadcast_to(np.eye(axes + 1)[-1:], (BATCH, 1, axes + 1))
    size = (BATCH, CHANNELS, *SIZE[axes])
    affine = jaxwarp.affine_grid(theta, size, align_corners)
    for scale in (1, 2, 0.3):
        homogeneous = scale * np.concatenate([theta, last], 1)
        projective = jaxwarp.homography_grid(homogeneous, size, align_corners)
        np.testing.assert_allclose(projective, affine, rtol=0, atol=4e-15)


@in_each_dimension
def test_points_behind_the_horizon_read_nothing_and_disturb_nobody(axes) -> None:
    """The horizon runs through the picture: half of it is behind."""
    theta = np.broadcast_to(np.eye(axes + 1), (BATCH, axes + 1, axes + 1)).copy()
    theta[:, -1, 0] = 2.0
    size = (BATCH, CHANNELS, *(4,) * axes)
    image = 1 + np.abs(normal(*size))

    def warped(theta, padding_mode="zeros"):
        grid = jaxwarp.homography_grid(theta, size)
        return jaxwarp.grid_sample(image, grid, padding_mode=padding_mode)

    behind = 1 + 2 * np.arange(-0.75, 1, 0.5) <= 0
    assert 0 < behind.sum() < 4
    grid = np.asarray(jaxwarp.homography_grid(theta, size))
    assert np.isfinite(grid).all()
    assert (np.abs(grid[..., behind, :]) > 1e20).all()
    np.testing.assert_array_equal(np.asarray(warped(theta))[..., behind], 0)
    for padding_mode in cases.PADDINGS:
        assert np.isfinite(warped(theta, padding_mode)).all()
        gradient = jax.grad(lambda t, p=padding_mode: warped(t, p).sum())(jnp.asarray(theta))
        assert np.isfinite(gradient).all()

    def in_front(theta):
        return jnp.sum(
            jnp.where(jnp.asarray(behind)[:, None], 0, jaxwarp.homography_grid(theta, size))
        )

    def all_of_it(theta):
        return jnp.sum(jaxwarp.homography_grid(theta, size))

    theta = jnp.asarray(theta)
    np.testing.assert_array_equal(jax.grad(all_of_it)(theta), jax.grad(in_front)(theta))


@in_each_dimension
@both_corners
def test_no_flow_is_the_identity_and_a_whole_pixel_is_a_shift(axes, align_corners) -> None:
    size = (5, 3, 9)[:axes] if align_corners else (4, 2, 8)[:axes]
    still = jaxwarp.flow_grid(np.zeros((BATCH, *size, axes)), align_corners)
    centers = affine_points(identity(axes), size, align_corners)
    np.testing.assert_array_equal(np.asarray(still).reshape(centers.shape), centers)
    image = whole_numbers((BATCH, CHANNELS, *size))
    for i in range(axes):
        flow = np.zeros((BATCH, *size, axes))
        flow[..., i] = 1  # of (x, y, z): x is the last axis
        axis = 1 + axes - i
        moved = jaxwarp.grid_sample(
            image, jaxwarp.flow_grid(flow, align_corners), "bilinear", "border", align_corners
        )
        last = size[axes - 1 - i] - 1
        expected = np.take(image, np.minimum(np.arange(last + 1) + 1, last), axis)
        np.testing.assert_array_equal(moved, expected)
