"""Torch weights in nnx modules, layer by layer."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from jaxwarp.interop import from_torch, load_state_dict
from parity_tests.harness import weights
from parity_tests.harness.weights import F64, abstract, channels_last, close, normal, rngs


@pytest.fixture(autouse=True)
def _settings():
    with weights.settings():
        yield


# Layers ----------------------------------------------------------------------


def conv(window, **options):
    return nnx.Conv(4, 6, window, padding="VALID", rngs=rngs(), **F64, **options)


def conv_transpose(window, **options):
    return nnx.ConvTranspose(4, 6, window, padding="VALID", rngs=rngs(), **F64, **options)


def norm(kind, *args, **options):
    return kind(*args, epsilon=1e-5, rngs=rngs(), **F64, **options)


LAYERS = {
    "Conv1d": (torch.nn.Conv1d(4, 6, 3), lambda: conv((3,)), (2, 4, 7)),
    "Conv2d": (torch.nn.Conv2d(4, 6, (3, 2)), lambda: conv((3, 2)), (2, 4, 7, 8)),
    "Conv2d without bias": (
        torch.nn.Conv2d(4, 6, 3, stride=2, bias=False),
        lambda: conv((3, 3), strides=2, use_bias=False),
        (2, 4, 7, 8),
    ),
    "Conv2d in groups": (
        torch.nn.Conv2d(4, 6, 3, dilation=2, groups=2),
        lambda: conv((3, 3), kernel_dilation=2, feature_group_count=2),
        (2, 4, 7, 8),
    ),
    "Conv3d": (torch.nn.Conv3d(4, 6, (1, 2, 3)), lambda: conv((1, 2, 3)), (2, 4, 3, 4, 5)),
    "ConvTranspose1d": (
        torch.nn.ConvTranspose1d(4, 6, 3, stride=2),
        lambda: conv_transpose((3,), strides=2),
        (2, 4, 5),
    ),
    "ConvTranspose2d": (
        torch.nn.ConvTranspose2d(4, 6, (3, 2), stride=(2, 1)),
        lambda: conv_transpose((3, 2), strides=(2, 1)),
        (2, 4, 5, 4),
    ),
    "ConvTranspose2d, Flax's kernel transposed": (
        torch.nn.ConvTranspose2d(4, 6, (3, 2), stride=(2, 1)),
        lambda: conv_transpose((3, 2), strides=(2, 1), transpose_kernel=True),
        (2, 4, 5, 4),
    ),
    "ConvTranspose3d": (
        torch.nn.ConvTranspose3d(4, 6, (2, 3, 2), stride=2),
        lambda: conv_transpose((2, 3, 2), strides=2),
        (2, 4, 3, 4, 3),
    ),
    "Linear": (torch.nn.Linear(4, 6), lambda: nnx.Linear(4, 6, rngs=rngs(), **F64), (5, 4)),
    "Linear without bias": (
        torch.nn.Linear(4, 6, bias=False),
        lambda: nnx.Linear(4, 6, use_bias=False, rngs=rngs(), **F64),
        (5, 4),
    ),
    "BatchNorm1d": (torch.nn.BatchNorm1d(4), lambda: norm(nnx.BatchNorm, 4), (5, 4)),
    "BatchNorm2d": (torch.nn.BatchNorm2d(4), lambda: norm(nnx.BatchNorm, 4), (2, 4, 5, 3)),
    "BatchNorm2d, not affine": (
        torch.nn.BatchNorm2d(4, affine=False),
        lambda: norm(nnx.BatchNorm, 4, use_bias=False, use_scale=False),
        (2, 4, 5, 3),
    ),
    "GroupNorm": (torch.nn.GroupNorm(2, 4), lambda: norm(nnx.GroupNorm, 4, 2), (2, 4, 5, 3)),
    "LayerNorm": (torch.nn.LayerNorm(4), lambda: norm(nnx.LayerNorm, 4), (5, 4)),
}


@pytest.mark.parametrize("mode", ["training", "evaluation"])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_compute_the_same(name, mode):
    theirs, make, shape = LAYERS[name]
    theirs = theirs.double().train(mode == "training")
    with torch.no_grad():
        for i, weight in enumerate([*theirs.parameters(), *theirs.buffers()]):
            if weight.is_floating_point():
                weight.copy_(torch.from_numpy(np.abs(normal(i, *weight.shape))) + 0.5)
    ours = abstract(make)
    load_state_dict(ours, theirs.state_dict())
    ours.eval() if mode == "evaluation" else ours.train()
    x = normal(9, *shape)
    close(jnp.moveaxis(ours(channels_last(x)), -1, 1), theirs(torch.from_numpy(x)))


def test_embedding():
    theirs, ours = torch.nn.Embedding(7, 3).double(), nnx.Embed(7, 3, rngs=rngs(), **F64)
    load_state_dict(ours, theirs.state_dict())
    index = np.array([[0, 6], [3, 3]])
    close(ours(jnp.asarray(index)), theirs(torch.from_numpy(index)))


@pytest.mark.parametrize("spatial", [(6,), (4, 5), (2, 3, 4)])
def test_the_first_linear_after_a_flatten(spatial):
    columns = 3 * int(np.prod(spatial))
    theirs = torch.nn.Linear(columns, 5).double()
    x = normal(0, 2, 3, *spatial)
    expected = theirs(torch.from_numpy(x).flatten(1))

    ours = nnx.Linear(columns, 5, rngs=rngs(), **F64)
    load_state_dict(ours, theirs.state_dict(), flattened={"": (3, *spatial)})
    close(ours(channels_last(x).reshape(2, -1)), expected)
    # Without the option the columns stay as they are: for those who flatten channels first.
    load_state_dict(ours, theirs.state_dict())
    close(ours(jnp.asarray(x).reshape(2, -1)), expected)


def test_weights_are_copied_not_shared():
    theirs: Any = torch.nn.LayerNorm(4).double()
    ours: Any = norm(nnx.LayerNorm, 4)
    load_state_dict(ours, theirs.state_dict())
    with torch.no_grad():
        theirs.weight.add_(1)
    np.testing.assert_array_equal(ours.scale[...], np.ones(4))


def test_values_take_the_variables_dtype():
    theirs = torch.nn.Linear(4, 6).double()
    ours: Any = nnx.Linear(4, 6, param_dtype=jnp.bfloat16, rngs=rngs())
    load_state_dict(ours, theirs.state_dict())
    assert ours.kernel.dtype == jnp.bfloat16
    np.testing.assert_array_equal(ours.bias[...], from_torch(theirs.bias).astype(jnp.bfloat16))


def test_values_stay_where_the_variable_was():
    device = jax.devices()[0]
    ours = nnx.Linear(4, 6, rngs=rngs())
    sharding = jax.sharding.NamedSharding(
        jax.make_mesh((1,), ("model",), devices=[device]), jax.sharding.PartitionSpec(None, "model")
    )
    ours.kernel.set_value(jax.device_put(ours.kernel[...], sharding))
    load_state_dict(ours, torch.nn.Linear(4, 6).state_dict())
    assert ours.kernel.sharding == sharding


def test_numpy_and_jax_weights_are_welcome():
    ours: Any = nnx.Linear(2, 3, rngs=rngs(), **F64)
    weight, bias = normal(0, 3, 2), normal(1, 3)
    load_state_dict(ours, {"weight": weight, "bias": jnp.asarray(bias)})
    np.testing.assert_array_equal(ours.kernel[...], weight.T)
    np.testing.assert_array_equal(ours.bias[...], bias)


# Errors ----------------------------------------------------------------------


class Net(nnx.Module):
    def __init__(self):
        self.body = nnx.Sequential(nnx.Conv(3, 8, (5, 5), rngs=rngs()), nnx.relu)
        self.fc = nnx.Linear(32, 2, rngs=rngs())
        self.drop = nnx.Dropout(0.5, rngs=rngs())
        self.scale = nnx.Param(jnp.ones(4))


def net_state():
    return {
        "body.0.weight": np.ones((8, 3, 5, 5)),
        "body.0.bias": np.ones(8),
        "fc.weight": np.ones((2, 32)),
        "fc.bias": np.ones(2),
        "scale": np.ones(4),
    }


def test_every_misfit_is_named_and_nothing_is_loaded():
    net, state = Net(), net_state()
    before = nnx.to_pure_dict(nnx.state(net, nnx.Param))
    state["body.0.weight"] = np.ones((8, 3, 7, 7))
    state["fc.weight"] = np.ones((32, 2))
    state["scale"] = np.ones((4, 1))
    state["fc2.weight"] = np.ones(3)
    state["layers.bias"] = np.ones(3)
    del state["body.0.bias"], state["fc.bias"]
    with pytest.raises(ValueError, match="does not fit") as error:
        load_state_dict(
            net,
            state,
            flattened={"fc": (8, 3, 3), "body.0": (1, 2, 3), "nowhere": (2,)},
            rename={"decoder": "body"},
        )
    assert str(error.value).splitlines()[1:] == [
        "  flattened: 'body.0' is not a Linear layer of the module",
        "  flattened: 'fc' has 32 columns, not those of (8, 3, 3)",
        "  flattened: 'nowhere' is not a Linear layer of the module",
        "  left over: fc2.weight",
        "  left over: layers.bias",
        "  missing: body.0.bias",
        "  missing: fc.bias",
        "  rename: no key of state_dict starts with 'decoder'",
        "  wrong shape: body.0.weight is (8, 3, 7, 7), the module needs (8, 3, 5, 5)",
        "  wrong shape: fc.weight is (32, 2), the module needs (2, 32)",
        "  wrong shape: scale is (4, 1), the module needs (4,)",
    ]
    jax.tree.map(np.testing.assert_array_equal, before, nnx.to_pure_dict(nnx.state(net, nnx.Param)))


def test_two_keys_for_one_variable():
    state = net_state() | {"old.fc.bias": np.ones(2)}
    with pytest.raises(ValueError, match=r"left over: (old\.)?fc\.bias"):
        load_state_dict(Net(), state, rename={"old": ""})


def test_what_fits_is_loaded():
    net = Net()
    load_state_dict(net, net_state(), flattened={"fc": None})
    assert all((leaf == 1).all() for leaf in jax.tree.leaves(nnx.state(net, nnx.Param)))


@pytest.mark.parametrize(
    ("rename", "prefix"),
    [
        ({"model": ""}, "model."),
        ({"model.body": "body", "model": ""}, "model."),
        ({"a.b": "", "a": "wrong"}, "a.b."),
    ],
)
def test_renaming(rename, prefix):
    net: Any = Net()
    state = {prefix + k: v for k, v in net_state().items()}
    load_state_dict(net, state, rename=rename, flattened={f"{prefix}fc": None})
    assert (net.fc.bias[...] == 1).all()
