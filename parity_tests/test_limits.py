"""Sizes: batches of more than 2**31 pixels, images of as many, and programs that stay small."""

import collections
import itertools
import math
import re
from functools import partial

import jax
import jax.numpy as jnp
import pytest

import jaxwarp
from jaxwarp._sampler.backends import cpu, forced

MODES = ("nearest", "bilinear", "bicubic")


def describe(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def with_gradients(f, image, grid, cotangent):
    value, pull_back = jax.vjp(f, image, grid)
    return value, *pull_back(cotangent)


# Index overflow ---------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("channel_axis", [1, -1])
def test_a_batch_may_hold_more_pixels_than_int32_counts(mode, channel_axis):
    """A pixel's index counts within its own image: nothing is ever numbered over the batch."""
    batch, size, points = 2**16, (2**8, 2**9), 5
    assert batch * math.prod(size) > 2**32
    image = describe(batch, 1, *size) if channel_axis == 1 else describe(batch, *size, 1)
    cotangent = describe(batch, 1, points) if channel_axis == 1 else describe(batch, points, 1)
    f = partial(jaxwarp.grid_sample, mode=mode, channel_axis=channel_axis)
    both = partial(with_gradients, f)
    out = jax.eval_shape(both, image, describe(batch, points, 2), cotangent)
    assert [x.shape for x in out] == [cotangent.shape, image.shape, (batch, points, 2)]

    with forced("portable"):
        program = jax.jit(both).lower(image, describe(batch, points, 2), cotangent).as_text()
    moves = [line for line in program.splitlines() if re.search(r"\.(gather|scatter)\"?\(", line)]
    assert moves
    for line in moves:
        # Image and batch are separate: the batch is a batching dimension of the operation.
        assert re.search(r"\w*batching_dims = \[0\]", line), line


def test_a_batch_of_more_than_2_to_31_points_lowers():
    image, grid = describe(2**8, 1, 16, 16), describe(2**8, 2**12, 2**12, 2)
    jax.jit(jaxwarp.grid_sample).lower(image, grid)


@pytest.mark.parametrize("size", [(2**16, 2**15), (2**31,), (2**11, 2**10, 2**10)], ids=str)
def test_an_image_that_int32_cannot_count_is_an_error(size):
    image, grid = describe(1, 1, *size), describe(1, 5, len(size))
    with pytest.raises(ValueError, match=r"input must hold fewer than 2\*\*31 pixels"):
        jax.eval_shape(jaxwarp.grid_sample, image, grid)
    with pytest.raises(ValueError, match=r"input must hold fewer than 2\*\*31 pixels"):
        jax.eval_shape(jaxwarp.remap, image, grid)
    with pytest.raises(ValueError, match=r"must hold fewer than 2\*\*31 pixels"):
        jax.eval_shape(lambda v, g: jaxwarp.splat(v, g, size), describe(1, 1, 5), grid)


@pytest.mark.parametrize("size", [(2**16, 2**15 - 1), (2**31 - 1,)], ids=str)
def test_one_pixel_row_less_is_fine(size):
    image, grid = describe(1, 1, *size), describe(1, 5, len(size))
    assert jax.eval_shape(jaxwarp.grid_sample, image, grid).shape == (1, 1, 5)


def test_the_last_pixels_of_a_long_axis_are_found():
    """float32 has no odd numbers past 2**24; pixel positions there need float64."""
    size = 2**24 + 8
    image = (
        jnp.zeros((1, 1, size), jnp.float32)
        .at[0, 0, -3:]
        .set(jnp.array([1.0, 2.0, 4.0], jnp.float32))
    )
    last = jnp.array([[[size - 3.0], [size - 2.5], [size - 1.0]]])
    assert last.dtype == jnp.float64
    out = jax.jit(jaxwarp.remap)(image, last)
    assert out.dtype == jnp.float32
    assert out.tolist() == [[[1.0, 1.5, 4.0]]]


# Program size -----------------------------------------------------------------


def instructions(program):
    """Count a StableHLO program's operations by name."""
    names = re.findall(r"(?<!#)stablehlo\.(\w+)", program)
    return collections.Counter(names)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("mode", MODES)
def test_a_program_has_a_bounded_number_of_gathers_and_scatters(mode, axes):
    """3-D bicubic has 64 taps; written one after the other they take a minute to compile."""
    size = (32,) * axes
    image, grid = describe(3, 3, *size), describe(3, *size, axes)
    f = partial(jaxwarp.grid_sample, mode=mode)
    with forced("portable"):
        forward = instructions(jax.jit(f).lower(image, grid).as_text())
        both = instructions(jax.jit(partial(with_gradients, f)).lower(image, grid, image).as_text())
    # At most sixteen neighbours are written out, for each of the three operations.
    assert 1 <= forward["gather"] <= 16
    assert 1 <= both["scatter"] <= 16
    assert both["gather"] <= 2 * 16
    assert sum(both.values()) <= 6000


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.skipif(cpu.why_not() is not None, reason="no native kernels")
def test_a_program_of_kernels_is_a_few_calls(mode, axes):
    size = (32,) * axes
    image, grid = describe(3, 3, *size), describe(3, *size, axes)
    f = partial(with_gradients, partial(jaxwarp.grid_sample, mode=mode))
    program = jax.jit(f).lower(image, grid, image).as_text()
    # Nearest has no slope in the grid.
    assert program.count("@jaxwarp_run") == (2 if mode == "nearest" else 3)
    assert sum(instructions(program).values()) <= 40


def count_instructions(channels, size):
    image, grid = describe(2, channels, size, size), describe(2, size, size, 2)
    f = partial(with_gradients, jaxwarp.grid_sample)
    with forced("portable"):
        return sum(instructions(jax.jit(f).lower(image, grid, image).as_text()).values())


def test_a_program_does_not_grow_with_the_sizes():
    sizes = itertools.product((2, 3, 16, 64, 100), (128, 512, 4096))
    assert len({count_instructions(*channels_and_size) for channels_and_size in sizes}) == 1
