"""Scikit-learn's digits, distorted as in the spatial transformer paper (Jaderberg et al. 2015).

Its appendix A.4, with 24 pixels for its 28 and 36 for its 42. A distortion is a random grid
from an empty canvas to the original digit; what lies outside reads zero.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

import jaxwarp

SIDE = {"R": 24, "RTS": 36, "P": 24, "E": 24}
DIGIT = 17  # pixels of the canvas that an undistorted digit fills
PIXEL = 2 / 28  # one of the paper's, in normalised units
CORNERS = np.array([[-1, -1], [1, -1], [-1, 1], [1, 1]], np.float32)
THIRDS = np.array([-3, -1, 1, 3], np.float32) / 3
LATTICE = np.array([[x, y] for y in THIRDS for x in THIRDS])


def load(seed):
    """Split the digits: training images and labels, test images and labels; (N, 8, 8, 1)."""
    pixels, labels = load_digits(return_X_y=True)
    images = (pixels.reshape(-1, 8, 8, 1) / 16).astype(np.float32)
    order = np.random.default_rng(seed).permutation(len(labels))
    train, test = order[:1200], order[1200:]
    return images[train], labels[train], images[test], labels[test]


@partial(jax.jit, static_argnames="kind")
def distort(key, images, kind):
    """Draw each digit on a canvas of its own, (N, S, S, 1), under a random warp of its own."""
    grid = WARPS[kind](key, len(images), SIDE[kind] / DIGIT)
    return jaxwarp.grid_sample(images, grid, channel_axis=-1)


def rotated(key, count, zoom):
    """R: by up to 90 degrees."""
    angle = jax.random.uniform(key, (count,), minval=-jnp.pi / 2, maxval=jnp.pi / 2)
    return similarity_grid(angle, zoom, jnp.zeros((count, 2)), SIDE["R"])


def rotated_scaled_translated(key, count, zoom):
    """RTS: by up to 45 degrees, a scale of 0.7 to 1.2, and anywhere on a larger canvas."""
    keys = jax.random.split(key, 3)
    angle = jax.random.uniform(keys[0], (count,), minval=-jnp.pi / 4, maxval=jnp.pi / 4)
    scale = jax.random.uniform(keys[1], (count,), minval=0.7, maxval=1.2)
    shift = jax.random.uniform(keys[2], (count, 2), minval=-1, maxval=1) * (36 - 24) / 36
    return similarity_grid(angle, zoom / scale, shift, SIDE["RTS"])


def similarity_grid(angle, zoom, shift, side):
    """Read the canvas at p from zoom * R(angle) (p - shift)."""
    cos, sin = zoom * jnp.cos(angle), zoom * jnp.sin(angle)
    turn = jnp.stack([cos, -sin, sin, cos], axis=-1).reshape(-1, 2, 2)
    theta = jnp.concatenate([turn, -turn @ shift[..., None]], axis=-1)
    return jaxwarp.affine_grid(theta, (len(theta), 1, side, side))


def projected(key, count, zoom):
    """P: a scale of 0.75 to 1, and each corner moved by 5 of the paper's pixels (one sigma)."""
    source = moved(key, count, zoom, CORNERS, 5 * PIXEL)
    one, zero = np.ones((4, 1), np.float32), np.zeros((4, 3), np.float32)
    rows = np.concatenate([CORNERS, one], axis=1)
    linear = np.stack([np.concatenate([rows, zero], 1), np.concatenate([zero, rows], 1)], axis=1)
    # Two equations for each corner p and its source q: h(p) - q (h7 x + h8 y) = q.
    product = -source[..., None] * CORNERS[:, None]
    system = jnp.concatenate([jnp.broadcast_to(linear, (count, 4, 2, 6)), product], axis=-1)
    h = jnp.linalg.solve(system.reshape(count, 8, 8), source.reshape(count, 8, 1))[..., 0]
    theta = jnp.concatenate([h, jnp.ones((count, 1))], axis=1).reshape(count, 3, 3)
    return jaxwarp.homography_grid(theta, (count, 1, SIDE["P"], SIDE["P"]))


def elastic(key, count, zoom):
    """E: a scale of 0.75 to 1, and a spline whose 16 points move by 1.5 pixels (one sigma)."""
    source = moved(key, count, zoom, LATTICE, 1.5 * PIXEL)
    return jaxwarp.tps_grid(LATTICE[None], source, (count, 1, SIDE["E"], SIDE["E"]))


def moved(key, count, zoom, points, sigma):
    """Scale points by 0.75 to 1 about the centre, move each at random, and zoom out."""
    keys = jax.random.split(key)
    scale = jax.random.uniform(keys[0], (count, 1, 1), minval=0.75, maxval=1.0)
    noise = sigma * jax.random.normal(keys[1], (count, *points.shape))
    return zoom / scale * (points + noise)


WARPS = {"R": rotated, "RTS": rotated_scaled_translated, "P": projected, "E": elastic}
