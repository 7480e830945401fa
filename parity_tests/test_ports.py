"""Ports made with nothing but `jaxwarp.testing`: they agree with torch, whatever the weights."""

from functools import cached_property
from typing import Any

import numpy as np
import pytest
import torch
from flax import nnx

from jaxwarp.interop import load_state_dict
from jaxwarp.testing import Report, assert_module_parity
from parity_tests.harness import flax_models, torch_models

# Twenty for the models of the guide, a few for the others.
SEEDS = {"spatial transformer": range(20), "U-Net": range(20)}


pytestmark = pytest.mark.usefixtures("as_users_have_it")


def rngs():
    return nnx.Rngs(0)


# A residual block -------------------------------------------------------------


class TorchBlock(torch.nn.Module):
    """torchvision's BasicBlock, with its downsampling."""

    def __init__(self, inplanes, planes, stride):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(inplanes, planes, 3, stride, padding=1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(planes)
        self.relu = torch.nn.ReLU(inplace=True)
        self.conv2 = torch.nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = torch.nn.BatchNorm2d(planes)
        self.downsample = torch.nn.Sequential(
            torch.nn.Conv2d(inplanes, planes, 1, stride, bias=False), torch.nn.BatchNorm2d(planes)
        )

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.downsample(x)
        return self.relu(out)


class Block(nnx.Module):
    """The same in Flax."""

    def __init__(self, inplanes, planes, stride, *, rngs):
        def conv(inside, window, stride, pad):
            options = {"strides": stride, "padding": pad, "use_bias": False, "rngs": rngs}
            return nnx.Conv(inside, planes, (window, window), **options)

        def norm():
            return nnx.BatchNorm(planes, momentum=0.9, epsilon=1e-5, rngs=rngs)

        self.conv1, self.bn1 = conv(inplanes, 3, stride, 1), norm()
        self.conv2, self.bn2 = conv(planes, 3, 1, 1), norm()
        self.downsample = nnx.Sequential(conv(inplanes, 1, stride, 0), norm())

    def __call__(self, x):
        out = nnx.relu(self.bn1(self.conv1(x)))
        return nnx.relu(self.bn2(self.conv2(out)) + self.downsample(x))


# A transformer's layer --------------------------------------------------------


class EncoderLayer(nnx.Module):
    """torch.nn.TransformerEncoderLayer, batch first."""

    def __init__(self, d_model, nhead, dim_feedforward, dropout=0.1, *, norm_first=False, rngs):
        def norm():
            return nnx.LayerNorm(d_model, epsilon=1e-5, rngs=rngs)

        self.self_attn = nnx.MultiHeadAttention(
            nhead, d_model, decode=False, dropout_rate=dropout, rngs=rngs
        )
        self.linear1 = nnx.Linear(d_model, dim_feedforward, rngs=rngs)
        self.linear2 = nnx.Linear(dim_feedforward, d_model, rngs=rngs)
        self.norm1, self.norm2 = norm(), norm()
        self.dropout = nnx.Dropout(dropout, rngs=rngs)
        self.norm_first = norm_first

    def attend(self, x, mask):
        # True keeps in Flax, and masks in torch.
        return self.dropout(self.self_attn(x, mask=~mask))

    def feed(self, x):
        x = self.dropout(nnx.relu(self.linear1(x)))
        return self.dropout(self.linear2(x))

    def __call__(self, x, mask):
        if self.norm_first:
            x = x + self.attend(self.norm1(x), mask)
            return x + self.feed(self.norm2(x))
        x = self.norm1(x + self.attend(x, mask))
        return self.norm2(x + self.feed(x))


CAUSAL = ~np.tri(5, dtype=bool)


# The ports --------------------------------------------------------------------


class Ported:
    """How to make two modules, inputs of a seed, and how one module became the other."""

    def __init__(self, make, theirs, inputs, **options):
        self.make, self.theirs, self.inputs, self.options = make, theirs, inputs, options

    @cached_property
    def ours(self) -> nnx.Module:
        """Made for the first test that asks: its initialisers take seconds to compile."""
        return self.make()

    def compare(self, seed: int, **more) -> Report:
        torch.manual_seed(seed)
        inputs = self.inputs(np.random.default_rng(seed))
        options: dict[str, Any] = self.options | {"seed": seed} | more
        return assert_module_parity(self.ours, self.theirs(), *inputs, **options)


def tutorial_stn():
    model = torch_models.TutorialSTN()
    head: Any = model.fc_loc[2]
    torch.nn.init.normal_(head.weight, std=0.1)  # not the identity
    return model


IMAGES = {"in_layouts": "NCHW->NHWC", "out_layouts": "NCHW->NHWC"}
PORTS = {
    "residual block": Ported(
        lambda: Block(3, 4, 2, rngs=rngs()),
        lambda: TorchBlock(3, 4, 2),
        lambda rng: (rng.normal(size=(2, 3, 6, 6)),),
        **IMAGES,
    ),
    "transformer's layer": Ported(
        lambda: EncoderLayer(8, 2, 16, rngs=rngs()),
        lambda: torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
        lambda rng: (rng.normal(size=(2, 5, 8)), CAUSAL),
    ),
    "spatial transformer": Ported(
        lambda: flax_models.TutorialSTN(rngs=rngs()),
        tutorial_stn,
        lambda rng: (rng.normal(size=(2, 1, 28, 28)),),
        in_layouts="NCHW->NHWC",
        **flax_models.TUTORIAL_NAMES,
    ),
    "U-Net": Ported(
        lambda: flax_models.SmallUNet(rngs=rngs()),
        torch_models.SmallUNet,
        lambda rng: (rng.normal(size=(2, 2, 8, 8)), np.array([0, 2])),
        in_layouts=("NCHW->NHWC", None),
        out_layouts="NCHW->NHWC",
    ),
}


@pytest.mark.parametrize("name", PORTS)
def test_no_false_alarm(name):
    for seed in SEEDS.get(name, range(5)):
        report = PORTS[name].compare(seed)
        assert all(row.measured.share < 0.5 for row in report.rows), f"near an alarm:\n{report}"


@pytest.mark.parametrize("name", ["residual block", "transformer's layer"])
def test_training(name):
    report = PORTS[name].compare(0, modes=["training"], steps=5, rate=0.1)
    assert [row.what for row in report.rows if "losses" in row.what] == ["losses of 5 steps"]


def test_every_parameter_is_compared_under_torchs_name():
    report = PORTS["transformer's layer"].compare(0, modes=["evaluation"])
    names = {row.what.removeprefix("evaluation: d ") for row in report.rows[1:]}
    theirs = torch.nn.TransformerEncoderLayer(8, 2, 16)
    assert names == {"input 0", *dict(theirs.named_parameters())}
    assert report.notes == ()
    report = PORTS["residual block"].compare(0, modes=["training"])
    variances = "bn1.running_var, bn2.running_var, downsample.1.running_var"
    assert report.notes[0].startswith(f"{variances}: compared with")


def test_norm_first_under_vmap_in_float32():
    ours = EncoderLayer(8, 2, 16, norm_first=True, rngs=rngs())
    theirs = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True)
    x = np.random.default_rng(0).normal(size=(2, 5, 8))
    options: dict[str, Any] = {"modes": ["evaluation"], "dtypes": ["float32"], "under": ["vmap"]}
    assert_module_parity(ours, theirs, x, CAUSAL, **options)


def test_a_layer_that_knows_no_float64_is_named():
    ours = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs())
    theirs = SelfAttention(8, 2, batch_first=True)
    x = np.random.default_rng(0).normal(size=(2, 3, 8))
    options: dict[str, Any] = {"rename": {"inner": ""}, "modes": ["evaluation"]}
    with pytest.raises(AssertionError, match=r"ours computes in float32 .* at attention\.py:\d+"):
        assert_module_parity(ours, theirs, x, **options)
    assert_module_parity(ours, theirs, x, dtypes=["float32"], **options)


class SelfAttention(torch.nn.Module):
    def __init__(self, *args, **options):
        super().__init__()
        self.inner = torch.nn.MultiheadAttention(*args, **options)

    def forward(self, q, kv=None):
        kv = q if kv is None else kv
        return self.inner(q, kv, kv, need_weights=False)[0]


# Packed projections -----------------------------------------------------------


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({"bias": False}, {"use_bias": False}),
        ({"kdim": 6, "vdim": 6}, {"in_kv_features": 6}),
    ],
    ids=["without bias", "of another width"],
)
def test_attention(theirs, ours):
    # Without dropout Flax takes jax.nn.dot_product_attention, which knows no float64.
    layer = nnx.MultiHeadAttention(2, 8, decode=False, dropout_rate=0.1, rngs=rngs(), **ours)
    rng, width = np.random.default_rng(0), ours.get("in_kv_features", 8)
    inputs = rng.normal(size=(2, 3, 8)), rng.normal(size=(2, 5, width))
    torch_layer = SelfAttention(8, 2, batch_first=True, **theirs)
    assert_module_parity(layer, torch_layer, *inputs, rename={"inner": ""}, modes=["evaluation"])


def test_packed_weights_that_do_not_fit_are_named():
    layer = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs())
    state = torch.nn.MultiheadAttention(6, 2, add_bias_kv=True).state_dict()
    with pytest.raises(ValueError, match="does not fit") as error:
        load_state_dict(layer, state)
    assert str(error.value).splitlines()[1:] == [
        "  left over: bias_k",
        "  left over: bias_v",
        "  wrong shape: in_proj_bias is (18,), the module needs (24,)",
        "  wrong shape: in_proj_weight is (18, 6), the module needs (24, 8)",
        "  wrong shape: out_proj.bias is (6,), the module needs (8,)",
        "  wrong shape: out_proj.weight is (6, 6), the module needs (8, 8)",
    ]
