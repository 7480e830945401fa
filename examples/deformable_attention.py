"""Find digits among clutter with deformable attention: deformable_attention.py [OUTPUT.png].

`DeformableAttention` is the multi-scale deformable attention of Deformable DETR (Zhu et al.
2021): every query looks at a few points of every feature map, which it chooses itself. It takes
the weights of transformers' DeformableDetrMultiscaleDeformableAttention as they are. A small
detector around it finds scikit-learn's digits on cluttered canvases, in about two minutes.
"""

import sys
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scattered_digits as scene
from flax import nnx
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from rich.progress import track

import jaxwarp

STEPS, BATCH, WIDTH, RATE = 1200, 16, 64, 3e-3
FOUND = 0.3  # a digit is one that a cell says with this probability


class DeformableAttention(nnx.Module):
    """Queries that look at ``points`` points of each of ``levels`` feature maps, in every head."""

    def __init__(self, width, heads=4, levels=2, points=4, *, rngs):
        self.shape = (heads, levels, points)
        total = heads * levels * points
        # At first each head looks into its own direction, each point one pixel further out.
        turns = 2 * np.pi * np.arange(heads) / heads
        rays = np.stack([np.cos(turns), np.sin(turns)], -1)
        rays = (rays / abs(rays).max(-1, keepdims=True))[:, None, None] * np.ones((levels, 1, 1))
        star = rays * np.arange(1, points + 1)[:, None]
        zeros, bias = nnx.initializers.zeros, lambda *_: jnp.asarray(star.ravel(), jnp.float32)
        linear = partial(nnx.Linear, width, rngs=rngs)
        self.sampling_offsets = linear(2 * total, kernel_init=zeros, bias_init=bias)
        self.attention_weights = linear(total, kernel_init=zeros)
        self.value_proj, self.output_proj = linear(width), linear(width)

    def look(self, queries, boxes, sizes):
        """Return where each query looks, (N, Q, heads, levels, points, 2), and with what weight.

        Boxes (N, Q, levels, 2 or 4) in 0..1 hold a centre, then perhaps a size: (x, y, w, h).
        Offsets count in that size, or without one in the pixels of the maps.
        """
        heads, _, points = self.shape
        offsets = self.sampling_offsets(queries).reshape(*queries.shape[:2], *self.shape, 2)
        if boxes.shape[-1] == 4:
            unit = boxes[:, :, None, :, None, 2:] / (2 * points)
        else:
            unit = 1 / jnp.asarray([size[::-1] for size in sizes], queries.dtype)[:, None]
        weights = self.attention_weights(queries).reshape(*queries.shape[:2], heads, -1)
        weights = nnx.softmax(weights).reshape(*queries.shape[:2], *self.shape)
        return boxes[:, :, None, :, None, :2] + offsets * unit, weights

    def __call__(self, queries, boxes, maps):
        """Attend from queries (N, Q, width) to feature maps, each (N, H, W, width)."""
        where, weights = self.look(queries, boxes, [x.shape[1:3] for x in maps])
        # For every head a batch of images and of lists of points.
        sample = jax.vmap(partial(jaxwarp.grid_sample, channel_axis=-1), (3, 2), 2)
        seen = jnp.zeros_like(queries).reshape(*queries.shape[:2], self.shape[0], -1)
        for level, x in enumerate(maps):
            values = self.value_proj(x).reshape(*x.shape[:3], self.shape[0], -1)
            read = sample(values, 2 * where[:, :, :, level] - 1)
            seen = seen + jnp.einsum("nqhp,nqhpc->nqhc", weights[:, :, :, level], read)
        return self.output_proj(seen.reshape(queries.shape))


class Detector(nnx.Module):
    """Strided convolutions; then every cell of the finer map asks what digit is centred in it."""

    def __init__(self, *, rngs):
        conv = partial(nnx.Conv, kernel_size=(3, 3), strides=2, rngs=rngs)
        self.stem = nnx.Sequential(conv(1, 16), nnx.relu, conv(16, 32), nnx.relu)
        self.fine = nnx.Conv(32, WIDTH, (3, 3), rngs=rngs)
        self.coarse = nnx.Sequential(nnx.relu, conv(WIDTH, WIDTH))
        linear, norm = partial(nnx.Linear, WIDTH, rngs=rngs), partial(nnx.LayerNorm, WIDTH)
        self.layers = nnx.List([DeformableAttention(WIDTH, rngs=rngs) for _ in range(2)])
        self.hidden = nnx.List(
            [nnx.Sequential(norm(rngs=rngs), linear(WIDTH), nnx.relu) for _ in range(2)]
        )
        self.moves = nnx.List([linear(4, kernel_init=nnx.initializers.zeros) for _ in range(2)])
        rare = nnx.initializers.constant(-4.0)  # few cells hold a digit's centre
        self.classes = linear(10, bias_init=rare)

    def __call__(self, canvas):
        """Return every cell's box, its logits for the digits, and where the last layer looked."""
        fine = self.fine(self.stem(canvas))
        maps = [fine, self.coarse(fine)]
        queries, looked = fine.reshape(len(canvas), -1, WIDTH), ()
        boxes = jnp.broadcast_to(scene.cells(fine.shape[1]), (*queries.shape[:2], 4))
        for attention, hidden, move in zip(self.layers, self.hidden, self.moves, strict=True):
            looked = attention.look(queries, every := boxes[:, :, None].repeat(2, 2), [(1, 1)] * 2)
            queries = queries + attention(queries, every, maps)
            queries = queries + hidden(queries)
            boxes = nnx.sigmoid(jax.scipy.special.logit(boxes) + move(queries))
        return boxes, self.classes(queries), looked


# Training ---------------------------------------------------------------------


def loss(model, canvas, label, box):
    boxes, logits, _ = model(canvas)
    digits, true = scene.targets(label, box, round(boxes.shape[1] ** 0.5))
    there = (digits < 10)[..., None]
    wrong = optax.sigmoid_focal_loss(logits, jax.nn.one_hot(digits, 10), alpha=0.25).sum()
    off = 10 * jnp.abs(boxes - true)[..., :2] + jnp.abs(jnp.log(boxes / true))[..., 2:]
    return (wrong + jnp.where(there, off, 0).sum()) / there.sum()


@nnx.jit
def train_step(model, optimizer, key, digits):
    batch = scene.scatter(key, *digits, BATCH)
    value, gradient = nnx.value_and_grad(loss)(model, *batch)
    optimizer.update(model, gradient)
    return value


@nnx.jit
def find(model, canvas):
    """Return every cell's box, the digits' probabilities, where it looked, whether it is one."""
    boxes, logits, looked = model(canvas)
    probability = nnx.sigmoid(logits)
    return boxes, probability, looked, scene.select(boxes, probability, FOUND)


def main(output="deformable_attention.png"):
    train, test = scene.load()
    model = Detector(rngs=nnx.Rngs(0))
    adam = optax.adamw(optax.warmup_cosine_decay_schedule(0, RATE, 50, STEPS))
    optimizer = nnx.Optimizer(model, adam, wrt=nnx.Param)
    start = time.perf_counter()
    for i in track(range(STEPS), "training"):
        value = train_step(model, optimizer, jax.random.key(i), train)
        if i % 10 == 9:
            jax.block_until_ready(value)
    seconds = time.perf_counter() - start
    canvas, label, box = scene.scatter(jax.random.key(STEPS), *test, 200)
    boxes, probability, looked, kept = find(model, canvas)
    found, right = scene.score(boxes, probability, kept, label, box)
    print(f"200 canvases of digits never seen: {100 * found:.1f} % of the digits found,", end=" ")
    print(f"{100 * right:.1f} % of what was found is right; trained in {seconds:.0f} s")
    draw(output, canvas, boxes, probability, looked, kept)


def draw(output, canvas, boxes, probability, looked, kept):
    """Draw what was found on a few canvases, and where the surest find of each looked."""
    figure = Figure(figsize=(12, 6.2), layout="constrained")
    side = scene.SIDE
    for n, axes in enumerate(figure.subplots(2, 4).flat):
        axes.imshow(canvas[n, ..., 0], cmap="gray", extent=(0, side, side, 0))
        axes.set_axis_off()
        for q in np.flatnonzero(kept[n]):
            x, y, w, h = side * np.asarray(boxes[n, q])
            axes.add_patch(Rectangle((x - w / 2, y - h / 2), w, h, fill=False, color="tab:cyan"))
            text = {"color": "tab:cyan", "va": "top", "fontsize": 12, "fontweight": "bold"}
            axes.text(x - w / 2 + 1, y - h / 2 + 1, int(probability[n, q].argmax()), **text)
        if kept[n].any():
            surest = jnp.argmax(jnp.where(kept[n], probability[n].max(-1), 0))
            where, weights = (np.asarray(x[n, surest]) for x in looked)
            style = {"color": "tab:orange", "alpha": 0.7, "edgecolors": "none"}
            axes.scatter(*side * where.reshape(-1, 2).T, s=200 * weights.ravel(), **style)
        axes.set(xlim=(0, side), ylim=(side, 0))
    figure.savefig(output, dpi=70)
    Image.open(output).quantize(96).save(output, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
