"""A window of an array: as a TPU lays it out, it is the same window."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxwarp
from jaxwarp._objects import windows

SHAPES = [(2, 9, 8, 3), (2, 3, 9, 8), (5, 4)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_laid_out_for_a_tpu_it_is_the_same(shape):
    array = jnp.arange(float(np.prod(shape))).reshape(shape)
    window = tuple(max(n - 3, 1) for n in shape)
    start = jnp.asarray([n - w for n, w in zip(shape, window, strict=True)], jnp.int32)
    taken = [jax.jit(partial(f, shape=window))(array, start)
             for f in (windows._take, windows._take_on_tpu)]  # fmt: skip
    rest, part = taken[0]
    put = [jax.jit(f)(rest, -part, start) for f in (windows._put, windows._put_on_tpu)]
    assert not np.array_equal(put[0][0], array)
    for plain, laid_out in (taken, put):
        for expected, got in zip(plain, laid_out, strict=True):
            np.testing.assert_array_equal(got, expected)


def warp(img, theta, channel_axis):
    boxes, owner = jnp.array([[1, 1, 7, 6], [0, 2, 5, 9]]), jnp.array([0, 1])
    return jaxwarp.patch_affine(img, boxes, theta, owner, channel_axis=channel_axis)


@pytest.mark.parametrize(
    ("channel_axis", "shape", "layout"),
    [(1, (2, 3, 16, 16), "dense<[3, 2, 1, 0]>"), (-1, (2, 16, 16, 3), "dense<[2, 1, 3, 0]>")],
)
def test_on_a_tpu_channels_lie_ahead(channel_axis, shape, layout):
    """Of images, in every turn of the loop; but a program that is kept says nothing of layouts."""
    f = jax.jit(partial(warp, channel_axis=channel_axis))
    arguments = jnp.ones(shape), jnp.ones((2, 2, 3))
    text = f.trace(*arguments).lower(lowering_platforms=("tpu",)).as_text()
    constraints = [line for line in text.splitlines() if "LayoutConstraint" in line]
    assert constraints
    sizes = "x".join(map(str, shape))
    assert all(layout in line for line in constraints if f"tensor<{sizes}x" in line)
    assert any(f"tensor<{sizes}x" in line for line in constraints)
    assert "LayoutConstraint" not in f.trace(*arguments).lower().as_text()
    exported = jax.export.export(f, platforms=["tpu"])(*arguments)
    assert "LayoutConstraint" not in exported.mlir_module()
