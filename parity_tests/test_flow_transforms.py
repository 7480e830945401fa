"""Flows under JAX's transformations: derivatives, what they keep, batching, export; bad input."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.test_util import check_grads

import jaxwarp
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
    check_grads(FUNCTIONS[name], operands(name, SIZES[axes]), order=1, atol=1e-6, rtol=1e-6)


@of_each
def test_second_derivatives_are_those_of_the_first(name):
    check_grads(FUNCTIONS[name], operands(name, (5,), 1), order=2, atol=1e-6, rtol=1e-6)


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


# Bad input --------------------------------------------------------------------

FLOW = np.zeros((2, 4, 5, 2), np.float32)
SHAPES = {
    "one coordinate too many": np.zeros((2, 4, 5, 3), np.float32),
    "no spatial axis": np.zeros((2, 0), np.float32),
    "four spatial axes": np.zeros((1, 2, 2, 2, 2, 4), np.float32),
    "an empty axis": np.zeros((2, 0, 5, 2), np.float32),
    "no batch": np.zeros((4, 2), np.float32),
}
ARGUMENTS = {
    "compose_flow": ("outer", "inner"),
    "invert_flow": ("flow",),
    "integrate_velocity": ("velocity",),
    "flow_jacobian_determinant": ("flow",),
}
EVERY = [(name, argument) for name, names in ARGUMENTS.items() for argument in names]


def call(name, **changed):
    return getattr(jaxwarp, name)(**dict.fromkeys(ARGUMENTS[name], FLOW) | changed)


def says(error, *words):
    """Expect an error whose text holds every word."""
    everywhere = "".join(rf"(?=[\s\S]*{word})" for word in words)
    return pytest.raises(error, match=everywhere)


@pytest.mark.parametrize("wrong", SHAPES)
@pytest.mark.parametrize(("name", "argument"), EVERY)
def test_shapes_that_are_no_flow(name, argument, wrong):
    with says(ValueError, rf"\b{argument}\b", "spatial", r"got shape \("):
        call(name, **{argument: SHAPES[wrong]})


@pytest.mark.parametrize(("name", "argument"), EVERY)
def test_what_is_no_array_of_floats(name, argument):
    with says(TypeError, rf"\b{argument}\b", "int32"):
        call(name, **{argument: FLOW.astype(np.int32)})
    with says(TypeError, rf"\b{argument}\b", "list"):
        call(name, **{argument: FLOW.tolist()})


@pytest.mark.parametrize("other", [FLOW[:1], FLOW[:, :3], np.zeros((2, 9, 1), np.float32)])
def test_flows_of_two_shapes(other):
    with says(ValueError, r"\binner\b", "outer", r"got shape \("):
        call("compose_flow", inner=other)


@pytest.mark.parametrize("name", ["compose_flow", "invert_flow", "integrate_velocity"])
@pytest.mark.parametrize(
    ("wrong", "came"),
    [
        ("edge", "'edge'"),
        (None, "None"),
        (1, "1"),
        (("wrap", "edge"), "'edge'"),
        (("wrap",), r"\('wrap',\)"),
    ],
)
def test_unknown_paddings(name, wrong, came):
    with says(ValueError, "padding_mode", came):
        call(name, padding_mode=wrong)


@pytest.mark.parametrize(
    ("name", "steps", "error"),
    [
        ("invert_flow", 0, ValueError),
        ("invert_flow", -1, ValueError),
        ("integrate_velocity", -1, ValueError),
        ("integrate_velocity", 65, ValueError),
        *((n, s, TypeError) for n in ("invert_flow", "integrate_velocity") for s in (7.0, True)),
        *((n, s, TypeError) for n in ("invert_flow", "integrate_velocity") for s in ("7", None)),
    ],
)
def test_steps_out_of_range(name, steps, error):
    with says(error, r"\bsteps\b", str(steps)):
        call(name, steps=steps)


def test_numpys_integers_are_steps():
    np.testing.assert_array_equal(call("invert_flow", steps=np.int64(3)), FLOW)
