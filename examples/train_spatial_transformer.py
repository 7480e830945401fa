"""Train classifiers of distorted digits, with and without a spatial transformer in front.

    python examples/train_spatial_transformer.py [--full] [--output NAME]

The protocol of Jaderberg et al. 2015, section 4.1, on scikit-learn's digits: four distortions,
four networks of the same number of parameters, several seeds. Without arguments one distortion
and two networks, in half a minute on two cores; --full does them all. Writes the table
(train_spatial_transformer.md) and what the transformers made of the images (.png).
"""

import argparse
import itertools
import time
from pathlib import Path

import distorted_digits as digits
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from matplotlib.figure import Figure
from rich.progress import Progress

from jaxwarp.nn import SpatialTransformer, TPSTransform, conv_output_size, identity_head

TRANSFORMS = {
    "none": None,
    "affine": "affine",
    "projective": "homography",
    "TPS": TPSTransform((4, 4), bound=1.0),
}
PARAMETERS = 12_000  # at most, in every network
SIZE = 24  # of the images that a transformer hands on
STEPS, BATCH, RATE = 800, 128, 6e-3


class Features(nnx.Module):
    """Two strided convolutions, flattened."""

    def __init__(self, side, width, *, rngs):
        self.conv1 = nnx.Conv(1, width, (5, 5), strides=2, padding="VALID", rngs=rngs)
        self.conv2 = nnx.Conv(width, 2 * width, (5, 5), strides=2, padding="VALID", rngs=rngs)
        side = conv_output_size(conv_output_size(side, 5, stride=2), 5, stride=2)
        self.count = side * side * 2 * width

    def __call__(self, x):
        """Return features (N, count) of images (N, side, side, 1)."""
        return nnx.relu(self.conv2(nnx.relu(self.conv1(x)))).reshape(len(x), -1)


class Network(nnx.Module):
    """A spatial transformer, if any, and a classifier of the given width."""

    def __init__(self, side, transform, width, *, rngs):
        layers = []
        if transform is not None:
            look = Features(side, 4, rngs=rngs)
            hidden = nnx.Linear(look.count, 16, rngs=rngs)
            head = identity_head(16, transform, rngs=rngs)
            where = nnx.Sequential(look, hidden, nnx.relu, head)
            layers, side = [SpatialTransformer(where, transform, size=(SIZE, SIZE))], SIZE
        features = Features(side, width, rngs=rngs)
        self.layers = nnx.Sequential(*layers, features, nnx.Linear(features.count, 10, rngs=rngs))

    def __call__(self, x):
        """Return logits (N, 10) of images (N, side, side, 1)."""
        return self.layers(x)


def make(kind, name, seed):
    """Return the widest network that has no more than PARAMETERS."""
    for width in range(40, 1, -1):
        args = digits.SIDE[kind], TRANSFORMS[name], width
        model = nnx.eval_shape(lambda args=args: Network(*args, rngs=nnx.Rngs(0)))
        if sum(p.size for p in jax.tree.leaves(nnx.state(model, nnx.Param))) <= PARAMETERS:
            return Network(*args, rngs=nnx.Rngs(seed))
    raise ValueError(f"no network for {kind} and {name} has {PARAMETERS} parameters or fewer")


@nnx.jit(static_argnames="kind")
def train_step(model, optimizer, key, images, labels, kind):
    pick, how = jax.random.split(key)
    batch = jax.random.randint(pick, (BATCH,), 0, len(images))
    x, y = digits.distort(how, images[batch], kind), labels[batch]

    def loss(model):
        return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()

    optimizer.update(model, nnx.grad(loss)(model))


@nnx.jit(static_argnames="kind")
def error_rate(model, images, labels, kind):
    """Return the percentage of errors on four fixed distortions of each image."""
    keys = jax.random.split(jax.random.key(0), 4)
    found = jax.lax.map(lambda key: model(digits.distort(key, images, kind)).argmax(-1), keys)
    return 100 * jnp.mean(found != labels[None])


def train(kind, name, seed, progress, task):
    """Train on one split of the digits, fresh distortions in every step; return the error."""
    images, labels, test_images, test_labels = map(jnp.asarray, digits.load(seed))
    model = make(kind, name, seed)
    schedule = optax.cosine_decay_schedule(RATE, STEPS)
    optimizer = nnx.Optimizer(model, optax.adam(schedule), wrt=nnx.Param)
    for i, key in enumerate(jax.random.split(jax.random.key(seed), STEPS)):
        train_step(model, optimizer, key, images, labels, kind)
        if i % 10 == 9:
            jax.block_until_ready(nnx.state(model, nnx.Param))
            progress.update(task, advance=10, description=f"{kind}, {name}, seed {seed}")
    return model, float(error_rate(model, test_images, test_labels, kind))


def table(errors, seconds):
    """Return the table of errors (distortion, network) -> one percentage per seed."""
    kinds, names = (list(dict.fromkeys(keys)) for keys in zip(*errors, strict=True))
    lines = ["| transformer | " + " | ".join(kinds) + " |", "|---" * (len(kinds) + 1) + "|"]
    for name in names:
        cells = [f"{np.mean(errors[k, name]):.1f} ± {np.std(errors[k, name]):.1f}" for k in kinds]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    seeds = len(next(iter(errors.values())))
    lines.append(
        f"\nTest error in %, mean and spread over {seeds} seed(s); {STEPS} steps for each of"
    )
    lines.append(f"{len(errors) * seeds} networks took {seconds / 60:.1f} minutes in all.")
    return "\n".join(lines)


def draw(models, path):
    """Show test images, and below them what each transformer makes of them."""
    images = jnp.asarray(digits.load(0)[2][:12])
    rows = {}
    for (kind, name), model in models.items():
        seen = digits.distort(jax.random.key(1), images, kind)
        rows.setdefault(f"{kind}", seen)
        if name != "none":
            rows[f"{kind}, {name}"] = model.layers.layers[0](seen)
    figure = Figure(figsize=(9, 0.75 * len(rows)))
    for i, (title, row) in enumerate(rows.items()):
        axes = figure.add_axes((0.14, 1 - (i + 1) / len(rows), 0.86, 1 / len(rows)))
        side = row.shape[1]
        framed = np.pad(row[..., 0], ((0, 0), (1, 1), (1, 1)), constant_values=1)
        axes.imshow(np.hstack(list(framed)))
        axes.text(-side / 4, side / 2, title, ha="right", va="center")
        axes.set_axis_off()
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description="Train classifiers of distorted digits.")
    parser.add_argument("--full", action="store_true", help="4 distortions, 4 networks, 3 seeds")
    parser.add_argument("--output", type=Path, default=Path("train_spatial_transformer"))
    options = parser.parse_args()
    kinds = list(digits.WARPS) if options.full else ["RTS"]
    names = list(TRANSFORMS) if options.full else ["none", "affine"]
    seeds = range(3) if options.full else range(1)
    start, errors, models = time.perf_counter(), {}, {}
    with Progress() as progress:
        task = progress.add_task("", total=len(kinds) * len(names) * len(seeds) * STEPS)
        for kind, name in itertools.product(kinds, names):
            runs = [train(kind, name, seed, progress, task) for seed in seeds]
            errors[kind, name] = [error for _, error in runs]
            models[kind, name] = runs[0][0]
    result = table(errors, time.perf_counter() - start)
    print(result)
    options.output.with_suffix(".md").write_text(result + "\n")
    draw(models, options.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
