"""The form that other platforms compile computes what the CPU's does."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxwarp._form import Form
from jaxwarp._operations import OPERATIONS
from jaxwarp._taps import Rule

MISSING = {"sample": "values", "splat": "image", "correlate": "scale"}
OUT = (300, 260)  # more points than a chunk holds, and no multiple of it


def _operands(channels_last: bool) -> dict[str, jax.Array]:
    rng = np.random.default_rng(0)
    layout = (2, *OUT, 3) if channels_last else (2, 3, *OUT)
    image = (2, 9, 7, 3) if channels_last else (2, 3, 9, 7)
    return {
        "image": jnp.asarray(rng.normal(size=image)),
        "values": jnp.asarray(rng.normal(size=layout)),
        "grid": jnp.asarray(rng.uniform(-1.5, 1.5, (2, *OUT, 2))),
    }


@pytest.mark.parametrize("op", OPERATIONS)
@pytest.mark.parametrize(
    ("mode", "padding", "channels_last"),
    [
        *itertools.product(["bilinear"], ["zeros", "border"], [False, True]),
        ("bicubic", "zeros", False),
    ],
)
def test_every_platform_computes_the_same(op, mode, padding, channels_last):
    orders = ((1, 0), (0, 1)) if op == "correlate" else ((0, 0),)
    form = Form(Rule(mode, padding, False), channels_last, (9, 7), jnp.dtype("float64"), orders)
    operands = _operands(channels_last)
    operands.pop(MISSING[op], None)
    tiled, plain = (
        jax.jit(lambda x, tiled=tiled: OPERATIONS[op](x, form, tiled))(operands)
        for tiled in (True, False)
    )
    np.testing.assert_allclose(tiled, plain, rtol=0, atol=1e-10)
