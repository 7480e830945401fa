"""The task of `deformable_attention`: scikit-learn's digits among clutter, loss, scores, picture.

Boxes are (x, y, w, h): centre and size, as fractions of the canvas.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from sklearn.datasets import load_digits

import jaxwarp

SIDE = 72  # pixels of a canvas
CELLS = 3  # each of its 3 x 3 cells holds a digit, clutter, or nothing
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
    drawn = paint(patches, 2 * center - 1, size, angle).max(axis=1)
    contrast = jax.random.uniform(keys[5], (count, 1, 1), minval=0.6)
    noise = 0.1 * jax.random.normal(keys[6], drawn.shape)
    label = jnp.where(kind == 0, labels[which], 10)
    boxes = jnp.concatenate([center, jnp.broadcast_to(size, center.shape)], -1)
    return (contrast * drawn + noise)[..., None], label, boxes


def paint(patches, center, size, angle):
    """Paint patches (N, K, 8, 8), each on a canvas of its own: (N, K, 72, 72)."""
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


def loss(boxes, logits, label, true):
    """Return the focal loss of the digits plus how far their boxes are off, for each digit."""
    digits, true = targets(label, true, round(boxes.shape[1] ** 0.5))
    there = digits < 10
    wrong = optax.sigmoid_focal_loss(logits, jax.nn.one_hot(digits, 10), alpha=0.25).sum()
    off = 10 * jnp.abs(boxes - true)[..., :2] + jnp.abs(jnp.log(boxes / true))[..., 2:]
    return (wrong + jnp.where(there[..., None], off, 0).sum()) / there.sum()


# What was found ---------------------------------------------------------------


def overlap(a, b):
    """Return the intersection of boxes over their union."""
    low = jnp.maximum(a[..., :2] - a[..., 2:] / 2, b[..., :2] - b[..., 2:] / 2)
    high = jnp.minimum(a[..., :2] + a[..., 2:] / 2, b[..., :2] + b[..., 2:] / 2)
    both = jnp.prod(jnp.maximum(high - low, 0), -1)
    return both / (jnp.prod(a[..., 2:], -1) + jnp.prod(b[..., 2:], -1) - both)


def select(boxes, logits, least):
    """Mark the boxes (N, Q, 4) that are probable, and more so than all they overlap by half."""
    best = jax.nn.sigmoid(logits).max(-1)
    beaten = (overlap(boxes[:, :, None], boxes[:, None]) > 0.5) & (best[:, None] > best[..., None])
    return (best > least) & ~beaten.any(-1)


@jax.jit
def score(boxes, logits, least, label, true):
    """Return which share of the digits is found, and which share of what is found is right.

    Found is what is at least so probable; right is the digit's class, with a box that overlaps
    its own by half.
    """
    kept = select(boxes, logits, least)
    close = overlap(boxes[:, :, None], true[:, None]) > 0.5
    right = close & (logits.argmax(-1)[..., None] == label[:, None]) & kept[..., None]
    found = right.any(1).sum() / (label < 10).sum()
    return found, right.any(2).sum() / jnp.maximum(kept.sum(), 1)


def best_threshold(boxes, logits, label, true):
    """Return the probability from which on finds agree best with the truth, by their F1 score."""

    def f1(least):
        found, right = score(boxes, logits, least, label, true)
        return 2 * found * right / max(found + right, 1e-9)

    return max(np.arange(0.1, 0.9, 0.05), key=f1)


def picture(output, canvas, boxes, logits, looked, least):
    """Draw what was found on eight canvases, and where the surest find of each looked."""
    kept, probability = select(boxes, logits, least), jax.nn.sigmoid(logits).max(-1)
    figure = Figure(figsize=(12, 6.5), layout="constrained")
    figure.suptitle("Digits found, and in orange where the surest one of each canvas was looked at")
    box = {"facecolor": "black", "alpha": 0.5, "edgecolor": "none", "pad": 1}
    text = {"color": "cyan", "va": "top", "fontsize": 12, "fontweight": "bold", "bbox": box}
    for n, axes in enumerate(figure.subplots(2, 4).flat):
        axes.imshow(canvas[n, ..., 0], cmap="gray", extent=(0, SIDE, SIDE, 0))
        axes.set_axis_off()
        for q in np.flatnonzero(kept[n]):
            x, y, w, h = SIDE * np.asarray(boxes[n, q])
            axes.add_patch(Rectangle((x - w / 2, y - h / 2), w, h, fill=False, color="cyan"))
            axes.text(x - w / 2 + 1, y - h / 2 + 1, int(logits[n, q].argmax()), **text)
        if kept[n].any():
            surest = jnp.argmax(jnp.where(kept[n], probability[n], 0))
            where, weights = (np.asarray(x[n, surest]) for x in looked)
            style = {"color": "tab:orange", "alpha": 0.7, "edgecolors": "none"}
            axes.scatter(*SIDE * where.reshape(-1, 2).T, s=200 * weights.ravel(), **style)
        axes.set(xlim=(0, SIDE), ylim=(SIDE, 0))
    figure.savefig(output, dpi=110)
