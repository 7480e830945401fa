"""Train on however many devices there are: a network learns to straighten faces.

Every step turns and shifts photographs of faces at random, and the network says how to undo it.
The batch is spread over the devices, the network is shared by all of them, and the training step
is the one for a single device. To see it on a CPU, give it four:

XLA_FLAGS=--xla_force_host_platform_device_count=4 python examples/train_data_parallel.py

Writes a picture: faces never seen in training, as found, straightened, and true.
"""

import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from matplotlib.figure import Figure
from skimage.data import lfw_subset

import jaxwarp
from jaxwarp.nn import LocalizationNet, SpatialTransformer

STEPS, BATCH, SIDE = 800, 128, 25


def load():
    """Return photographs of faces for training and for testing, (N, 25, 25, 1)."""
    faces = lfw_subset()[:100, ..., None].astype(np.float32)
    mirrored = np.concatenate([faces[:88], faces[:88, :, ::-1]])
    return mirrored, faces[88:]


def distort(key, images):
    """Turn each image by up to 60 degrees and shift it by a pixel or two."""
    keys = jax.random.split(key)
    angle = jax.random.uniform(keys[0], (len(images),), minval=-jnp.pi / 3, maxval=jnp.pi / 3)
    shift = 0.1 * jax.random.normal(keys[1], (2, len(images)))
    cos, sin, (x, y) = jnp.cos(angle), jnp.sin(angle), shift
    theta = jnp.stack([cos, -sin, x, sin, cos, y], axis=-1).reshape(-1, 2, 3)
    grid = jaxwarp.affine_grid(theta, (len(images), 1, SIDE, SIDE))
    return jaxwarp.grid_sample(images, grid, padding_mode="border", channel_axis=-1)


def difference(model, key, images):
    """Return how far straightened images are from the true ones (root mean square)."""
    return jnp.sqrt(jnp.mean((model(distort(key, images)) - images) ** 2))


@nnx.jit
def train_step(model, optimiser, key, images):
    loss, gradient = nnx.value_and_grad(difference)(model, key, images)
    optimiser.update(model, gradient)
    return loss


def main(output="train_data_parallel.png"):
    devices = jax.devices()
    mesh = Mesh(np.array(devices), ("batch",))
    spread, shared = NamedSharding(mesh, P("batch")), NamedSharding(mesh, P())
    train, test = load()

    widths = {"channels": (16, 32), "kernel_sizes": (5, 5)}
    look = LocalizationNet((SIDE, SIDE, 1), "similarity", **widths, rngs=nnx.Rngs(0))
    model = SpatialTransformer(look, "similarity", padding_mode="border")
    adam = optax.adam(optax.cosine_decay_schedule(3e-3, STEPS))
    optimiser = nnx.Optimizer(model, adam, wrt=nnx.Param)
    for module in (model, optimiser):
        nnx.update(module, jax.device_put(nnx.state(module), shared))

    evaluate = nnx.jit(difference)
    before = evaluate(model, jax.random.key(0), test)
    batch, random = BATCH // len(devices) * len(devices), np.random.default_rng(0)
    print(f"{len(devices)} x {devices[0].device_kind}, {batch // len(devices)} images on each")
    start = time.perf_counter()
    for step in range(STEPS):
        images = jax.device_put(train[random.integers(len(train), size=batch)], spread)
        loss = train_step(model, optimiser, jax.random.key(1 + step), images)
        if step % 100 == 99:
            print(f"step {step + 1}: difference {loss:.4f}", flush=True)
    speed = batch * STEPS / (time.perf_counter() - start)
    after = evaluate(model, jax.random.key(0), test)
    print(f"{speed:.0f} images/s; unseen faces: {before:.4f} before, {after:.4f} after training")
    found = distort(jax.random.key(0), test)
    figure = Figure(figsize=(9, 2.6), layout="constrained")
    rows = {"found": found, "straightened": model(found), "true": test}
    for axis, (name, images) in zip(figure.subplots(3, 1), rows.items(), strict=True):
        axis.imshow(np.concatenate(np.asarray(images[..., 0]), axis=1), cmap="gray", vmin=0, vmax=1)
        axis.set(ylabel=name, xticks=[], yticks=[])
        axis.yaxis.label.set(rotation=0, ha="right")
    figure.savefig(output, dpi=130)


if __name__ == "__main__":
    main(*sys.argv[1:])
