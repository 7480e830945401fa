"""Modules and tensors on four devices."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxwarp import interop
from parity_tests.four_devices.test_sharding import collectives
from parity_tests.test_nn_state import make, normal

X = normal(0, 8, 12, 12, 1)


@pytest.fixture(scope="module", params=["Auto", "Explicit"])
def mesh(request):
    return jax.make_mesh((4,), ("batch",), axis_types=(getattr(AxisType, request.param),))


@pytest.fixture
def everywhere(mesh):
    return NamedSharding(mesh, P())


def trained(place, x):
    """Train a transformer with buffers and parameters for five steps; return losses and it."""
    with jax.enable_x64(False):
        model = make()
        optimiser = nnx.Optimizer(model, optax.adam(0.01), wrt=nnx.Param)
        for module in (model, optimiser):
            nnx.update(module, jax.device_put(nnx.state(module), place))

        @nnx.jit
        def step(model, optimiser, x):
            loss, gradient = nnx.value_and_grad(lambda m: (m(x) ** 2).mean())(model)
            optimiser.update(model, gradient)
            return loss

        return [float(step(model, optimiser, x)) for _ in range(5)], model


@pytest.mark.usefixtures("as_users_have_it")
def test_data_parallel_over_a_mesh(mesh, everywhere):
    by_batch = NamedSharding(mesh, P("batch"))
    x = jax.device_put(X, by_batch)
    alone, _ = trained(jax.devices()[0], X)
    together, model = trained(everywhere, x)
    np.testing.assert_allclose(together, alone, rtol=1e-5)
    assert together[-1] < together[0]
    grid: Any = model.fixed_grid
    assert grid.matrix[...].sharding.is_equivalent_to(everywhere, 3)

    # Forward, no device speaks to another.
    graph, state = nnx.split(model)
    forward = jax.jit(lambda state, x: nnx.merge(graph, state)(x))
    compiled = forward.lower(state, x).compile()
    assert collectives(compiled) == []
    assert compiled(state, x).sharding.is_equivalent_to(by_batch, 4)


def test_several_devices_cannot_be_one_tensor(everywhere):
    with pytest.raises(ValueError, match="on one device, got one on 4"):
        interop.to_torch(jax.device_put(jnp.ones(4), everywhere))
