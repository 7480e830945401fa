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
from rich.progress import track

import jaxwarp

STEPS, BATCH, WIDTH, RATE = 1200, 16, 64, 3e-3


class DeformableAttention(nnx.Module):
    """Queries that look at ``points`` points of each of ``levels`` feature maps, in every head."""

    def __init__(self, width, heads=4, levels=2, points=4, *, rngs):
        self.shape = (heads, levels, points)
        total = heads * levels * points
        # At first each head looks into its own direction, each point one pixel further out.
        turns = 2 * np.pi * np.arange(heads) / heads
        rays = np.stack([np.cos(turns), np.sin(turns)], -1)
        rays /= abs(rays).max(-1, keepdims=True)
        star = np.einsum("hx,l,p->hlpx", rays, np.ones(levels), 1 + np.arange(points))
        zeros, bias = nnx.initializers.zeros, nnx.initializers.constant(star.ravel())
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
        elif boxes.shape[-1] == 2:
            unit = 1 / jnp.asarray([size[::-1] for size in sizes], queries.dtype)[:, None]
        else:
            raise ValueError(f"boxes must be (N, Q, levels, 2 or 4), got shape {boxes.shape}")
        weights = self.attention_weights(queries).reshape(*queries.shape[:2], heads, -1)
        weights = nnx.softmax(weights).reshape(*queries.shape[:2], *self.shape)
        return boxes[:, :, None, :, None, :2] + offsets * unit, weights

    def __call__(self, queries, boxes, maps, masks=None):
        """Attend from queries (N, Q, width) to feature maps, each (N, H, W, width).

        Masks, one (N, H, W) for each map, are False where a map is only padding: values are 0.
        """
        where, weights = self.look(queries, boxes, [x.shape[1:3] for x in maps])
        where, weights = (jnp.unstack(x, axis=3) for x in (where, weights))
        masks = [jnp.ones(x.shape[:3], bool) for x in maps] if masks is None else masks
        # For every head a batch of images and of lists of points.
        sample = jax.vmap(partial(jaxwarp.grid_sample, channel_axis=-1), (3, 2), 2)
        seen = jnp.zeros_like(queries).reshape(*queries.shape[:2], self.shape[0], -1)
        for x, mask, points, weight in zip(maps, masks, where, weights, strict=True):
            values = jnp.where(mask[..., None], self.value_proj(x), 0)
            read = sample(values.reshape(*x.shape[:3], self.shape[0], -1), 2 * points - 1)
            seen = seen + jnp.einsum("nqhp,nqhpc->nqhc", weight, read)
        return self.output_proj(seen.reshape(queries.shape))


class Detector(nnx.Module):
    """Strided convolutions; then every cell of the finer map asks what digit is centred in it."""

    def __init__(self, *, rngs):
        conv = partial(nnx.Conv, kernel_size=(3, 3), strides=2, rngs=rngs)
        linear, norm = partial(nnx.Linear, WIDTH, rngs=rngs), nnx.LayerNorm(WIDTH, rngs=rngs)
        last = conv(32, WIDTH, strides=1)
        self.fine = nnx.Sequential(conv(1, 16), nnx.relu, conv(16, 32), nnx.relu, last)
        self.coarse = nnx.Sequential(nnx.relu, conv(WIDTH, WIDTH))
        self.attention = DeformableAttention(WIDTH, rngs=rngs)
        self.hidden = nnx.Sequential(norm, linear(WIDTH), nnx.relu)
        self.move = linear(4, kernel_init=nnx.initializers.zeros)
        rare = nnx.initializers.constant(-4.0)  # few cells hold a digit's centre
        self.classes = linear(10, bias_init=rare)

    def __call__(self, canvas):
        """Return every cell's box, its logits for the digits, and where it looked."""
        fine = self.fine(canvas)
        maps = [fine, self.coarse(fine)]
        queries = fine.reshape(len(canvas), -1, WIDTH)
        boxes = jnp.broadcast_to(scene.cells(fine.shape[1]), (*queries.shape[:2], 4))
        asked = queries, jnp.stack([boxes] * len(maps), axis=2)
        looked = self.attention.look(*asked, [x.shape[1:3] for x in maps])
        queries = queries + self.attention(*asked, maps)
        queries = queries + self.hidden(queries)
        boxes = nnx.sigmoid(jax.scipy.special.logit(boxes) + self.move(queries))
        return boxes, self.classes(queries), looked


@nnx.jit
def train_step(model, optimizer, key, digits):
    canvas, *truth = scene.scatter(key, *digits, BATCH)
    value, gradient = nnx.value_and_grad(lambda m: scene.loss(*m(canvas)[:2], *truth))(model)
    optimizer.update(model, gradient)
    return value


def main(output="deformable_attention.png"):
    train, test = scene.load()
    model = Detector(rngs=nnx.Rngs(0))
    adam = optax.adamw(optax.warmup_cosine_decay_schedule(0, RATE, 50, STEPS))
    optimizer = nnx.Optimizer(model, adam, wrt=nnx.Param)
    start = time.perf_counter()
    for i in track(range(STEPS), "training"):
        jax.block_until_ready(train_step(model, optimizer, jax.random.key(i), train))
    seconds = time.perf_counter() - start
    # How probable a find must be is chosen on new canvases of the training digits.
    canvas, *truth = scene.scatter(jax.random.key(STEPS), *train, 200)
    least = scene.best_threshold(*nnx.jit(model)(canvas)[:2], *truth)
    print(f"trained in {seconds:.0f} s; finds are {least:.2f} probable or more")
    canvas, *truth = scene.scatter(jax.random.key(STEPS + 1), *test, 200)
    boxes, logits, looked = nnx.jit(model)(canvas)
    found, right = scene.score(boxes, logits, least, *truth)
    print(f"200 canvases of digits never seen: {100 * found:.1f} % of the digits found,", end=" ")
    print(f"{100 * right:.1f} % of what was found is right")
    scene.picture(output, canvas, boxes, logits, looked, least)


if __name__ == "__main__":
    main(*sys.argv[1:])
