"""Turn objects in place, crop and paste them, solve a jigsaw by descent: patches.py [OUTPUT.png].

In the lower half of the picture it writes, nine pieces of a photograph that were moved, stretched
and turned find their places by following the gradient in their boxes and angles.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from skimage import data, transform

import jaxwarp

SIZE, PIECES, STEPS = 192, 3, 300
# The face, the badge, the shuttle and the helmet: x1, y1, x2, y2 in pixels.
BOXES = np.array([[64, 24, 108, 72], [48, 128, 80, 160], [132, 0, 176, 106], [112, 132, 188, 190]])
PLACES = np.array([[4, 138, 48, 186], [160, 150, 112, 102], [8, 0, 52, 106], [188, 0, 112, 58]])


def rotations(angles):
    """Return the maps (K, 2, 3) that turn squares."""
    c, s, zero = jnp.cos(angles), jnp.sin(angles), jnp.zeros_like(angles)
    return jnp.stack([c, -s, zero, s, c, zero], axis=1).reshape(-1, 2, 3)


def jigsaw(pieces, boxes, angles):
    """Turn each piece and draw it into its box of a grey picture."""
    count, _, side, _ = pieces.shape
    whole, each = np.tile([0, 0, side, side], (count, 1)), np.arange(count)
    turned = jaxwarp.patch_affine(pieces, whole, rotations(angles), each, padding_mode="border")
    canvas = jnp.full((1, 3, SIZE, SIZE), 0.5)
    return jaxwarp.paste(canvas, turned, boxes, 0 * each, max_box=(96, 96))


def loss(parameters, pieces, photo):
    """Compare with the photograph from fine to coarse: only the coarse sees far."""
    error, total = jigsaw(pieces, *parameters) - photo, 0.0
    for n in (SIZE, SIZE // 4, SIZE // 8, SIZE // 16):
        blocks = error.reshape(1, 3, n, SIZE // n, n, SIZE // n)
        total += jnp.mean(blocks.mean((3, 5)) ** 2)
    return total


def fit(parameters, pieces, photo):
    """Return the parameters before every step of Adam, and their losses."""
    rate = optax.cosine_decay_schedule(1.0, STEPS)
    optimizer = optax.chain(optax.scale_by_adam(), optax.scale_by_schedule(rate))
    pace = -1.0, -0.02  # of the boxes in pixels, of the angles in radians

    def step(carry, _):
        parameters, state = carry
        value, slope = jax.value_and_grad(loss)(parameters, pieces, photo)
        updates, state = optimizer.update(slope, state)
        moved = jax.tree.map(lambda p, s, u: p + s * u, parameters, pace, updates)
        return (moved, state), (parameters, value)

    return jax.lax.scan(step, (parameters, optimizer.init(parameters)), length=STEPS)[1]


def main(output="patches.png"):
    photo = np.asarray(transform.resize(data.astronaut(), (SIZE, SIZE), anti_aliasing=True))
    photo = jnp.asarray(photo.transpose(2, 0, 1)[None], jnp.float32)
    same, half_turns = np.zeros(len(BOXES), int), rotations(jnp.full(len(BOXES), jnp.pi))
    turned = jaxwarp.patch_affine(photo, BOXES, half_turns, same)
    crops = jaxwarp.crop_and_resize(photo, BOXES, same, (64, 64))
    moved = jaxwarp.paste(photo, crops, PLACES, same)

    side, rng = SIZE // PIECES, np.random.default_rng(0)
    corners = np.array([(x, y) for y in range(PIECES) for x in range(PIECES)]) * side
    home = np.concatenate([corners, corners + side], axis=1)
    pieces = jaxwarp.crop_and_resize(photo, home, np.zeros(len(home), int), (side, side))
    start = home + rng.uniform(-14, 14, home.shape), rng.uniform(-0.5, 0.5, len(home))
    start = tuple(jnp.asarray(x, jnp.float32) for x in start)
    (boxes, angles), losses = jax.jit(fit)(start, pieces, photo)
    away, turn = np.abs(boxes - home).max((1, 2)), np.degrees(np.abs(angles).max(1))
    for i in (0, -1):
        print(f"loss {losses[i]:.1e}, boxes off by {away[i]:.1e} pixels, {turn[i]:.1e} degrees")

    panels = {"boxes": photo, "turned in place": turned, "cropped, flipped and pasted": moved}
    for i in (0, 20, STEPS - 1):
        title = f"step {i}: off by {away[i]:.2g} px, {turn[i]:.2g}°"
        panels[title] = jigsaw(pieces, boxes[i], angles[i])
    figure = Figure(figsize=(8, 5.8), layout="constrained")
    axes = figure.subplots(2, 3, subplot_kw={"xticks": [], "yticks": []}).flat
    for axis, (title, panel) in zip(axes, panels.items(), strict=True):
        axis.imshow(np.asarray(panel[0]).transpose(1, 2, 0).clip(0, 1))
        axis.set_title(title, fontsize=9)
        for x1, y1, x2, y2 in BOXES if title == "boxes" else ():
            axis.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, color="yellow"))
    figure.savefig(output, dpi=150)
    print("wrote", output)


if __name__ == "__main__":
    main(*sys.argv[1:])
