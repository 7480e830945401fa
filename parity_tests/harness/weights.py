"""What the tests of trained weights share: settings, random numbers, closeness."""

from collections.abc import Iterator
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx

F64 = {"param_dtype": jnp.float64}
TOLERANCE = 1e-10  # relative; float64, after up to 20 steps of training


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def close(ours, theirs):
    theirs = np.asarray(theirs.detach() if isinstance(theirs, torch.Tensor) else theirs)
    scale = np.abs(theirs).max() + 1e-3
    np.testing.assert_allclose(np.asarray(ours), theirs, rtol=0, atol=TOLERANCE * scale)


def channels_last(x):
    return jax.device_put(np.moveaxis(np.asarray(x), 1, -1))


def abstract(make):
    """Return a module without values: those are to come from torch, not from an initialiser."""

    def made():
        module = make()
        # Flax keeps BatchNorm's statistics in float32, whatever its param_dtype.
        for _, variable in nnx.to_flat_state(nnx.state(module, nnx.BatchStat)):
            variable.set_value(variable[...].astype(jnp.float64))
        return module

    return nnx.eval_shape(made)


def rngs():
    return nnx.Rngs(0)


@contextmanager
def settings() -> Iterator[None]:
    """Use one thread of torch, for tiny networks, and let Flax's normalisations promote dtypes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with jax.numpy_dtype_promotion("standard"):
        yield
    torch.set_num_threads(threads)
