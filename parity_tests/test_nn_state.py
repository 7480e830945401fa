"""The modules in training: what is learned, what is kept, and every way to run them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx

from jaxwarp.nn import (
    Buffer,
    LearnedTPSGrid,
    LocalizationNet,
    SpatialTransformer,
    TPSGrid,
    TPSTransform,
)


@pytest.fixture(autouse=True)
def _settings():
    # As users run it: and optax and Flax promote dtypes.
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        yield


def normal(seed, *shape) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


POINTS = np.asarray([[-1, -1], [1, -1], [-1, 1], [1, 1], [0.1, 0.2]], np.float32)
X = normal(0, 4, 12, 12, 1)


class Look(nnx.Module):
    """A small localisation network, so that every test compiles fast."""

    def __init__(self, count, rngs):
        self.linear = nnx.Linear(144, count, rngs=rngs)

    def __call__(self, x):
        return 0.1 * nnx.tanh(self.linear(x.reshape(x.shape[0], -1)))


def make(seed=0):
    """A transformer with both kinds of state, buffers and parameters."""
    transform = TPSTransform((2, 3))
    return SpatialTransformer(Look(12, nnx.Rngs(seed)), transform, size=(6, 5))


class Splines(nnx.Module):
    """The same control points twice: fixed, and learned."""

    def __init__(self, rngs=None):
        self.fixed = TPSGrid(POINTS, (3, 4))
        self.learned = LearnedTPSGrid(POINTS, (3, 4))

    def __call__(self, source):
        return self.fixed(source) + self.learned(source)


SOURCE = POINTS[None] + 0.1 * normal(1, 2, 5, 2)


def squared(model, x):
    return (model(x) ** 2).sum()


def paths(state):
    return {".".join(map(str, path)) for path, _ in nnx.to_flat_state(state)}


def copy_of(state):
    return jax.tree.map(np.asarray, nnx.to_pure_dict(state))


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


# What is learned ---------------------------------------------------------------

BUFFERS = {"fixed.target", "fixed.base", "fixed.matrix"}


def test_buffers_and_parameters():
    model = Splines()
    assert paths(nnx.state(model, Buffer)) == BUFFERS
    assert paths(nnx.state(model, nnx.Param)) == {"learned.target"}
    assert paths(nnx.state(make(), Buffer)) == {f"fixed_grid.{b[6:]}" for b in BUFFERS}


def test_buffers_are_not_differentiated_and_parameters_are():
    gradient = nnx.grad(squared)(Splines(), SOURCE)
    assert paths(gradient) == {"learned.target"}
    assert np.abs(gradient["learned"]["target"][...]).max() > 0


@pytest.mark.parametrize("optimiser", [optax.sgd(0.1), optax.adamw(0.1, weight_decay=0.1)])
def test_optimisers_leave_buffers_alone_and_move_parameters(optimiser):
    model = Splines()
    before = copy_of(nnx.state(model))
    state = nnx.Optimizer(model, optimiser, wrt=nnx.Param)
    assert not any("fixed" in path for path in paths(nnx.state(state)))
    state.update(model, nnx.grad(squared)(model, SOURCE))
    after = copy_of(nnx.state(model))
    assert_same(after["fixed"], before["fixed"])
    assert (after["learned"]["target"] != before["learned"]["target"]).all()


def test_all_state_moves_with_its_module():
    device = jax.devices()[-1]
    model = make()
    nnx.update(model, jax.device_put(nnx.state(model), device))
    for _, variable in nnx.to_flat_state(nnx.state(model)):
        assert variable[...].devices() == {device}


# Saved and restored ------------------------------------------------------------


def test_orbax_restores_buffers_and_parameters(tmp_path):
    model = Splines()
    model.learned.target.set_value(model.learned.target[...] + 0.1)
    expected, state = model(SOURCE), nnx.state(model)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "model", state)
        checkpointer.wait_until_finished()
        restored = nnx.eval_shape(Splines)
        loaded = checkpointer.restore(tmp_path / "model", nnx.state(restored))
    nnx.update(restored, loaded)
    assert_same(copy_of(nnx.state(restored)), copy_of(state))
    assert paths(nnx.state(restored, Buffer)) == BUFFERS
    np.testing.assert_array_equal(restored(SOURCE), expected)


def test_a_checkpoint_can_do_without_buffers(tmp_path):
    model = make()
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "model", nnx.state(model, nnx.Param))
        checkpointer.wait_until_finished()
        other = make(seed=1)
        nnx.update(other, checkpointer.restore(tmp_path / "model", nnx.state(other, nnx.Param)))
    np.testing.assert_array_equal(other(X), model(X))


# Every way to run it -----------------------------------------------------------


def test_jit():
    model = make()
    np.testing.assert_allclose(nnx.jit(lambda model, x: model(x))(model, X), model(X), atol=1e-5)


def test_the_splines_matrix_is_an_argument_of_the_program_not_a_constant():
    graph, state = nnx.split(make())
    program = jax.make_jaxpr(lambda state, x: nnx.merge(graph, state)(x))(state, X)
    matrix = state["fixed_grid"]["matrix"].shape
    assert matrix in [v.aval.shape for v in program.jaxpr.invars]
    assert matrix not in [np.shape(constant) for constant in program.consts]


def test_two_transformers_of_one_kind_share_a_program():
    count = 0

    @nnx.jit
    def run(model):
        nonlocal count
        count += 1
        return model(X)

    for seed in (0, 1):
        run(make(seed))
    assert count == 1


def test_vmap_over_an_ensemble():
    @nnx.vmap
    def ensemble(seed):
        return SpatialTransformer(Look(6, nnx.Rngs(params=jax.random.key(seed))), size=(5, 5))

    together = nnx.vmap(lambda model, x: model(x), in_axes=(0, None))(ensemble(jnp.arange(3)), X)
    assert together.shape == (3, 4, 5, 5, 1)
    for seed in range(3):
        look = Look(6, nnx.Rngs(params=jax.random.key(seed)))
        alone = SpatialTransformer(look, size=(5, 5))
        np.testing.assert_allclose(together[seed], alone(X), atol=1e-5)


def test_vmap_over_images():
    model = make()
    one_by_one = nnx.vmap(lambda model, x: model(x[None])[0], in_axes=(None, 0))(model, X)
    np.testing.assert_allclose(one_by_one, model(X), atol=1e-5)


def test_vmap_over_splines_with_their_own_buffers():
    targets = POINTS[None] + 0.1 * normal(3, 4, 5, 2)
    grids = [TPSGrid(target, (3, 4)) for target in targets]
    graph, _ = nnx.split(grids[0])
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(nnx.state, grids))
    together = nnx.vmap(lambda to_grid: to_grid(SOURCE))(nnx.merge(graph, stacked))
    for grid, to_grid in zip(together, grids, strict=True):
        np.testing.assert_allclose(grid, to_grid(SOURCE), atol=1e-6)


def test_scan_and_checkpoint():
    model = make()
    step = jax.checkpoint(lambda state, x: nnx.merge(graph, state)(x).sum())
    graph, state = nnx.split(model)

    def total(state):
        return jax.lax.scan(lambda sum, x: (sum + step(state, x[None]), None), 0.0, X)[0]

    found = jax.grad(total)(state)["localization"]["linear"]["kernel"][...]
    expected = nnx.grad(lambda model: model(X).sum())(model)["localization"]["linear"]["kernel"]
    np.testing.assert_allclose(found, expected[...], atol=1e-4)


def test_an_optax_loop_learns_to_undo_a_shift():
    """All images are shifted by the same pixels; the loss is against the images as they were."""
    images = np.zeros((8, 16, 16, 1), np.float32)
    images[:, 5:11, 5:11, 0] = 1 + np.random.default_rng(0).random((8, 6, 6))
    kernel = jnp.ones((1, 3, 3, 1)) / 9
    blurred = jax.scipy.signal.convolve(jnp.asarray(images), kernel, mode="same")
    shifted = jnp.roll(blurred, (2, -1), axis=(1, 2))
    network = LocalizationNet(
        (16, 16, 1), channels=(4,), kernel_sizes=(5,), hidden=(8,), rngs=nnx.Rngs(0)
    )
    model = SpatialTransformer(network)
    optimiser = nnx.Optimizer(model, optax.adam(3e-3), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimiser):
        loss, gradient = nnx.value_and_grad(lambda m: ((m(shifted) - blurred) ** 2).mean())(model)
        optimiser.update(model, gradient)
        return loss

    losses = [float(step(model, optimiser)) for _ in range(200)]
    assert losses[-1] < 0.02 * losses[0]
    shift = model.warp(shifted).theta[:, :, 2] * 8
    np.testing.assert_allclose(shift, np.tile([-1.0, 2.0], (8, 1)), atol=0.3)


# Linen -------------------------------------------------------------------------


def linen() -> Any:
    """A transformer in Linen: the bridge is given a function that builds it."""

    def build(rngs):
        return SpatialTransformer(Look(12, rngs), TPSTransform((2, 3)), size=(6, 5))

    return nnx.bridge.to_linen(build)


def test_linen_keeps_buffers_in_a_collection_of_their_own():
    model = linen()
    image, variables = model.init_with_output(jax.random.key(0), X)
    assert image.shape == (4, 6, 5, 1)
    assert set(variables) == {"params", "buffers"}
    assert set(variables["buffers"]["fixed_grid"]) == {"target", "base", "matrix"}
    assert set(variables["params"]) == {"localization"}
    np.testing.assert_array_equal(jax.jit(model.apply)(variables, X).shape, image.shape)
    np.testing.assert_allclose(model.apply(variables, X), image, atol=1e-5)


def test_linen_trains_parameters_and_leaves_buffers():
    model = linen()
    variables = model.init(jax.random.key(0), X)
    params, buffers = variables["params"], variables["buffers"]

    @jax.jit
    def step(params):
        def loss(params):
            return (model.apply({"params": params, "buffers": buffers}, X) ** 2).mean()

        value, gradient = jax.value_and_grad(loss)(params)
        return value, jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient)

    losses = []
    for _ in range(5):
        loss, params = step(params)
        losses.append(loss)
    assert losses[-1] < losses[0]


def test_linen_uses_the_buffers_it_is_given_not_fresh_ones():
    model = linen()
    variables = model.init(jax.random.key(0), X)
    doubled = variables | {"buffers": jax.tree.map(lambda b: 2 * b, variables["buffers"])}
    assert not np.allclose(model.apply(doubled, X), model.apply(variables, X))


def test_orbax_restores_linen_variables(tmp_path):
    model = linen()
    variables = jax.tree.map(lambda leaf: leaf + 0.01, model.init(jax.random.key(0), X))
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "model", variables)
        checkpointer.wait_until_finished()
        like = jax.eval_shape(model.init, jax.random.key(0), X)
        restored: Any = checkpointer.restore(tmp_path / "model", like)
    assert_same(jax.tree.map(np.asarray, restored), jax.tree.map(np.asarray, variables))
    np.testing.assert_array_equal(model.apply(restored, X), model.apply(variables, X))
