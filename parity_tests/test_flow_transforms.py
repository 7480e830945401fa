"""Flows under JAX's transformations: derivatives, what they keep, batching, export."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import jaxwarp
from parity_tests.harness.differences import check_derivatives
from parity_tests.test_residuals import kept

SIZES = {1: (9,), 2: (6, 8), 3: (4, 3, 5)}
STEPS = 5
FUNCTIONS = {
    "compose_flow": jaxwarp.compose_flow,
    "invert_flow": partial(jaxwarp.invert_flow, steps=STEPS),
    "integrate_velocity": partial(jaxwarp.integrate_velocity, steps=STEPS),
    "flow_jacobian_determinant": jaxwarp.flow_jacobian_determinant,
}
of_each = pytest.mark.parametrize("name", FUNCTIONS)
of_each_iteration = pytest.mark.parametrize("name", ["invert_flow", "integrate_velocity"])


def operands(name, spatial=SIZES[2], batch=2, dtype=jnp.float64):
    """Make flows of less than a pixel, of one sign: no kink of the interpolation is near."""
    random = np.random.default_rng(0)
    shape = (batch, *spatial, len(spatial))
    count = 2 if name == "compose_flow" else 1
    return [jnp.asarray(random.uniform(0.25, 0.4, shape), dtype) for _ in range(count)]


# Derivatives ------------------------------------------------------------------


@of_each
@pytest.mark.parametrize("axes", SIZES)
def test_derivatives_are_those_of_the_values(name, axes):
    """Forward and reverse, against differences of the values."""
    check_derivatives(FUNCTIONS[name], operands(name, SIZES[axes]), order=1, tolerance=1e-6)


@of_each
def test_second_derivatives_are_those_of_the_first(name):
    check_derivatives(FUNCTIONS[name], operands(name, (5,), 1), order=2, tolerance=1e-6)


@of_each_iteration
@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
def test_a_backward_pass_keeps_one_flow_for_each_step(name, jit):
    (flow,) = operands(name)
    residuals = kept(FUNCTIONS[name], flow, jit=jit)
    assert residuals
    # An inverse is read from the flow itself, so that is kept, too.
    flows = STEPS + (name == "invert_flow")
    assert sum(x.nbytes for x in residuals) <= flows * flow.nbytes


@of_each_iteration
def test_plain_steps_would_keep_more(name):
    """The same steps without checkpoints keep positions beside flows, and `kept` sees it."""
    (flow,) = operands(name)

    def plain(flow):
        inverse = name == "invert_flow"
        x = -flow if inverse else flow / 2**STEPS
        for _ in range(STEPS):
            read = jaxwarp.compose_flow(flow if inverse else x, x)
            x = x - read if inverse else read
        return x

    assert sum(x.nbytes for x in kept(plain, flow, jit=False)) > (STEPS + 1) * flow.nbytes


# Transformations --------------------------------------------------------------


@of_each
def test_vmap_is_a_loop(name):
    f, flows = FUNCTIONS[name], operands(name, batch=6)
    stacked = [x.reshape(3, 2, *x.shape[1:]) for x in flows]
    expected = jnp.stack([f(*(x[i] for x in stacked)) for i in range(3)])
    np.testing.assert_allclose(jax.jit(jax.vmap(f))(*stacked), expected, rtol=0, atol=1e-14)


def test_many_flows_behind_one():
    outer, inner = operands("compose_flow")
    many = jnp.stack([inner, 2 * inner, -inner])
    ours = jax.vmap(jaxwarp.compose_flow, in_axes=(None, 0))(outer, many)
    expected = jnp.stack([jaxwarp.compose_flow(outer, x) for x in many])
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-14)


@of_each
def test_one_program_for_every_size_and_platform(name):
    flows = operands(name, dtype=jnp.float32)
    (shape,) = {x.shape for x in flows}
    free = export.symbolic_shape(f"n, h, w, {shape[-1]}")
    described = [jax.ShapeDtypeStruct(free, jnp.float32) for _ in flows]
    f = jax.jit(FUNCTIONS[name])
    exported = export.export(f, platforms=("cpu", "cuda", "rocm", "tpu"))(*described)
    loaded = export.deserialize(exported.serialize())
    np.testing.assert_allclose(loaded.call(*flows), f(*flows), rtol=0, atol=1e-6)


@of_each
def test_half_precision_is_computed_in_float32(name):
    flows = operands(name, dtype=jnp.bfloat16)
    ours = FUNCTIONS[name](*flows)
    assert ours.dtype == jnp.float32
    np.testing.assert_array_equal(ours, FUNCTIONS[name](*(x.astype(jnp.float32) for x in flows)))


def test_two_precisions_give_the_wider():
    outer, inner = operands("compose_flow")
    narrow = inner.astype(jnp.float32)
    expected = jaxwarp.compose_flow(outer, narrow.astype(jnp.float64))
    np.testing.assert_array_equal(jaxwarp.compose_flow(outer, narrow), expected)


def test_numpys_integers_are_steps():
    flow = np.zeros((2, 4, 5, 2), np.float32)
    steps: Any = np.int64(3)
    np.testing.assert_array_equal(jaxwarp.invert_flow(flow, steps=steps), flow)
