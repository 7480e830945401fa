"""Real porting mistakes, each planted in a port: the message names it. Without it all agree."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from flax import nnx

import jaxwarp
from jaxwarp.testing import assert_module_parity, assert_parity

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(2, 3, 6, 6))
POINTS = RNG.normal(size=(5, 4))
THETA = np.eye(2, 3) + 0.1 * RNG.normal(size=(2, 2, 3))
KERNEL = RNG.normal(size=(2, 3, 3, 3))  # torch's: out, in, height, width


pytestmark = pytest.mark.usefixtures("as_users_have_it")


# Functions --------------------------------------------------------------------


def transformer(**options):
    def ours(image, theta):
        grid = jaxwarp.affine_grid(theta, image.shape, **options)
        return jaxwarp.grid_sample(image, grid, **options)

    return ours


def torch_transformer(image, theta):
    grid = F.affine_grid(theta, list(image.shape), align_corners=True)
    return F.grid_sample(image, grid, align_corners=True)


def resized(image):
    """As F.interpolate does with align_corners: pixel i of 9 comes from i * 5 / 8 of 6."""
    scale = jnp.full(2, 8 / 5)
    return jax.image.scale_and_translate(
        image, (2, 3, 9, 9), (2, 3), scale, 0.5 - scale / 2, "linear", antialias=False
    )


def convolved(image, kernel):
    return jax.lax.conv(image, kernel, (1, 1), "VALID")


def pooled(**options):
    def ours(image):
        pad: Any = ((1, 1), (1, 1))
        image = jnp.moveaxis(image, 1, -1)
        image = nnx.avg_pool(image, (2, 2), strides=(2, 2), padding=pad, **options)
        return jnp.moveaxis(image, -1, 1)

    return ours


def attention(keep):
    def ours(x):
        scores = x @ x.T
        return jax.nn.softmax(scores / 2) @ x + keep(x)

    return ours


FUNCTIONS = {
    "align_corners left out": (
        transformer(align_corners=True),
        transformer(),
        torch_transformer,
        (IMAGES, THETA),
        r"likely: .*ours computes as with align_corners=False, torch with align_corners=True",
    ),
    "align_corners left out of one of the two": (
        transformer(align_corners=True),
        lambda image, theta: jaxwarp.grid_sample(
            image, jaxwarp.affine_grid(theta, image.shape), align_corners=True
        ),
        torch_transformer,
        (IMAGES, THETA),
        r"likely: test_porting_mistakes.py:\d+: ours computes as with align_corners=False",
    ),
    "GELU by tanh": (
        lambda x: nnx.gelu(x, approximate=False),
        nnx.gelu,
        F.gelu,
        (POINTS,),
        r"ours computes as with approximate='tanh', torch with approximate='none'",
    ),
    "bilinear resize with other corners": (
        resized,
        lambda image: jax.image.resize(image, (2, 3, 9, 9), "bilinear", antialias=False),
        lambda image: F.interpolate(image, (9, 9), mode="bilinear", align_corners=True),
        (IMAGES,),
        r"ours computes as with align_corners=False, torch with align_corners=True",
    ),
    "bilinear resize that smooths": (
        lambda image: jax.image.resize(image, (2, 3, 4, 4), "bilinear", antialias=False),
        lambda image: jax.image.resize(image, (2, 3, 4, 4), "bilinear"),
        lambda image: F.interpolate(image, (4, 4), mode="bilinear"),
        (IMAGES,),
        r"ours computes as with antialias=True, torch with antialias=False",
    ),
    "a transposed kernel": (
        convolved,
        lambda image, kernel: convolved(image, jnp.swapaxes(kernel, 2, 3)),
        F.conv2d,
        (IMAGES, KERNEL),
        r"height and width exchanged \(a transposed kernel\)",
    ),
    "a flipped kernel": (
        convolved,
        lambda image, kernel: convolved(image, kernel[..., ::-1, ::-1]),
        F.conv2d,
        (IMAGES, KERNEL),
        r"ours takes the kernel flipped",
    ),
    "a detached gradient": (
        attention(lambda x: x),
        attention(jax.lax.stop_gradient),
        lambda x: F.softmax(x @ x.T / 2, -1) @ x + x,
        (POINTS,),
        r"the same: value\n  likely: ours stops a gradient at test_porting_mistakes.py:\d+",
    ),
    "a gradient that torch detaches": (
        attention(jax.lax.stop_gradient),
        attention(lambda x: x),
        lambda x: F.softmax(x @ x.T / 2, -1) @ x + x.detach(),
        (POINTS,),
        r"the same: value\n  likely: test_\w+.py:\d+: torch detaches a gradient here, ours doe",
    ),
    "average pooling that does not count the padding": (
        pooled(count_include_pad=True),
        pooled(count_include_pad=False),
        lambda image: F.avg_pool2d(image, 2, padding=1),
        (IMAGES,),
        r"ours computes as with count_include_pad=False, torch with count_include_pad=True",
    ),
    "the variance of the other library": (
        lambda x: jnp.var(x, axis=1, ddof=1),
        lambda x: jnp.var(x, axis=1),
        lambda x: x.var(1),
        (POINTS,),
        r"ours divides the variance by n, torch by n - 1",
    ),
    "accumulated in bfloat16": (
        lambda x: x.sum(0),
        lambda x: x.sum(0, dtype=jnp.bfloat16).astype(x.dtype),
        lambda x: x.sum(0),
        (POINTS,),
        r"likely: ours computes in bfloat16 .* at test_porting_mistakes.py:\d+",
    ),
}


@pytest.mark.parametrize("mistake", FUNCTIONS)
def test_a_mistake_in_a_function_is_named(mistake):
    right, wrong, theirs, operands, message = FUNCTIONS[mistake]
    assert_parity(right, theirs, *operands)
    with pytest.raises(AssertionError, match=message):
        assert_parity(wrong, theirs, *operands)


def test_accumulation_in_bfloat16_is_seen_in_float32_too():
    right, wrong, theirs, operands, message = FUNCTIONS["accumulated in bfloat16"]
    assert_parity(right, theirs, *operands, dtypes=["float32"])
    with pytest.raises(AssertionError, match=message):
        assert_parity(wrong, theirs, *operands, dtypes=["float32"])


# Modules ----------------------------------------------------------------------


class Torch(torch.nn.Module):
    """Something of everything."""

    def __init__(self):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.norm = torch.nn.BatchNorm2d(4)
        self.conv2 = torch.nn.Conv2d(4, 4, 1)
        self.fc1 = torch.nn.Linear(36, 6)
        self.drop = torch.nn.Dropout(0.5)
        self.fc2 = torch.nn.Linear(6, 6)
        self.last = torch.nn.LayerNorm(6)

    def forward(self, x):
        x = F.gelu(self.norm(self.conv1(x)))
        x = F.gelu(self.fc1(self.conv2(x).flatten(1)))
        return self.last(self.fc2(self.drop(x)))


class Port(nnx.Module):
    """The same; every option is a mistake to make."""

    def __init__(
        self,
        padding=((1, 1), (1, 1)),
        momentum=0.9,
        epsilon=1e-5,
        last_epsilon=1e-5,
        compute=None,
        approximate=(False, False),
        drops=False,
        transposes=False,
        channels_first=False,
        detach=lambda x: x,
    ):
        rngs = nnx.Rngs(0)
        self.conv1 = nnx.Conv(3, 4, (3, 3), strides=2, padding=padding, rngs=rngs)
        self.norm = nnx.BatchNorm(4, momentum=momentum, epsilon=epsilon, rngs=rngs)
        self.conv2 = nnx.Conv(4, 4, (1, 1), rngs=rngs)
        self.fc1 = nnx.Linear(36, 6, dtype=compute, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.fc2: Any = nnx.Linear(6, 6, rngs=rngs)
        self.last = nnx.LayerNorm(6, epsilon=last_epsilon, rngs=rngs)
        self.approximate, self.detach = approximate, detach
        self.drops, self.transposes = drops, transposes
        self.channels_first = channels_first

    def __call__(self, x):
        first, second = self.approximate
        x = nnx.gelu(self.norm(self.conv1(x)), approximate=first)
        x = self.conv2(x)
        x = jnp.moveaxis(x, -1, 1) if self.channels_first else x
        x = self.fc1(x.reshape(len(x), -1))
        x = nnx.gelu(self.detach(x), approximate=second)
        x = self.drop(x, deterministic=False) if self.drops else self.drop(x)
        x = x @ self.fc2.kernel[...].T + self.fc2.bias[...] if self.transposes else self.fc2(x)
        return self.last(x)


FLATTENED = {"fc1": (4, 3, 3)}
EVALUATION, TRAINING = ["evaluation"], ["training"]
MODULES = {
    "columns not permuted": (
        {},
        EVALUATION,
        r"fc1: ours flattens channels last.*\(4, 3, 3\)",
        r"differs is fc1 \(Linear\); the one before it, conv2 \(Conv2d\), is the same",
    ),
    "momentum of the other library": (
        {"momentum": 0.99},
        TRAINING,
        r"norm: ours averages as with momentum=0.01 of torch's, which is 0.99 in Flax",
        r"2 of \d+ arrays differ.*\n  after norm.running_mean: .*\n  after norm.running_var",
    ),
    "momentum the wrong way round": (
        {"momentum": 0.1},
        TRAINING,
        r"norm: ours averages as with momentum=0.9 of torch's, which is 0.1 in Flax",
        r"torch has momentum=0.1, which is 0.9 in Flax",
    ),
    "epsilon of the other library": (
        {"last_epsilon": 1e-6},
        EVALUATION,
        r"last: ours computes as with eps=1e-06, torch with eps=1e-05",
        r"differs is last \(LayerNorm\)",
    ),
    "epsilon of a third library": (
        {"epsilon": 1e-3},
        TRAINING,
        r"norm: ours computes as with eps=0.001, torch with eps=1e-05",
        r"differs is norm \(BatchNorm2d\)",
    ),
    "GELU by tanh, in one place": (
        {"approximate": (False, True)},
        EVALUATION,
        r"test_porting_mistakes.py:\d+: ours computes as with approximate='tanh'",
        r"differs is fc2 \(Linear\); the one before it, fc1",
    ),
    'padding "SAME" with stride 2': (
        {"padding": "SAME"},
        EVALUATION,
        r'conv1: ours pads \[\(0, 1\), \(0, 1\)\] before and after, as "SAME" does',
        r"differs is conv1 \(Conv2d\)",
    ),
    "a transposed kernel": (
        {"transposes": True},
        EVALUATION,
        r"fc2: .*inputs and outputs exchanged \(a transposed kernel\)",
        r"differs is last \(LayerNorm\)",  # ours does without calling fc2
    ),
    "dropout left on": (
        {"drops": True},
        EVALUATION,
        r"ours draws random numbers at test_porting_mistakes.py:\d+: is dropout left on\?",
        r"differs is fc2 \(Linear\)",
    ),
    "a detached gradient": (
        {"detach": jax.lax.stop_gradient},
        EVALUATION,
        r"ours stops a gradient at test_porting_mistakes.py:\d+",
        r"d conv1.weight: .*; ours is zero everywhere",
    ),
    "accumulated in bfloat16": (
        {"compute": jnp.bfloat16},
        EVALUATION,
        r"ours computes in bfloat16 \(\w+\) at test_porting_mistakes.py:\d+",
        r"differs is fc1 \(Linear\)",
    ),
    "two at once": (
        {"padding": "SAME", "last_epsilon": 1e-6},
        EVALUATION,
        r"last: ours computes as with eps=1e-06.* and conv1: ours pads",
        r"differs is conv1",
    ),
}


def compare(modes, mistake=None, flattened=None):
    torch.manual_seed(0)
    ours = Port(**(mistake or {}))
    options: dict[str, Any] = {"in_layouts": "NCHW->NHWC", "flattened": flattened}
    return assert_module_parity(ours, Torch(), IMAGES, modes=modes, **options)


def test_without_a_mistake_all_agree():
    compare(["evaluation", "training"], flattened=FLATTENED)


@pytest.mark.parametrize("name", MODULES)
def test_a_mistake_in_a_module_is_named(name):
    mistake, modes, *messages = MODULES[name]
    with pytest.raises(AssertionError) as error:
        compare(modes, mistake, FLATTENED if mistake else None)
    for message in messages:
        # An old Flax cannot be asked what a layer gave.
        if hasattr(nnx, "capture") or "differs is" not in message:
            error.match(message)


def test_where_no_convention_explains_it_the_doubt_about_a_flatten_is_said():
    message = r"\n  perhaps: 'fc1' takes 36 columns after 4 channels: .*\(4, H, W\).* H \* W = 9"
    with pytest.raises(AssertionError, match=message):
        compare(EVALUATION, {"detach": lambda x: 2 * x})


def test_a_doubt_that_the_comparison_settles_is_not_said():
    compare(EVALUATION, {"channels_first": True})
