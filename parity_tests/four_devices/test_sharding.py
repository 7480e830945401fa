"""Sharding over four devices.

By hand: ``XLA_FLAGS=--xla_force_host_platform_device_count=4 python -m pytest
parity_tests/four_devices``.
"""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxwarp

MODES = ("nearest", "bilinear", "bicubic")
COLLECTIVES = re.compile(
    r"\b(all-reduce|all-gather|all-to-all|reduce-scatter|collective-\w+|send|recv)(-start)?\("
)
# More points than the CPU's loops take at once, so that there are loops to be sharded.
SIZES = {2: (96, 96), 3: (20, 24, 24)}


@pytest.fixture(scope="module")
def mesh():
    assert len(jax.devices()) >= 4, "run this where JAX has four devices (see above)"
    return Mesh(np.array(jax.devices()[:4]), ("devices",))


def collectives(compiled):
    """List the operations of a compiled program that talk to another device."""
    return [match.group(1) for match in COLLECTIVES.finditer(compiled.as_text())]


def sampler(mode, channel_axis=1, padding_mode="zeros"):
    return partial(
        jaxwarp.grid_sample, mode=mode, padding_mode=padding_mode, channel_axis=channel_axis
    )


def with_gradients(f):
    def both(image, grid, cotangent):
        value, pull_back = jax.vjp(f, image, grid)
        return value, *pull_back(cotangent)

    return both


def arrays(batch, channels, size, out=None, channel_axis=1):
    """Make image, grid and cotangent; some points lie outside.

    Coordinates are such that positions are exact. Rounded one way in one program and another way
    in the other, they change gradients by more than the order of a sum does (18 eps, seen).
    """
    random, out = np.random.default_rng(0), out or size
    image = random.standard_normal((batch, channels, *size))
    grid = random.uniform(-1.2, 1.2, (batch, *out, len(size)))
    grid = np.round(grid * 1024) / 1024
    cotangent = random.standard_normal((batch, channels, *out))
    if channel_axis == -1:
        image, cotangent = np.moveaxis(image, 1, -1), np.moveaxis(cotangent, 1, -1)
    return [jnp.asarray(x, jnp.float32) for x in (image, grid, cotangent)]


def assert_same(ours, theirs):
    """The same sums, perhaps in another order."""
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, rtol=0, atol=16 * np.finfo(b.dtype).eps * abs(b).max())


# jit --------------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "axes"), [(1, 2), (3, 2), (32, 2), (3, 3)])
@pytest.mark.parametrize("mode", MODES)
def test_a_sharded_batch_needs_no_communication(mesh, mode, channels, axes):
    """Forward and backward, in torch's layout in 2-D and in Flax's in 3-D."""
    channel_axis = 1 if axes == 2 else -1
    over_batch = NamedSharding(mesh, P("devices"))
    descriptions = [
        jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=over_batch)
        for x in arrays(8, channels, SIZES[axes], channel_axis=channel_axis)
    ]
    both = jax.jit(with_gradients(sampler(mode, channel_axis)), out_shardings=over_batch)
    assert collectives(both.lower(*descriptions).compile()) == []


@pytest.mark.parametrize(
    ("mode", "channel_axis"), [("nearest", -1), ("bilinear", 1), ("bicubic", -1)]
)
def test_a_sharded_batch_gives_the_same_numbers(mesh, mode, channel_axis):
    operands = arrays(4, 3, (96, 96), channel_axis=channel_axis)
    both = jax.jit(with_gradients(sampler(mode, channel_axis, "reflection")))
    spread = jax.device_put(operands, NamedSharding(mesh, P("devices")))
    assert_same(both(*spread), both(*operands))


@pytest.mark.parametrize("channel_axis", [1, -1])
@pytest.mark.parametrize("mode", MODES)
def test_sharded_output_rows_need_no_communication(mesh, mode, channel_axis):
    """Each device reads its own rows of the grid from an image that all of them have."""
    image, grid, _ = arrays(1, 3, (64, 64), (256, 256), channel_axis)
    rows = P(None, None, "devices") if channel_axis == 1 else P(None, "devices")
    placed = (
        jax.device_put(image, NamedSharding(mesh, P())),
        jax.device_put(grid, NamedSharding(mesh, P(None, "devices"))),
    )
    f = sampler(mode, channel_axis)
    compiled = jax.jit(f, out_shardings=NamedSharding(mesh, rows)).lower(*placed).compile()
    assert collectives(compiled) == []
    assert_same(compiled(*placed), f(image, grid))


def test_a_collective_would_be_seen(mesh):
    """The gradient of an image that all devices share is a sum over devices."""
    image, grid, cotangent = arrays(1, 3, (8, 8))
    sharded = NamedSharding(mesh, P(None, "devices"))

    def gradient(image, grid, cotangent):
        return jax.vjp(lambda image: sampler("bilinear")(image, grid), image)[1](cotangent)

    placed = (
        jax.device_put(image, NamedSharding(mesh, P())),
        jax.device_put(grid, sharded),
        jax.device_put(cotangent, NamedSharding(mesh, P(None, None, "devices"))),
    )
    compiled = jax.jit(gradient).lower(*placed).compile()
    assert collectives(compiled)
    assert_same(compiled(*placed), jax.jit(gradient)(image, grid, cotangent))


# shard_map --------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "axes"), [(mode, 2) for mode in MODES] + [("bilinear", 3)])
def test_shard_map_over_the_batch(mesh, mode, axes):
    operands = arrays(4, 2, SIZES[axes])
    both = with_gradients(sampler(mode))
    spread = jax.shard_map(both, mesh=mesh, in_specs=P("devices"), out_specs=P("devices"))
    compiled = jax.jit(spread).lower(*operands).compile()
    assert collectives(compiled) == []
    placed = jax.device_put(operands, NamedSharding(mesh, P("devices")))
    assert_same(compiled(*placed), jax.jit(both)(*operands))


@pytest.mark.parametrize(("mode", "axes"), [(mode, 2) for mode in MODES] + [("bilinear", 3)])
def test_shard_map_with_an_image_that_all_devices_share(mesh, mode, axes):
    """Rows of the grid are spread; the image's gradient comes back summed over devices."""
    operands = arrays(1, 2, SIZES[axes])
    rows = P(None, "devices"), P(None, None, "devices")
    f = sampler(mode, padding_mode="border")
    sample = jax.shard_map(f, mesh=mesh, in_specs=(P(), rows[0]), out_specs=rows[1])
    assert_same(jax.jit(with_gradients(sample))(*operands), jax.jit(with_gradients(f))(*operands))


def test_gradients_inside_shard_map(mesh):
    """What is differentiated inside is local to the device: the image's gradient is a part."""
    image, grid, cotangent = arrays(1, 2, (16, 16))

    def part(image, grid, cotangent):
        image = jax.lax.pcast(image, "devices", to="varying")
        value, pull_back = jax.vjp(sampler("bilinear"), image, grid)
        to_image, to_grid = pull_back(cotangent)
        return value, jax.lax.psum(to_image, "devices"), to_grid

    rows = P(None, "devices"), P(None, None, "devices")
    in_specs, out_specs = (P(), *rows), (rows[1], P(), rows[0])
    spread = jax.shard_map(part, mesh=mesh, in_specs=in_specs, out_specs=out_specs)
    expected = jax.jit(with_gradients(sampler("bilinear")))(image, grid, cotangent)
    assert_same(jax.jit(spread)(image, grid, cotangent), expected)


def test_forward_mode_and_second_order_inside_shard_map(mesh):
    image, grid, _ = arrays(4, 2, (16, 16))

    def energy(image, grid):
        return jnp.sum(sampler("bicubic")(image, grid) ** 2, axis=(1, 2, 3))

    def curvature(image, grid):
        def gradient(grid):
            return jax.grad(lambda g: jnp.sum(energy(image, g)))(grid)

        return jax.jvp(gradient, (grid,), (jnp.ones_like(grid),))

    spread = jax.shard_map(curvature, mesh=mesh, in_specs=P("devices"), out_specs=P("devices"))
    assert_same(jax.jit(spread)(image, grid), jax.jit(curvature)(image, grid))


def test_splat_and_shared_parameters(mesh):
    """A matrix that all devices share, warping a sharded batch, and its gradient."""
    image, grid, _ = arrays(4, 2, (16, 16))
    theta = jnp.asarray([[[0.9, 0.1, 0.1], [-0.1, 0.8, 0.0]]], jnp.float32)

    def loss(theta, image, grid):
        moved = grid + jaxwarp.affine_grid(jnp.tile(theta, (image.shape[0], 1, 1)), image.shape)
        spread = jaxwarp.splat(jaxwarp.grid_sample(image, moved), moved, image.shape[2:])
        return jnp.sum(spread**2)

    def total(theta, image, grid):
        return jax.lax.psum(loss(theta, image, grid), "devices")

    in_specs = P(), P("devices"), P("devices")
    spread = jax.shard_map(total, mesh=mesh, in_specs=in_specs, out_specs=P())
    ours, theirs = (jax.jit(jax.value_and_grad(f))(theta, image, grid) for f in (spread, loss))
    assert_same(ours, theirs)


# Explicit axes: what `jax.make_mesh` makes -------------------------------------


@pytest.fixture(scope="module")
def explicit():
    """A mesh whose shardings are part of the arrays' types."""
    axis_types = (jax.sharding.AxisType.Explicit,)
    return jax.make_mesh((4,), ("devices",), axis_types, devices=jax.devices()[:4])


# Where the image and the grid lie, and where the samples then lie.
PLACES = {
    "batch": (P("devices"), P("devices"), P("devices")),
    "images": (P("devices"), P(), P("devices")),
    "grids": (P(), P("devices"), P("devices")),
    "output rows": (P(), P(None, "devices"), P(None, None, "devices")),
    "channels": (P(None, "devices"), P(), P(None, "devices")),
}


@pytest.mark.parametrize("place", PLACES)
def test_explicit_axes(explicit, place):
    image, grid, _ = arrays(4, 4, (24, 20))
    placed = [
        jax.device_put(x, NamedSharding(explicit, spec))
        for x, spec in zip((image, grid), PLACES[place], strict=False)
    ]

    def loss(image, grid):
        value = sampler("bilinear")(image, grid)
        # In two steps: jaxlib 0.10.1 adds up one number after the other, four devices do not.
        rows = jax.lax.optimization_barrier(jnp.sum(value**2, (1, 3)))
        return jnp.sum(rows), value

    both = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
    (total, value), gradients = both(*placed)
    assert_same(((total, value), gradients), both(image, grid))
    for x, spec in zip((value, *gradients), (PLACES[place][2], *PLACES[place]), strict=False):
        assert x.sharding.is_equivalent_to(NamedSharding(explicit, spec), x.ndim)


def test_explicit_axes_need_no_communication_for_a_batch(explicit):
    operands = arrays(8, 3, (96, 96))
    placed = jax.device_put(operands, NamedSharding(explicit, P("devices")))
    compiled = jax.jit(with_gradients(sampler("bilinear"))).lower(*placed).compile()
    assert collectives(compiled) == []
    splatted = jax.jit(lambda v, g: jaxwarp.splat(v, g, (96, 96)))
    assert collectives(splatted.lower(placed[2], placed[1]).compile()) == []


# Flows ------------------------------------------------------------------------

FLOWS = {
    "compose_flow": jaxwarp.compose_flow,
    "invert_flow": lambda flow, _: jaxwarp.invert_flow(flow, steps=4),
    "integrate_velocity": lambda flow, _: jaxwarp.integrate_velocity(flow, steps=4),
    "flow_jacobian_determinant": lambda flow, _: jaxwarp.flow_jacobian_determinant(flow),
}


def flow_gradients(name):
    def both(flow, other):
        def loss(flow, other):
            value = FLOWS[name](flow, other)
            return jnp.sum(value**2, axis=tuple(range(1, value.ndim))), value

        value, pull_back, out = jax.vjp(loss, flow, other, has_aux=True)
        return out, *pull_back(jnp.ones_like(value))

    return both


def flows():
    random = np.random.default_rng(0)
    return [jnp.asarray(random.uniform(-3, 3, (8, 20, 24, 2)), jnp.float32) for _ in range(2)]


@pytest.mark.parametrize("name", FLOWS)
def test_flows_of_a_sharded_batch_need_no_communication(mesh, explicit, name):
    """By the compiler's own choice, in `shard_map`, and on explicit axes."""
    both, operands = flow_gradients(name), flows()
    expected = jax.jit(both)(*operands)
    mapped = jax.shard_map(both, mesh=mesh, in_specs=P("devices"), out_specs=P("devices"))
    over_batch = NamedSharding(mesh, P("devices"))
    programs = {
        "compiler": (jax.jit(both, out_shardings=over_batch), mesh),
        "shard_map": (jax.jit(mapped), mesh),
        "explicit": (jax.jit(flow_gradients(name)), explicit),
    }
    for program, where in programs.values():
        placed = jax.device_put(operands, NamedSharding(where, P("devices")))
        compiled = program.lower(*placed).compile()
        assert collectives(compiled) == []
        assert_same(compiled(*placed), expected)
