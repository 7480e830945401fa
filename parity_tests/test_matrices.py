"""Matrices as people have them: degrees and pixels, torchvision's, OpenCV's, kornia's, Pillow's."""

import math

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from kornia.geometry import transform as kornia
from PIL import Image

import jaxwarp
from parity_tests.harness.differences import check_derivatives

PICTURE = np.random.default_rng(0).random((2, 3, 24, 40))  # wider than high
MOVES = {
    "nothing": {},
    "angle": {"angle": 30.0},
    "other way": {"angle": -75.0},
    "scale": {"scale": 1.63},
    "shear x": {"shear": (20.0, 0.0)},
    "shear y": {"shear": (0.0, -25.0)},
    "translate": {"translate": (3.4, -2.2)},
    "center": {"angle": 40.0, "center": (3.0, 20.0)},
    "all": {
        "angle": 25.0,
        "scale": 0.8,
        "shear": (10.0, -15.0),
        "translate": (4.0, 2.0),
        "center": (12.0, 7.0),
    },
}
every_move = pytest.mark.parametrize("name", MOVES)
every_corners = pytest.mark.parametrize("align_corners", [False, True])


def warp(image, theta, size=None, align_corners=False):
    grid = jaxwarp.affine_grid(theta, size or image.shape, align_corners)
    return jaxwarp.grid_sample(image, grid, align_corners=align_corners)


# torchvision's affine ---------------------------------------------------------


def documented_inverse(width, height, angle=0.0, scale=1.0, shear=(0.0, 0.0), translate=(0, 0),
                       center=None):  # fmt: skip
    """Output to input in pixels from the corner: the formula in torchvision's documentation.

    M = T * C * RotateScaleShear * C^-1 with RSS = R(a) * S(s) * SHy * SHx, as matrices.
    """
    a, sx, sy = (math.radians(d) for d in (angle, *shear))
    cx, cy = center or (width / 2, height / 2)

    def move(x, y):
        return np.array([[1.0, 0, x], [0, 1, y], [0, 0, 1]])

    turn = np.array([[math.cos(a), -math.sin(a), 0], [math.sin(a), math.cos(a), 0], [0, 0, 1]])
    enlarge = np.diag([scale, scale, 1.0])
    along_y = np.array([[1.0, 0, 0], [-math.tan(sy), 1, 0], [0, 0, 1]])
    along_x = np.array([[1.0, -math.tan(sx), 0], [0, 1, 0], [0, 0, 1]])
    m = move(*translate) @ move(cx, cy) @ turn @ enlarge @ along_y @ along_x @ move(-cx, -cy)
    return np.linalg.inv(m)


def sampled_there(image, inverse):
    """Read the image where a map from output to input says, in pixels from the corner."""
    h, w = image.shape[2:]
    y, x = np.indices((h, w)) + 0.5
    at = np.stack([x, y, np.ones_like(x)], -1) @ inverse[:2].T - 0.5
    return jaxwarp.remap(image, np.broadcast_to(at, (len(image), h, w, 2)))


@every_move
@every_corners
def test_the_picture_is_that_of_the_documented_formula(name, align_corners):
    inverse = documented_inverse(40, 24, **MOVES[name])
    theta = jaxwarp.affine_matrix(PICTURE.shape, **MOVES[name], align_corners=align_corners)
    assert theta.dtype == jnp.float64
    ours = warp(PICTURE, theta, align_corners=align_corners)
    np.testing.assert_allclose(ours, sampled_there(PICTURE, inverse), atol=1e-11)


@every_move
def test_the_picture_is_pillows(name):
    """Whose matrix is that of the inverse, in pixels from the corner; it computes in 16.16 bits."""
    picture = Image.fromarray(PICTURE[0, 0].astype(np.float32))
    inverse = documented_inverse(40, 24, **MOVES[name])
    data = tuple(inverse[:2].ravel())
    theirs = picture.transform((40, 24), Image.Transform.AFFINE, data, Image.Resampling.NEAREST)
    theta = jaxwarp.affine_matrix((1, 1, 24, 40), **MOVES[name])
    grid = jaxwarp.affine_grid(theta, (1, 1, 24, 40))
    ours = jaxwarp.grid_sample(PICTURE[:1, :1], grid, "nearest")[0, 0]
    assert np.mean(np.abs(np.asarray(ours) - np.asarray(theirs)) > 1e-6) < 0.01  # ties


@pytest.mark.parametrize(("angle", "scale"), [(30.0, 1.0), (-110.0, 0.7), (45.0, 1.5)])
def test_an_angle_and_a_scale_are_opencvs_the_other_way_round(angle, scale):
    """Its positive angle is counter-clockwise, its center a pixel's."""
    forward = cv2.getRotationMatrix2D((12.0, 7.0), -angle, scale)
    center = (12.5, 7.5)
    ours = jaxwarp.affine_matrix((1, 3, 24, 40), angle=angle, scale=scale, center=center)
    theirs = jaxwarp.theta_from_pixels(forward[None], (1, 3, 24, 40))
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize("quarters", range(-5, 6))
def test_quarters_of_a_turn_are_exact(quarters):
    square = PICTURE[..., :24].astype("float32")
    theta = jaxwarp.affine_matrix(square.shape, angle=jnp.float32(90 * quarters))
    turned = jaxwarp.grid_sample(square, jaxwarp.affine_grid(theta, square.shape), "nearest")
    np.testing.assert_array_equal(turned, np.rot90(square, -quarters, (2, 3)))
    assert set(np.abs(np.asarray(theta)).ravel().tolist()) == {0.0, 1.0}


def test_a_picture_each_and_every_way_to_give_numbers():
    moves = {
        "angle": np.array([10.0, -20.0]),
        "scale": jnp.array([0.5, 2.0]),
        "shear": np.array([[5.0, 1.0], [0.0, 9.0]]),
        "translate": jnp.array([[1.0, 2.0], [-3.0, 0.5]]),
        "center": [[1.0, 2.0], [30.0, 20.0]],
    }
    both = jaxwarp.affine_matrix(PICTURE.shape, **moves)
    for i in range(2):
        move = {name: np.asarray(value)[i] for name, value in moves.items()}
        one = jaxwarp.affine_matrix((1, 3, 24, 40), **move)
        np.testing.assert_allclose(both[i], one[0], atol=1e-14)
    last = jaxwarp.affine_matrix((2, 24, 40, 3), **moves, channel_axis=-1)
    np.testing.assert_array_equal(last, both)
    number = jaxwarp.affine_matrix(PICTURE.shape, angle=np.int64(3), shear=7, translate=0)
    pair = jaxwarp.affine_matrix(PICTURE.shape, angle=3.0, shear=(7, 0), translate=[0, 0])
    np.testing.assert_array_equal(number, pair)


@pytest.mark.parametrize(
    ("dtype", "at_least_float32"),
    [("float32", "float32"), ("bfloat16", "float32"), ("float64", "float64")],
)
def test_the_dtype_is_that_of_the_arrays(dtype, at_least_float32):
    theta = jaxwarp.affine_matrix(PICTURE.shape, angle=jnp.zeros(2, dtype), scale=1.5)
    assert theta.dtype == at_least_float32
    with jax.enable_x64(False):
        assert jaxwarp.affine_matrix(PICTURE.shape, angle=3.0).dtype == jnp.float32


def test_under_jit_numbers_may_be_traced_one_by_one():
    @jax.jit
    def theta(x, y, angle, scale):
        move = {"translate": (x, 2.0), "shear": (y, x), "center": [x, y], "angle": angle}
        return jaxwarp.affine_matrix(PICTURE.shape, **move, scale=scale)

    expected = jaxwarp.affine_matrix(
        PICTURE.shape, translate=(3.0, 2.0), shear=(5.0, 3.0), center=(3.0, 5.0), angle=7, scale=2
    )
    np.testing.assert_allclose(theta(3.0, 5.0, 7.0, 2.0), expected, atol=1e-12)


def test_every_option_is_differentiable():
    values = [jnp.asarray(v) for v in (20.0, 1.3, (5.0, -4.0), (1.0, 2.0), (8.0, 9.0))]

    def theta(*values):
        names = ("angle", "scale", "shear", "translate", "center")
        return jaxwarp.affine_matrix(PICTURE.shape, **dict(zip(names, values, strict=True)))

    check_derivatives(theta, values, order=2, tolerance=1e-5)


def test_a_wild_scale_stays_in_its_own_picture():
    theta = jaxwarp.affine_matrix(PICTURE.shape, scale=jnp.array([0.0, 2.0]))
    assert np.isfinite(theta).all((1, 2)).tolist() == [False, True]
    upside_down = jaxwarp.affine_matrix(PICTURE.shape, scale=jnp.array([-1.0, -1.0]))
    np.testing.assert_allclose(
        upside_down, jaxwarp.affine_matrix(PICTURE.shape, angle=180.0), atol=1e-12
    )


# Pixel matrices ---------------------------------------------------------------

AFFINE = np.array([[0.9, 0.2, 1.0], [-0.1, 1.1, 0.5]])
TILTED = np.array([[1.0, 0.1, 0.5], [0.05, 0.9, 0.2], [0.004, 0.006, 1.0]])
OUT = (30, 34)


def both_of(matrix):
    return np.stack([matrix, matrix])


@every_corners
def test_affine_matrices_are_kornias(align_corners):
    theirs = kornia.warp_affine(
        torch.from_numpy(PICTURE), torch.from_numpy(both_of(AFFINE)), OUT, align_corners=True
    )
    theta = jaxwarp.theta_from_pixels(both_of(AFFINE), PICTURE.shape, OUT, align_corners)
    ours = warp(PICTURE, theta, (2, 3, *OUT), align_corners)
    np.testing.assert_allclose(ours, theirs, atol=1e-10)


@every_corners
@pytest.mark.parametrize("factor", [1.0, -3.0, 1e-12, 1e12])
def test_homographies_are_kornias_whatever_their_factor(align_corners, factor):
    theirs = kornia.warp_perspective(
        torch.from_numpy(PICTURE), torch.from_numpy(both_of(TILTED)), OUT
    )
    matrix = factor * both_of(TILTED)
    theta = jaxwarp.theta_from_pixels(matrix, PICTURE.shape, (2, 3, *OUT), align_corners)
    grid = jaxwarp.homography_grid(theta, (2, 3, *OUT), align_corners)
    ours = jaxwarp.grid_sample(PICTURE, grid, align_corners=align_corners)
    np.testing.assert_allclose(ours, theirs, atol=1e-10)


def test_they_are_opencvs():
    """Which rounds positions to 1/32 of a pixel: these matrices name no others."""
    picture = PICTURE[0].transpose(1, 2, 0).astype(np.float32)
    matrix = np.array([[2.0, 0, 3.5], [0, 0.5, -1.25]])
    theirs = cv2.warpAffine(picture, matrix, (34, 30))
    theta = jaxwarp.theta_from_pixels(matrix[None], (1, 24, 40, 3), OUT, channel_axis=-1)
    grid = jaxwarp.affine_grid(theta, (1, 30, 34, 3), channel_axis=-1)
    ours = jaxwarp.grid_sample(picture[None], grid, channel_axis=-1)[0]
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("homogeneous", [0, 1])
@every_corners
def test_points_go_where_the_matrix_takes_them(n, homogeneous, align_corners):
    """In 1 to 3 dimensions, an axis of one pixel included: theta undoes the matrix."""
    rng = np.random.default_rng(n)
    size, out = (1, 9, 6)[:n] if n > 1 else (9,), (4, 7, 5)[:n]
    matrix = np.eye(n + 1) + rng.uniform(-0.2, 0.2, (n + 1, n + 1))
    matrix[n, :n] *= 0.05 * homogeneous
    matrix[n, n] = 1.0
    theta = jaxwarp.theta_from_pixels(
        matrix[None, : n + homogeneous], (1, 1, *size), out, align_corners
    )
    make = jaxwarp.homography_grid if homogeneous else jaxwarp.affine_grid
    grid = np.asarray(make(theta, (1, 1, *out), align_corners))[0]
    pixels = np.moveaxis(np.indices(out)[::-1], 0, -1)
    back = np.concatenate([pixels, np.ones((*out, 1))], -1) @ np.linalg.inv(matrix).T
    expected = back[..., :n] / back[..., n:]
    for i, length in enumerate(size[::-1]):
        if align_corners and length == 1:
            continue  # every coordinate is at the only pixel
        at = (grid[..., i] + 1) * (length - 1) / 2 if align_corners else (
            ((grid[..., i] + 1) * length - 1) / 2
        )  # fmt: skip
        np.testing.assert_allclose(at, expected[..., i], atol=1e-10)


def test_the_side_of_the_horizon_that_is_seen_is_the_pictures():
    """A road seen from above: its horizon lies below the centre of the output."""
    matrix = np.array([[1.0, 0, 0], [0, 1, 0], [0, -0.06, 1]])  # singular at row 16.7
    shown = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]) @ matrix
    theta = jaxwarp.theta_from_pixels(shown[None], (1, 1, 12, 40), (60, 40))
    grid = jaxwarp.homography_grid(theta, (1, 1, 60, 40))
    centre = shown @ [19.5, 5.5, 1]
    x, y = centre[:2] / centre[2]
    seen = jaxwarp.remap(jnp.moveaxis(grid, -1, 1), jnp.array([[[x, y]]]))[0, :, 0]
    np.testing.assert_allclose(seen, 0, atol=0.01)


def test_a_singular_matrix_stays_in_its_own_batch_element():
    for rows in (2, 3):
        matrix = np.stack([np.zeros((rows, 3)), np.eye(rows, 3)])
        theta = jaxwarp.theta_from_pixels(matrix, PICTURE.shape)
        assert np.isfinite(theta).all((1, 2)).tolist() == [False, True]


def test_pixel_matrices_are_differentiable():
    for matrix in (AFFINE, TILTED):
        check_derivatives(
            lambda m: jaxwarp.theta_from_pixels(m, (1, 3, 24, 40), OUT),
            (matrix[None],),
            order=2,
            tolerance=1e-5,
        )
