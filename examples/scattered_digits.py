"""The task of `deformable_attention`: scikit-learn's digits scattered among clutter, and scores.

Boxes are (x, y, w, h): centre and size, as fractions of the canvas.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

import jaxwarp

SIDE, CELLS = (
    72,
    3,
)  # pixels of a canvas; each of its 3 x 3 cells holds a digit, clutter, or nothing
OBJECTS = CELLS**2


def load():
    """Return digits (N, 8, 8) in 0..1 with their labels, for training and for testing."""
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8).astype(np.float32) / 16
    order = np.random.default_rng(0).permutation(len(images))
    images, labels = jnp.asarray(images[order]), jnp.asarray(labels[order])
    return (images[:1400], labels[:1400]), (images[1400:], labels[1400:])


@partial(jax.jit, static_argnames="count")
def scatter(key, digits, labels, count):
    """Make ``count`` canvases from digits (M, 8, 8) and their labels (M,).

    Returns the canvases (count, 72, 72, 1); what every cell holds, (count, 9): a digit, or 10
    for none; and the boxes (count, 9, 4).
    """
    keys = jax.random.split(key, 7)
    shape = (count, OBJECTS)
    kind = jax.random.choice(keys[0], 3, shape, p=jnp.array([0.4, 0.4, 0.2]))
    which = jax.random.randint(keys[1], shape, 0, len(digits))
    cell = jnp.stack(jnp.meshgrid(*[jnp.arange(CELLS)] * 2, indexing="xy"), -1).reshape(-1, 2)
    center = (cell + jax.random.uniform(keys[2], (*shape, 2), minval=0.35, maxval=0.65)) / CELLS
    size = jax.random.uniform(keys[3], (*shape, 1), minval=0.55, maxval=1.0) / CELLS
    # Clutter is a digit with a quarter cut away, turned by any angle.
    angle = jnp.where(kind == 1, jax.random.uniform(keys[4], shape, maxval=2 * jnp.pi), 0)
    patches = digits[which] * jnp.where(
        (kind == 1)[..., None, None], jnp.ones((8, 8)).at[4:, 4:].set(0), 1
    )
    patches = patches * (kind < 2)[..., None, None]
    drawn = draw(patches, 2 * center - 1, size, angle).max(axis=1)
    contrast = jax.random.uniform(keys[5], (count, 1, 1), minval=0.6)
    noise = 0.1 * jax.random.normal(keys[6], drawn.shape)
    label = jnp.where(kind == 0, labels[which], 10)
    boxes = jnp.concatenate([center, jnp.broadcast_to(size, center.shape)], -1)
    return (contrast * drawn + noise)[..., None], label, boxes


def draw(patches, center, size, angle):
    """Draw patches (N, K, 8, 8), each on a canvas of its own: (N, K, 72, 72)."""
    count = patches.shape[0] * patches.shape[1]
    cos, sin = jnp.cos(angle) / size[..., 0], jnp.sin(angle) / size[..., 0]
    linear = jnp.stack([jnp.stack([cos, sin], -1), jnp.stack([-sin, cos], -1)], -2)
    shift = -(linear @ center[..., None])
    theta = jnp.concatenate([linear, shift], -1).reshape(count, 2, 3)
    grid = jaxwarp.affine_grid(theta, (count, 1, SIDE, SIDE))
    drawn = jaxwarp.grid_sample(patches.reshape(count, 1, 8, 8), grid)
    return drawn.reshape(*patches.shape[:2], SIDE, SIDE)


def cells(side):
    """Return a box (side * side, 4) around each cell's centre, of a digit's typical size."""
    x = (jnp.arange(side) + 0.5) / side
    centers = jnp.stack(jnp.meshgrid(x, x, indexing="xy"), -1).reshape(-1, 2)
    return jnp.concatenate([centers, jnp.full_like(centers, 0.26)], -1)


@partial(jax.vmap, in_axes=(0, 0, None))
def targets(label, box, side):
    """Return for each of side * side cells the digit centred in it, or 10, and its box."""
    column, row = jnp.moveaxis(jnp.floor(box[..., :2] * side).astype(jnp.int32), -1, 0)
    cell = jnp.where(label < 10, row * side + column, side**2)  # none: beyond the last cell
    digits = jnp.full(side**2, 10).at[cell].set(label, mode="drop")
    return digits, jnp.ones((side**2, 4)).at[cell].set(box, mode="drop")


def overlap(a, b):
    """Return the intersection of boxes over their union."""
    low = jnp.maximum(a[..., :2] - a[..., 2:] / 2, b[..., :2] - b[..., 2:] / 2)
    high = jnp.minimum(a[..., :2] + a[..., 2:] / 2, b[..., :2] + b[..., 2:] / 2)
    both = jnp.prod(jnp.maximum(high - low, 0), -1)
    return both / (jnp.prod(a[..., 2:], -1) + jnp.prod(b[..., 2:], -1) - both)


def select(boxes, probability, least):
    """Mark the boxes (N, Q, 4) that are probable, and more so than all they overlap by half."""
    best = probability.max(-1)
    beaten = (overlap(boxes[:, :, None], boxes[:, None]) > 0.5) & (best[:, None] > best[..., None])
    return (best > least) & ~beaten.any(-1)


def score(boxes, probability, kept, label, true):
    """Return which share of the digits is found, and which share of what is found is right.

    Right is the digit's class, with a box that overlaps its own by half.
    """
    close = overlap(boxes[:, :, None], true[:, None]) > 0.5
    right = close & (probability.argmax(-1)[..., None] == label[:, None]) & kept[..., None]
    return right.any(1).sum() / (label < 10).sum(), right.any(2).sum() / kept.sum()
