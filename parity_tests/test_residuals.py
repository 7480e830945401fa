"""What lies between forward and backward, and what a program needs beside its operands."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxwarp

MODES = ("nearest", "bilinear", "bicubic")
AXES = (1, 2, 3)
# channels, channel_axis
LAYOUTS = ((1, 1), (3, -1), (32, 1))
SMALL = {1: (40,), 2: (7, 9), 3: (5, 6, 4)}
OUT = {1: (11,), 2: (6, 8), 3: (3, 5, 4)}
# Large enough that what is needed for a chunk of the points does not count.
LARGE = {1: (2**20,), 2: (1024, 1024), 3: (128, 128, 128)}


def operands(spatial, out, channels=3, channel_axis=1, batch=2):
    """Describe an image and a grid of float32."""
    last = channel_axis == -1
    image = (batch, *spatial, channels) if last else (batch, channels, *spatial)
    grid = (batch, *out, len(spatial))
    return [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (image, grid)]


def some(description):
    """Make an array of distinct numbers in [-0.9, 0.9]."""
    x = jnp.linspace(-0.9, 0.9, description.size, dtype=description.dtype)
    return x.reshape(description.shape)


def sampler(mode, channel_axis, padding_mode="zeros"):
    return partial(
        jaxwarp.grid_sample, mode=mode, padding_mode=padding_mode, channel_axis=channel_axis
    )


# Residuals --------------------------------------------------------------------


def kept(f, *args, jit):
    """Return the arrays that the function from `jax.vjp` holds on to."""
    pull_back = jax.jit(lambda *a: jax.vjp(f, *a)[1])(*args) if jit else jax.vjp(f, *args)[1]
    return jax.tree.leaves(pull_back)


def is_one_of(x, arrays):
    return any(x.shape == a.shape and np.array_equal(x, a) for a in arrays)


@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("mode", MODES)
def test_only_the_operands_are_kept(mode, axes, jit):
    for channel_axis, padding_mode in itertools.product((1, -1), ("zeros", "reflection")):
        f = sampler(mode, channel_axis, padding_mode)
        image, grid = map(some, operands(SMALL[axes], OUT[axes], channel_axis=channel_axis))
        residuals = kept(f, image, grid, jit=jit)
        assert residuals
        assert all(is_one_of(x, (image, grid)) for x in residuals)
        assert sum(x.nbytes for x in residuals) <= image.nbytes + grid.nbytes


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("mode", MODES)
def test_the_image_is_not_kept_for_its_own_gradient(mode, axes):
    image, grid = map(some, operands(SMALL[axes], OUT[axes]))
    residuals = kept(lambda x: sampler(mode, 1)(x, grid), image, jit=False)
    assert residuals
    assert all(is_one_of(x, (grid,)) for x in residuals)


def test_a_half_precision_image_is_kept_as_it_is():
    image, grid = map(some, operands(SMALL[2], OUT[2]))
    image = image.astype(jnp.bfloat16)
    assert {x.dtype for x in kept(sampler("bilinear", 1), image, grid, jit=False)} == {
        image.dtype,
        grid.dtype,
    }


def test_second_order_keeps_a_few_arrays_of_the_operands_sizes():
    image, grid = map(some, operands(SMALL[2], OUT[2], channels=8))
    out = sampler("bilinear", 1)(image, grid)

    def gradient(image, grid):
        return jax.grad(lambda g: jnp.sum(sampler("bilinear", 1)(image, g) ** 2))(grid)

    size = sum(x.nbytes for x in kept(gradient, image, grid, jit=False))
    # The gathered corners alone would be four times ``out``.
    assert size <= image.nbytes + 4 * grid.nbytes + 2 * out.nbytes


def test_plain_autodiff_would_fail_these():
    """The same sample written with jnp keeps its gathered corners, and `kept` sees it."""
    image, positions = some(operands(SMALL[1], OUT[1])[0])[0], some(operands(SMALL[1], OUT[1])[1])

    def plain(image, grid):
        p = (grid[0, :, 0] + 1) * image.shape[-1] / 2 - 0.5
        i = jnp.floor(p).astype(jnp.int32)
        t = (p - jnp.floor(p))[None]
        return image[:, i] * (1 - t) + image[:, i + 1] * t

    residuals = kept(plain, image, positions, jit=False)
    assert not all(is_one_of(x, (image, positions)) for x in residuals)


# Memory -----------------------------------------------------------------------


def with_gradients(f, image, grid, cotangent):
    value, pull_back = jax.vjp(f, image, grid)
    return value, *pull_back(cotangent)


def temporary_share(f, *descriptions):
    """Compile, and return the temporaries' size in units of operands and results together."""
    stats = jax.jit(f).lower(*descriptions).compile().memory_analysis()
    assert stats is not None
    all_operands = stats.argument_size_in_bytes + stats.output_size_in_bytes
    return stats.temp_size_in_bytes / all_operands


def check_memory(mode, spatial, channels, channel_axis, batch=2):
    f = sampler(mode, channel_axis)
    image, grid = operands(spatial, spatial, channels, channel_axis, batch)
    assert temporary_share(f, image, grid) <= 1
    # The result has the image's size here, and so has its cotangent.
    assert temporary_share(partial(with_gradients, f), image, grid, image) <= 1


@pytest.mark.parametrize(("channels", "channel_axis"), LAYOUTS)
@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("mode", MODES)
def test_a_program_needs_no_more_than_its_operands_again(mode, axes, channels, channel_axis):
    check_memory(mode, LARGE[axes], channels, channel_axis)


@pytest.mark.parametrize("shape", [(4, 64, 64, 64), (2, 32, 32, 32, 32)], ids=str)
def test_nor_does_it_for_many_channels_of_few_pixels(shape):
    batch, channels, *spatial = shape
    check_memory("bilinear", tuple(spatial), channels, 1, batch)
