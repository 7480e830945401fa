"""What one CPU computes in its own way is what the form for every platform computes."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxwarp._form import Form
from jaxwarp._operations import OPERATIONS
from jaxwarp._taps import Rule

MISSING = {"sample": "values", "splat": "image", "correlate": "scale"}
ORDERS = {2: ((1, 0), (0, 1)), 3: ((1, 0, 0), (0, 1, 0), (0, 0, 1))}

# batch, channels, image, output: what a tile holds, and what is left over for another
SHAPES = {
    "many tiles of each image": (2, 3, (9, 7), (150, 130)),
    "halves of the points": (1, 2, (9, 7), (151, 257)),
    "halves of three images' points": (3, 1, (9, 7), (101, 97)),
    "several images in a tile": (26, 3, (5, 4), (17, 19)),
    "images left over": (74, 1, (5, 4), (9, 13)),
    "a prime number of points": (2, 3, (9, 7), (16411,)),
    "channels left over": (2, 19, (9, 7), (31, 33)),
    "blocks of channels": (1, 64, (9, 7), (40, 50)),
    "one point": (1, 1, (9, 7), (1,)),
    "one point of many images": (16387, 3, (3, 2), (1,)),
    "five of many images": (4099, 3, (3, 2), (5,)),
    "three axes": (2, 5, (4, 5, 3), (13, 11, 17)),
}


def _operands(batch, channels, image, out, channels_last):
    rng = np.random.default_rng(0)

    def some(*axes):
        return jnp.asarray(rng.normal(size=axes))

    return {
        "image": some(batch, *image, channels) if channels_last else some(batch, channels, *image),
        "values": some(batch, *out, channels) if channels_last else some(batch, channels, *out),
        "grid": jnp.asarray(rng.uniform(-1.5, 1.5, (batch, *out, len(image)))),
    }


RULES = [
    ("bilinear", "zeros", False),
    ("bilinear", "border", True),
    ("bicubic", "reflection", False),
]
MORE_RULES = [
    ("bilinear", "zeros", True),
    ("bilinear", "border", False),
    ("bicubic", "zeros", False),
    ("nearest", "border", False),
]
CASES = [
    *itertools.product(SHAPES, RULES),
    *itertools.product(["many tiles of each image"], MORE_RULES),
]


@pytest.mark.parametrize("op", MISSING)
@pytest.mark.parametrize(("shape", "rule"), CASES, ids=str)
def test_one_cpu_computes_the_same(shape, rule, op):
    mode, padding, channels_last = rule
    batch, channels, spatial, out = SHAPES[shape]
    orders = ORDERS[len(spatial)] if op == "correlate" else ((0,) * len(spatial),)
    form = Form(Rule(mode, padding, False), channels_last, spatial, jnp.dtype("float64"), orders)
    operands = _operands(batch, channels, spatial, out, channels_last)
    operands.pop(MISSING[op], None)
    one_cpu, plain = (
        jax.jit(lambda x, one_cpu=one_cpu: OPERATIONS[op](x, form, one_cpu))(operands)
        for one_cpu in (True, False)
    )
    np.testing.assert_allclose(one_cpu, plain, rtol=0, atol=1e-10)
