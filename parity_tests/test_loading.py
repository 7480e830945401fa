"""Loading a state_dict: what is asked for, what is wrong for sure, what is only suspected."""

import warnings
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from jaxwarp import interop
from jaxwarp.interop import load_state_dict
from jaxwarp.nn import Buffer, LocalizationNet, SpatialTransformer, TPSGrid, TPSTransform
from parity_tests.harness import torch_models


@pytest.fixture(autouse=True)
def _as_users_have_it():
    with jax.numpy_dtype_promotion("standard"):
        yield


def rngs():
    return nnx.Rngs(0)


def numbers(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape)


# Buffers ----------------------------------------------------------------------


class Warp(nnx.Module):
    """A spline whose matrix is derived, a head that is not, and both kinds of buffer."""

    def __init__(self):
        self.to_grid = TPSGrid(numbers(5, 2), (3, 4))
        self.head = nnx.Linear(2, 3, rngs=rngs())
        self.mean = Buffer(jnp.zeros(3))
        self.cache = Buffer(jnp.zeros(2), persistent=False)


def state_of_warp():
    return {"head.weight": numbers(3, 2), "head.bias": numbers(3), "mean": numbers(4)[:3]}


def test_what_a_module_derives_is_not_asked_for():
    module = Warp()
    matrix = np.asarray(module.to_grid.matrix[...])
    assert load_state_dict(module, state_of_warp()) == ([], [])
    np.testing.assert_array_equal(module.mean[...], state_of_warp()["mean"].astype("float64"))
    np.testing.assert_array_equal(module.to_grid.matrix[...], matrix)


def test_nor_taken():
    """Control points alone would not fit the matrix that was made from others."""
    state = state_of_warp() | {"to_grid.target": numbers(1, 5, 2), "cache": numbers(2)}
    with pytest.raises(ValueError, match="does not fit") as info:
        load_state_dict(Warp(), state)
    assert str(info.value).splitlines()[1:] == [
        "  left over: cache (a buffer that the module derives)",
        "  left over: to_grid.target (a buffer that the module derives)",
    ]


def test_torch_says_the_same_of_buffers_that_are_not_persistent():
    theirs = torch.nn.Module()
    theirs.register_buffer("kept", torch.ones(2))
    theirs.register_buffer("derived", torch.ones(2), persistent=False)

    class Ours(nnx.Module):
        def __init__(self):
            self.kept = Buffer(jnp.zeros(2))
            self.derived = Buffer(jnp.zeros(2), persistent=False)

    ours = Ours()
    load_state_dict(ours, theirs.state_dict())
    assert ours.kept[...].tolist() == [1, 1]
    assert ours.derived[...].tolist() == [0, 0]


def test_a_buffer_stays_derived_however_the_module_is_handled():
    module = Warp()
    clone = nnx.merge(*nnx.split(module))
    shape_only = nnx.eval_shape(Warp)
    for each in (clone, nnx.clone(module), shape_only):
        assert load_state_dict(each, state_of_warp(), strict=False).missing_keys == []
    transformer = SpatialTransformer(
        nnx.Linear(4, 8, rngs=rngs()), TPSTransform((2, 2)), size=(3, 3)
    )
    load_state_dict(
        transformer, {"localization.weight": numbers(8, 4), "localization.bias": numbers(8)}
    )


# strict -----------------------------------------------------------------------


def test_what_is_missing_and_left_over_comes_back_as_from_torch():
    state = state_of_warp() | {"tail.weight": numbers(2), "tail.num_batches_tracked": numbers(1)}
    del state["mean"]
    module = Warp()
    keys = load_state_dict(module, state, strict=False)
    assert keys.missing_keys == ["mean"]
    assert keys.unexpected_keys == ["tail.weight"]
    np.testing.assert_array_equal(module.head.kernel[...], state["head.weight"].T.astype("float32"))

    theirs = torch.nn.ModuleDict({"head": torch.nn.Linear(2, 3)})
    theirs.register_buffer("mean", torch.zeros(3))
    tensors = {name: torch.from_numpy(x) for name, x in state.items() if "num" not in name}
    other = theirs.load_state_dict(tensors, strict=False)
    assert (other.missing_keys, other.unexpected_keys) == tuple(keys)
    assert other._fields == keys._fields


def test_a_wrong_shape_is_an_error_all_the_same():
    state = state_of_warp() | {"mean": numbers(7)}
    with pytest.raises(ValueError, match="wrong shape: mean"):
        load_state_dict(Warp(), state, strict=False)


# Flattens ---------------------------------------------------------------------


class Net(nnx.Module):
    """A convolution, a norm, a flatten and two Linear layers."""

    def __init__(self):
        self.conv = nnx.Conv(3, 8, (3, 3), rngs=rngs())
        self.norm = nnx.BatchNorm(8, rngs=rngs())
        self.fc = nnx.Linear(8 * 6, 16, rngs=rngs())
        self.out = nnx.Linear(16, 2, rngs=rngs())


def state_of_net(prefix="", fc="fc"):
    shapes = {
        "conv.weight": (8, 3, 3, 3),
        "conv.bias": (8,),
        "norm.weight": (8,),
        "norm.bias": (8,),
        "norm.running_mean": (8,),
        "norm.running_var": (8,),
        "norm.num_batches_tracked": (),
        f"{fc}.weight": (16, 48),
        f"{fc}.bias": (16,),
        "out.weight": (2, 16),
        "out.bias": (2,),
    }
    return {prefix + name: numbers(*shape) for name, shape in shapes.items()}


def test_a_linear_after_a_convolution_is_named_if_nothing_was_said():
    with pytest.warns(UserWarning, match="'fc' takes 48 columns after 8 channels") as said:
        load_state_dict(Net(), state_of_net())
    assert len(said) == 1
    assert "flattened={'fc': (8, H, W)} with H * W = 6" in str(said[0].message)
    assert said[0].filename == __file__


def test_it_is_named_as_torch_names_it():
    with pytest.warns(UserWarning, match=r"flattened=\{'body\.dense'"):
        load_state_dict(
            Net(), state_of_net("body.", "dense"), rename={"body": "", "body.dense": "fc"}
        )


@pytest.mark.parametrize("said", [(8, 2, 3), (8, 6), [8, 3, 2], None])
def test_nothing_is_suspected_where_something_was_said(said):
    load_state_dict(Net(), state_of_net(), flattened={"fc": said})


def test_none_leaves_the_columns_as_they_are():
    net = Net()
    load_state_dict(net, state_of_net(), flattened={"fc": None})
    np.testing.assert_array_equal(net.fc.kernel[...], state_of_net()["fc.weight"].T.astype("f4"))


def test_channels_in_the_wrong_place_are_an_error():
    with pytest.raises(
        ValueError, match=r"'fc' is \(2, 3, 8\), .* \(C, \*spatial\): \(8, 2, 3\)\?"
    ):
        load_state_dict(Net(), state_of_net(), flattened={"fc": (2, 3, 8)})


class Look(nnx.Module):
    def __init__(self):
        self.net = SpatialTransformer(LocalizationNet((28, 28, 1), rngs=rngs()))


NAMES = {
    "localization": "net.localization.features",
    "fc_loc": "net.localization.regressor",
}


def state_of_look():
    model = torch_models.TutorialSTN()
    return {k: v for k, v in model.state_dict().items() if k.startswith(("fc_loc", "loc"))}


def test_a_localisation_network_knows_what_it_flattens():
    state = state_of_look()
    with pytest.raises(ValueError, match=r"say flattened=\{'fc_loc\.0': \(10, 3, 3\)\}"):
        load_state_dict(Look(), state, rename=NAMES)
    with pytest.raises(ValueError, match=r"is \(10, 9, 1\), the module flattens \(10, 3, 3\)"):
        load_state_dict(Look(), state, rename=NAMES, flattened={"fc_loc.0": (10, 9, 1)})
    load_state_dict(Look(), state, rename=NAMES, flattened={"fc_loc.0": (10, 3, 3)})


def test_within_a_sequential_too():
    net = nnx.Sequential(LocalizationNet((28, 28, 1), rngs=rngs()))
    state = {
        k.replace("localization", "0.features").replace("fc_loc", "0.regressor"): v
        for k, v in state_of_look().items()
    }
    with pytest.raises(ValueError, match=r"'0\.regressor\.0' follows a flatten"):
        load_state_dict(net, state)
    load_state_dict(net, state, flattened={"0.regressor.0": (10, 3, 3)})


POOLED = {
    "pooled to a pixel": lambda: nnx.Linear(8, 5, rngs=rngs()),
    "columns of something else": lambda: nnx.Linear(11, 5, rngs=rngs()),
}


@pytest.mark.parametrize("name", POOLED)
def test_no_false_alarm(name):
    class Pooled(nnx.Module):
        def __init__(self):
            self.conv = nnx.Conv(3, 8, (3, 3), rngs=rngs())
            self.fc = POOLED[name]()

    state = {"conv.weight": numbers(8, 3, 3, 3), "conv.bias": numbers(8)}
    columns = POOLED[name]().in_features
    state |= {"fc.weight": numbers(5, columns), "fc.bias": numbers(5)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_state_dict(Pooled(), state)


# Arguments --------------------------------------------------------------------


def test_a_module_is_no_state_dict():
    linear = nnx.Linear(2, 3, rngs=rngs())
    with pytest.raises(TypeError, match=r"got Linear \(its \.state_dict\(\) is one\)"):
        load_state_dict(linear, cast(Any, torch.nn.Linear(2, 3)))
    with pytest.raises(TypeError, match="state_dict must map names to weights, got list"):
        load_state_dict(linear, cast(Any, []))
    with pytest.raises(TypeError, match=r"the order is load_state_dict\(module, torch_module"):
        load_state_dict(cast(Any, torch.nn.Linear(2, 3)), cast(Any, linear))


# Batches of pictures ----------------------------------------------------------


@pytest.mark.parametrize("channel_axis", [1, -1])
def test_a_batch_of_pictures_is_its_pictures(channel_axis):
    batch = np.random.default_rng(0).integers(0, 256, (3, 20, 24, 3)).astype(np.uint8)
    together = interop.from_image(batch, channel_axis=channel_axis)
    for i, picture in enumerate(batch):
        one = interop.from_image(picture, channel_axis=channel_axis)
        np.testing.assert_array_equal(together[i : i + 1], one)
    under_jit = jax.jit(lambda b: interop.from_image(b, channel_axis=channel_axis))(batch)
    np.testing.assert_array_equal(under_jit, together)


def test_a_batch_in_torchs_layout_does_not_pass_in_silence():
    with pytest.warns(UserWarning, match=r"\(2, 3, 20, 24\): channels are to be last"):
        interop.from_image(np.zeros((2, 3, 20, 24), np.uint8))
