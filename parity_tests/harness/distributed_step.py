"""A training step over several processes; `test_devices` starts this file as each of them.

``python -m parity_tests.harness.distributed_step PROCESS PROCESSES PORT FILE`` takes the step
with all others and writes the outcome to FILE. The step is a small spatial transformer: a matrix,
shared by all devices, is learnt from a batch of images that is spread over them. It is computed
in float64, so that sums in another order are the same to within far less than a step.
"""

import json
import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxwarp

STEPS = 3
COLLECTIVES = re.compile(r"\b(all-reduce|all-gather|all-to-all|reduce-scatter|collective-\w+)\b")


def batch():
    """Make images and what they should look like after the warp."""
    images = np.random.default_rng(0).standard_normal((8, 2, 12, 16))
    return images, np.roll(images, 1, axis=-1)


def warp(theta, images):
    """Warp all images by one matrix."""
    thetas = jnp.broadcast_to(theta, (images.shape[0], 2, 3))
    return jaxwarp.grid_sample(images, jaxwarp.affine_grid(thetas, images.shape), "bicubic")


@jax.jit
def step(theta, images, targets):
    """Go one step down the gradient of the squared difference."""

    def loss(theta):
        return jnp.mean((warp(theta, images) - targets) ** 2)

    value, gradient = jax.value_and_grad(loss)(theta)
    return theta - 0.1 * gradient, value


def train(images, targets, theta):
    """Take all steps; return the matrix and the losses."""
    losses = []
    for _ in range(STEPS):
        theta, value = step(theta, images, targets)
        losses.append(float(value))
    return theta, losses


def start():
    """Return the matrix to begin with."""
    return jnp.asarray([[0.9, 0.1, 0.05], [-0.1, 1.1, 0.0]], jnp.float64)


def sample_and_pull_back(images, grids):
    """Run the sampler alone, forward and backward."""
    value, pull_back = jax.vjp(jaxwarp.grid_sample, images, grids)
    return value, *pull_back(value)


def collectives(f, *args):
    """List the operations of a compiled program that talk to another device."""
    program = jax.jit(f).lower(*args).compile().as_text()
    assert program
    return COLLECTIVES.findall(program)


def main(process, processes, port, file):
    """Join the others, train on this process's part of the batch, and write the outcome."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(
        f"127.0.0.1:{port}", int(processes), int(process), initialization_timeout=120
    )
    mesh = Mesh(np.array(jax.devices()), ("batch",))
    spread, shared = NamedSharding(mesh, P("batch")), NamedSharding(mesh, P())

    def global_array(x, sharding):
        return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])

    images, targets = (global_array(x, spread) for x in batch())
    theta, losses = train(images, targets, global_array(np.asarray(start()), shared))
    grids = jaxwarp.affine_grid(jnp.tile(start()[None], (8, 1, 1)), batch()[0].shape)
    outcome = {
        "devices": len(jax.devices()),
        "local devices": len(jax.local_devices()),
        "images here": len(images.addressable_shards) * spread.shard_shape(images.shape)[0],
        "theta": np.asarray(theta.addressable_data(0)).tolist(),
        "losses": losses,
        "collectives of a step": collectives(step, theta, images, targets),
        "collectives of sampling": collectives(
            sample_and_pull_back, images, global_array(np.asarray(grids), spread)
        ),
    }
    Path(file).write_text(json.dumps(outcome))
    jax.distributed.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
