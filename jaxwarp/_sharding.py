"""What a primitive of ours must tell JAX about meshes; JAX's own operations see to it themselves.

Inside `jax.shard_map` a value varies over some mesh axes, and operands must agree.
Under a mesh with explicit axes an array's type says how it is sharded. Where there is
no mesh nothing here does anything.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.interpreters import mlir
from jax.sharding import NamedSharding, PartitionSpec

from jaxwarp._workarounds.varying_axes import varying_axes


def let_compiler_place(
    f: Callable[..., jax.Array],
    operands: Mapping[str, jax.Array],
    result_spec: Callable[[dict[str, PartitionSpec]], PartitionSpec],
) -> jax.Array:
    """Call ``f(**operands)``; where mesh axes are explicit, only the result's sharding is."""
    shardings = {name: jax.typeof(x).sharding for name, x in operands.items()}
    explicit = [s.mesh for s in shardings.values() if s.mesh.explicit_axes]
    if not explicit:
        return f(**operands)
    mesh = explicit[0]
    spec = result_spec({name: sharding.spec for name, sharding in shardings.items()})
    automatic: Any = jax.sharding.auto_axes(
        lambda *args: f(**dict(zip(operands, args, strict=True))),
        axes=mesh.explicit_axes,
        out_sharding=NamedSharding(mesh, spec),
    )
    return automatic(*operands.values())


def vary_alike(args: Sequence[jax.Array]) -> list[jax.Array]:
    """Mark all operands as varying over the same mesh axes.

    Only then does a transpose sum the cotangent of an operand that all devices share.
    """
    varying = [varying_axes(x) for x in args]
    union = frozenset().union(*varying)
    return [
        jax.lax.pcast(x, tuple(sorted(union - axes)), to="varying") if union - axes else x
        for x, axes in zip(args, varying, strict=True)
    ]


def zeros(shape: Sequence[int], like: jax.Array) -> jax.Array:
    """Make zeros of the dtype of ``like`` that vary over the mesh axes it varies over."""
    return vary_alike([jnp.zeros(shape, like.dtype), like])[0]


def devices_sharing(ctx: mlir.LoweringRuleContext) -> int | None:
    """Count the devices over which the compiler may spread what is lowered; None if not known."""
    context = ctx.module_context.axis_context
    devices = getattr(context, "num_devices", None)
    if devices is not None:
        return devices
    mesh, manual = getattr(context, "mesh", None), getattr(context, "manual_axes", None)
    if mesh is None or manual is None:
        return None
    return math.prod(size for name, size in mesh.shape.items() if name not in manual)


def runs_by_itself(ctx: mlir.LoweringRuleContext) -> bool:
    """Tell whether what is lowered runs on one device, or is one device's part already."""
    return devices_sharing(ctx) == 1
