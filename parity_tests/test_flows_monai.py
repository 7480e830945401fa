"""MONAI's layers for flows have the same values and gradients, where MONAI is installed."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jaxwarp

SIZES = {2: (7, 9), 3: (5, 6, 7)}
in_both_dimensions = pytest.mark.parametrize("axes", SIZES)
# MONAI reflects about the outer pixels' centres, flows here about their outer edges.
with_common_padding = pytest.mark.parametrize("padding_mode", ["zeros", "border"])


def layer(name, **options):
    """Make a layer of MONAI, which is imported here: collecting would wait for it everywhere."""
    blocks = pytest.importorskip("monai.networks.blocks")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "monai.networks.blocks.Warp: Using PyTorch")
        return getattr(blocks, name)(**options)


def to_monai(flow):
    """Put the displacements on axis 1 and in array order."""
    return torch.tensor(np.moveaxis(flow[..., ::-1], -1, 1).copy())


def from_monai(ddf):
    return np.moveaxis(ddf.detach().numpy(), 1, -1)[..., ::-1]


def operands(axes, *shape_of_each):
    random = np.random.default_rng(0)
    return [random.uniform(-2, 2, (2, *SIZES[axes], last)) for last in shape_of_each]


def check(ours, theirs, flows, cotangent):
    """Compare values, and the gradients of every flow with this cotangent."""
    value, pull_back = jax.vjp(ours, *map(jnp.asarray, flows))
    tensors = [to_monai(x).requires_grad_() for x in flows]
    expected = theirs(*tensors)
    gradients = torch.autograd.grad(expected, tensors, to_monai(cotangent))
    pairs = [(value, expected), *zip(pull_back(jnp.asarray(cotangent)), gradients, strict=True)]
    for a, b in pairs:
        np.testing.assert_allclose(a, from_monai(b), rtol=0, atol=1e-9)
        assert np.abs(a).max() > 0.1


@in_both_dimensions
@with_common_padding
@pytest.mark.parametrize("steps", [1, 7])
def test_dvf2ddf(axes, padding_mode, steps):
    def ours(velocity):
        return jaxwarp.integrate_velocity(velocity, steps=steps, padding_mode=padding_mode)

    theirs = layer("DVF2DDF", num_steps=steps, padding_mode=padding_mode)
    velocity, cotangent = operands(axes, axes, axes)
    check(ours, theirs, [velocity], cotangent)


@in_both_dimensions
@with_common_padding
def test_warp_composes_flows(axes, padding_mode):
    def ours(outer, inner):
        return jaxwarp.compose_flow(outer, inner, padding_mode=padding_mode)

    warp = layer("Warp", padding_mode=padding_mode)
    *flows, cotangent = operands(axes, axes, axes, axes)
    check(ours, lambda outer, inner: inner + warp(outer, inner), flows, cotangent)


@in_both_dimensions
@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
def test_warp_warps_volumes(axes, padding_mode):
    """With align_corners, as MONAI has it, reflection is the same, too."""

    def ours(image, flow):
        grid = jaxwarp.flow_grid(flow, align_corners=True)
        options = {"padding_mode": padding_mode, "align_corners": True, "channel_axis": -1}
        return jaxwarp.grid_sample(image, grid, **options)

    warp = layer("Warp", padding_mode=padding_mode)
    image, flow, cotangent = operands(axes, 4, axes, 4)
    check(ours, warp, [image, flow], cotangent)
