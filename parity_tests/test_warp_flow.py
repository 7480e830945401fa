"""Warping by a flow in pixels: nothing is rounded on the way."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F

import jaxwarp
from parity_tests.harness import cases

SIZES = {1: (7,), 2: (6, 5), 3: (3, 5, 4)}
every_layout = pytest.mark.parametrize("channel_axis", [1, -1])
every_axes = pytest.mark.parametrize("axes", [1, 2, 3])


def normal(seed, *shape, dtype="float64"):
    return jax.device_put(np.random.default_rng(seed).normal(size=shape).astype(dtype))


def in_layout(x, channel_axis):
    """Bring (N, C, *spatial) into the layout."""
    return x if channel_axis == 1 else jax.device_put(np.moveaxis(np.asarray(x), 1, -1))


@every_layout
@every_axes
@pytest.mark.parametrize(
    ("padding", "dtype"),
    [
        ("zeros", "float32"),
        ("border", "bfloat16"),
        ("reflection", "float64"),
        ("wrap", "float32"),
    ],
)
@pytest.mark.parametrize("mode", cases.MODES)
def test_no_flow_changes_no_value(mode, padding, dtype, axes, channel_axis):
    image = in_layout(normal(0, 2, 3, *SIZES[axes], dtype=dtype), channel_axis)
    flow = in_layout(jnp.zeros((2, axes, *SIZES[axes]), "float32"), channel_axis)
    warped = jaxwarp.warp_flow(image, flow, mode, padding, channel_axis=channel_axis)
    assert warped.dtype == image.dtype
    np.testing.assert_array_equal(warped, image)


@every_axes
@pytest.mark.parametrize("size", [5, 96])
def test_without_flow_every_slope_is_that_to_the_right(axes, size):
    """Where normalised coordinates round to both sides, pixel positions do to none."""
    size = (4,) * (axes - 1) + (size,)
    image = np.asarray(normal(1, 1, 2, *size, dtype="float32"))
    ct = np.asarray(normal(2, 1, 2, *size, dtype="float32"))

    def loss(flow):
        return (jaxwarp.warp_flow(image, flow) * ct).sum()

    gradient = jax.grad(loss)(jnp.zeros((1, axes, *size), "float32"))
    beyond = np.pad(image, [(0, 0)] * 2 + [(0, 1)] * axes)  # zeros lie outside
    for i in range(axes):
        axis = 2 + axes - 1 - i
        slope = np.diff(beyond, axis=axis)[:, :, *(slice(0, s) for s in size)]
        np.testing.assert_allclose(gradient[:, i], (slope * ct).sum(1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("padding", ["border", "reflection"])
def test_the_outer_pixels_have_no_slope_where_torch_gives_them_none(padding):
    image = normal(3, 1, 1, 6)

    def loss(flow):
        return jaxwarp.warp_flow(image, flow, padding_mode=padding).sum()

    gradient = jax.grad(loss)(jnp.zeros((1, 1, 6)))[0, 0]
    expected = np.append(np.diff(np.asarray(image[0, 0])), 0.0)
    expected[0] = 0.0
    np.testing.assert_allclose(gradient, expected, atol=1e-12)


@every_layout
@pytest.mark.parametrize(
    ("mode", "padding", "axes"),
    [
        *((mode, padding, 2) for mode in cases.MODES for padding in cases.PADDINGS),
        ("bilinear", "zeros", 1),
        ("bilinear", "border", 3),
    ],
)
def test_it_is_remap_at_the_moved_positions(mode, padding, axes, channel_axis):
    """And `remap` is compared with torch in every other file."""
    size = SIZES[axes]
    image, flow = normal(0, 2, 3, *size), 3 * normal(1, 2, axes, *size)
    index = np.stack(np.indices(size)[::-1], axis=-1)[None]
    positions = jnp.moveaxis(flow, 1, -1) + index.astype("float64")
    expected = jaxwarp.remap(image, positions, mode, padding)
    warped = jaxwarp.warp_flow(
        in_layout(image, channel_axis),
        in_layout(flow, channel_axis),
        mode,
        padding,
        channel_axis=channel_axis,
    )
    np.testing.assert_allclose(warped, in_layout(expected, channel_axis), rtol=0, atol=1e-12)


def warp_in_torch(x, flow):
    """The warp of PWC-Net's followers, for align_corners=False."""
    h, w = x.shape[2:]
    ys, xs = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    p = torch.stack([xs, ys])[None] + flow
    scale = torch.tensor([2 / w, 2 / h], dtype=x.dtype)
    grid = (p.movedim(1, -1) + 0.5) * scale - 1
    return F.grid_sample(x, grid, align_corners=False)


def test_values_and_gradients_are_those_of_torchs_hand_written_warp():
    x, flow, ct = normal(0, 2, 3, 6, 5), 2 * normal(1, 2, 2, 6, 5), normal(2, 2, 3, 6, 5)
    theirs = [torch.from_numpy(np.array(a)).requires_grad_() for a in (x, flow)]
    expected = warp_in_torch(*theirs)
    gradients = torch.autograd.grad(expected, theirs, torch.from_numpy(np.array(ct)))
    value, pull = jax.vjp(jaxwarp.warp_flow, x, flow)
    np.testing.assert_allclose(value, expected.detach(), atol=1e-12)
    for ours, other in zip(pull(ct), gradients, strict=True):
        np.testing.assert_allclose(ours, other, atol=1e-11)


def test_the_warp_of_ones_says_what_was_inside():
    flow = jnp.zeros((1, 2, 4, 5)).at[:, 0].set(2.0)
    mask = jaxwarp.warp_flow(jnp.ones((1, 1, 4, 5)), flow)
    np.testing.assert_array_equal(mask[0, 0], [[1, 1, 1, 0, 0]] * 4)


def test_under_jit_and_vmap():
    images, flows = normal(0, 4, 1, 2, 5, 6), normal(1, 4, 1, 2, 5, 6)
    one_by_one = jnp.stack([jaxwarp.warp_flow(*pair) for pair in zip(images, flows, strict=True)])
    np.testing.assert_allclose(jax.jit(jax.vmap(jaxwarp.warp_flow))(images, flows), one_by_one)
    shared = jax.vmap(jaxwarp.warp_flow, (None, 0))(images[0], flows)
    np.testing.assert_allclose(shared[0], one_by_one[0])


def test_a_flow_in_half_precision_moves_by_what_it_says():
    image = normal(0, 1, 1, 4, 400, dtype="float32")
    flow = jnp.full((1, 2, 4, 400), 0.5, jnp.bfloat16)
    expected = jaxwarp.warp_flow(image, flow.astype("float32"))
    np.testing.assert_array_equal(jaxwarp.warp_flow(image, flow), expected)
