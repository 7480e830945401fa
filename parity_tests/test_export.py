"""One artefact for every platform and every size, stored and loaded again."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import jaxwarp

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
MODES = ("nearest", "bilinear", "bicubic")
AXES = (1, 2, 3)
# Shapes of the image's and of the grid's sizes: all of them free.
SIZES = {1: ("w", "v"), 2: ("h, w", "u, v"), 3: ("d, h, w", "t, u, v")}
# Sizes that the program has never seen: an image's with its batch, a grid's, and the channels.
RUNS = {
    1: ((3, 9), (5,), 3),
    2: ((3, 9, 1), (4, 5), 3),
    3: ((2, 4, 1, 5), (3, 1, 5), 3),
}


def with_gradients(f):
    def both(image, grid, cotangent):
        value, pull_back = jax.vjp(f, image, grid)
        return value, *pull_back(cotangent)

    return both


def symbolic(axes, channel_axis):
    """Describe image, grid and cotangent with a free batch, free channels and free sizes."""
    image, out = SIZES[axes]
    shapes = [f"n, c, {image}", f"n, {out}, {axes}", f"n, c, {out}"]
    if channel_axis == -1:
        shapes = [f"n, {image}, c", f"n, {out}, {axes}", f"n, {out}, c"]
    scope = export.SymbolicScope()
    return [
        jax.ShapeDtypeStruct(export.symbolic_shape(s, scope=scope), jnp.float32) for s in shapes
    ]


def actual(sizes, channel_axis):
    """Make image, grid and cotangent of one size; some points lie outside."""
    (batch, *size), out, channels = sizes
    random = np.random.default_rng(0)
    image = random.standard_normal((batch, channels, *size))
    grid = random.uniform(-1.4, 1.4, (batch, *out, len(size)))
    cotangent = random.standard_normal((batch, channels, *out))
    if channel_axis == -1:
        image, cotangent = np.moveaxis(image, 1, -1), np.moveaxis(cotangent, 1, -1)
    return [jax.device_put(x.astype(np.float32)) for x in (image, grid, cotangent)]


def stored_and_loaded(f, *descriptions):
    """Export for all platforms at once, through bytes."""
    exported = export.export(jax.jit(f), platforms=PLATFORMS)(*descriptions)
    loaded = export.deserialize(exported.serialize())
    assert set(loaded.platforms) == set(PLATFORMS)
    return loaded


def assert_same(ours, theirs):
    """The same sums, in another order where a program knows its sizes."""
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, rtol=0, atol=16 * np.finfo(b.dtype).eps * abs(b).max())


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("mode", MODES)
def test_one_artefact_serves_every_platform_and_size(mode, axes):
    padding = {"nearest": "border", "bilinear": "zeros", "bicubic": "reflection"}[mode]
    channel_axis = 1 if axes == 2 else -1

    def sample(image, grid):
        return jaxwarp.grid_sample(image, grid, mode, padding, channel_axis=channel_axis)

    both = jax.jit(with_gradients(sample))
    loaded = stored_and_loaded(both, *symbolic(axes, channel_axis))
    arrays = actual(RUNS[axes], channel_axis)
    assert_same(loaded.call(*arrays), both(*arrays))


def test_forward_alone():
    loaded = stored_and_loaded(jaxwarp.grid_sample, *symbolic(2, 1)[:2])
    for sizes in (((2, 8, 9), (5, 6), 3), ((1, 1, 7), (1, 3), 1), ((3, 4, 4), (4, 4), 32)):
        image, grid, _ = actual(sizes, 1)
        assert_same(loaded.call(image, grid), jaxwarp.grid_sample(image, grid))


def test_an_artefact_can_be_differentiated_after_loading():
    exported = export.export(jax.jit(jaxwarp.grid_sample), platforms=PLATFORMS)(*symbolic(2, 1)[:2])
    loaded = export.deserialize(exported.serialize(vjp_order=1))
    arrays = actual(((2, 8, 9), (5, 6), 3), 1)
    assert_same(with_gradients(loaded.call)(*arrays), with_gradients(jaxwarp.grid_sample)(*arrays))


def test_a_whole_warp():
    """From matrix to pixels, with the output's size taken from the input's."""

    def warp(image, theta):
        return jaxwarp.grid_sample(image, jaxwarp.affine_grid(theta, image.shape))

    scope = export.SymbolicScope()
    shapes = (
        export.symbolic_shape("n, c, h, w", scope=scope),
        export.symbolic_shape("n, 2, 3", scope=scope),
    )
    loaded = stored_and_loaded(warp, *(jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes))
    image, theta = actual(((2, 8, 9), (1, 1), 3), 1)[0], jnp.full((2, 2, 3), 0.3, jnp.float32)
    assert_same(loaded.call(image, theta), warp(image, theta))


def test_splat():
    def spread(values, grid):
        return jaxwarp.splat(values, grid, (6, 7))

    _, grid, values = symbolic(2, 1)
    loaded = stored_and_loaded(spread, values, grid)
    _, grid, values = actual(((2, 6, 7), (5, 6), 3), 1)
    assert_same(loaded.call(values, grid), spread(values, grid))
