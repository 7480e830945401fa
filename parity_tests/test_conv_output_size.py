"""`conv_output_size` against the shapes of real torch layers."""

import itertools
from typing import Any

import pytest
import torch
from torch import nn

from jaxwarp.nn import conv_output_size

SIZES = (1, 2, 3, 4, 5, 7, 8, 12)
KERNELS = (1, 2, 3, 4, 5)
STRIDES = (1, 2, 3, 5)
PADDINGS = (0, 1, 2, 3, "valid", "same")
DILATIONS = (1, 2, 3)


def torchs_size(layer, *size):
    """Return the layer's output size, or None where torch raises."""
    try:
        with torch.no_grad():
            return tuple(layer(torch.zeros(1, 1, *size)).shape[2:])
    except RuntimeError:
        return None


def our_size(*args, **options):
    try:
        return conv_output_size(*args, **options)
    except ValueError:
        return None


# Even windows cannot be padded alike on both sides, which torch warns of.
EVEN = "ignore:Using padding='same' with even kernel lengths"


@pytest.mark.filterwarnings(EVEN)
@pytest.mark.parametrize("padding", PADDINGS)
def test_convolutions(padding):
    agreed = refused = 0
    for kernel, stride, dilation in itertools.product(KERNELS, STRIDES, DILATIONS):
        if padding == "same" and stride > 1:
            continue  # torch has no such layer; Flax's rule is tested below
        layer = nn.Conv1d(1, 1, kernel, stride, padding, dilation)
        for size in SIZES:
            theirs = torchs_size(layer, size)
            ours = our_size((size,), kernel, stride, padding, dilation)
            assert ours == theirs, (size, kernel, stride, padding, dilation)
            agreed, refused = agreed + (theirs is not None), refused + (theirs is None)
    assert agreed > 50
    assert refused > 0 or padding in ("same", 3)


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("layer", [nn.MaxPool1d, nn.AvgPool1d, nn.LPPool1d])
def test_poolings(layer: Any, ceil_mode):
    agreed = refused = 0
    dilations = DILATIONS if layer is nn.MaxPool1d else (1,)
    paddings = (0,) if layer is nn.LPPool1d else (0, 1, 2)
    for kernel, stride, padding, dilation in itertools.product(
        KERNELS, STRIDES, paddings, dilations
    ):
        if padding > kernel // 2:
            continue  # torch refuses such a pooling, whatever the input
        options: dict[str, Any] = {"dilation": dilation} if layer is nn.MaxPool1d else {}
        options |= {"padding": padding} if layer is not nn.LPPool1d else {}
        options |= {"norm_type": 2} if layer is nn.LPPool1d else {}
        pool = layer(kernel_size=kernel, stride=stride, ceil_mode=ceil_mode, **options)
        for size in SIZES:
            theirs = torchs_size(pool, size)
            ours = our_size((size,), kernel, stride, padding, dilation, ceil_mode=ceil_mode)
            assert ours == theirs, (size, kernel, stride, padding, dilation)
            agreed, refused = agreed + (theirs is not None), refused + (theirs is None)
    assert agreed > 100
    assert refused > 0


MIXED = [
    (nn.Conv2d, (9, 14), (3, 4), (2, 1), (1, 0), (1, 2)),
    (nn.Conv2d, (32, 20), (5, 3), (3, 2), "valid", (2, 1)),
    (nn.Conv2d, (6, 5), (4, 3), 1, "same", (3, 2)),
    (nn.Conv3d, (5, 9, 14), (1, 3, 4), (1, 2, 1), (0, 1, 0), (1, 1, 2)),
    (nn.Conv3d, (5, 9, 14), 3, 2, 1, 1),
]


@pytest.mark.filterwarnings(EVEN)
@pytest.mark.parametrize("case", MIXED, ids=str)
def test_an_option_for_each_axis(case):
    layer, size, *options = case
    assert conv_output_size(size, *options) == torchs_size(layer(1, 1, *options), *size)
    assert conv_output_size(list(size), *options) == conv_output_size(torch.Size(size), *options)


def test_the_feature_map_of_a_real_network():
    layers = [nn.Conv2d(3, 16, 5), nn.MaxPool2d(2, 2), nn.Conv2d(16, 32, 5), nn.MaxPool2d(2, 2)]
    with torch.no_grad():
        assert nn.Sequential(*layers)(torch.zeros(1, 3, 240, 320)).shape == (1, 32, 57, 77)
    size = (240, 320)
    for layer in layers:
        size = conv_output_size(
            size, layer.kernel_size, layer.stride, layer.padding, layer.dilation
        )
    assert size == (57, 77)


def test_same_with_a_stride_is_flaxs():
    import jax
    import jax.numpy as jnp
    from flax import nnx

    for size, kernel, stride in itertools.product(SIZES, KERNELS, STRIDES):
        layer = nnx.Conv(1, 1, (kernel,), strides=stride, padding="SAME", rngs=nnx.Rngs(0))
        shape = jax.eval_shape(layer, jnp.zeros((1, size, 1), jnp.float32)).shape
        assert conv_output_size(size, kernel, stride, "SAME") == shape[1]


def test_one_axis_gives_an_int():
    assert conv_output_size(28, 5) == 24
    assert conv_output_size((28,), 5) == (24,)
