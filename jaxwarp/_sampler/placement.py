"""Placement: on several devices, each computes its own part in its own form.

Where the compiler spreads a program over devices, it would not know how to cut a call of a
native kernel, and would cut loops over neighbours worse than need be. So it is told: which axes
of the operands and of the result are the same (a sharding rule), which of them may not be cut
(pixels: a point may lie anywhere), and what one device computes. Images, points and channels may
be cut; where points are, the image that they are added to is summed over the devices, once.

This is settled while the primitive is lowered, after differentiation and batching, so that those
need no rules for it.
"""

from collections.abc import Callable, Mapping, Sequence

import jax
from jax import lax
from jax.core import ShapedArray
from jax.experimental.custom_partitioning import custom_partitioning
from jax.extend.core import Primitive
from jax.interpreters import mlir
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxwarp._sampler.spec import SampleSpec

_Compute = Callable[..., jax.Array]


def wants_devices(primitive: Primitive) -> None:
    """Let JAX say, when a primitive is lowered, which devices the program is for.

    JAX has no public way to ask for that (0.10.2); without it programs for several devices are
    computed as before, by the portable backend.
    """
    try:
        from jax._src import dispatch

        dispatch.prim_requires_devices_during_lowering.add(primitive)
    except (ImportError, AttributeError):
        return


def can_be_cut(ctx: mlir.LoweringRuleContext, platform: str | None) -> bool:
    """Tell whether the compiler can be told how to spread what is lowered over devices.

    That for TPUs cannot: it does not know what `custom_partitioning` leaves in the program, and
    fails (github.com/jax-ml/jax/issues/38196, jax 0.10.2). For several TPUs the form itself is
    written so that the compiler can cut it (`tpu.spread`).
    """
    if platform == "tpu":
        return False
    context = ctx.module_context.axis_context
    mesh = getattr(context, "abstract_mesh", None)
    named = mesh is not None and not mesh.empty and bool(getattr(context, "device_assignment", ()))
    return named and bool(getattr(jax.config, "jax_use_shardy_partitioner", False))


def cut(
    compute: _Compute, op: str, avals: Mapping[str, ShapedArray], spec: SampleSpec
) -> Callable[..., jax.Array]:
    """Return ``compute``, told how it may be cut; it takes the operands in order of ``avals``."""
    factors = {name: _factors(name, aval.shape, avals, spec) for name, aval in avals.items()}
    factors["result"] = _result_factors(op, factors, spec)
    fixed = {f for each in factors.values() for f in each if not _may_be_cut(op, f)}

    def partition(
        mesh: Mesh, args: Sequence[jax.ShapeDtypeStruct], result: jax.ShapeDtypeStruct
    ) -> tuple[Mesh, _Compute, NamedSharding, tuple[NamedSharding, ...]]:
        del result
        axes = _axes_of_factors(
            {name: x.sharding.spec for name, x in zip(avals, args, strict=True)}, factors, fixed
        )

        def sharding(name: str) -> NamedSharding:
            return NamedSharding(mesh, PartitionSpec(*(axes.get(f) for f in factors[name])))

        summed = [axes[f] for f in factors["grid"][1:-1] if op == "splat" and axes.get(f)]
        names = [n for each in summed for n in (each if isinstance(each, tuple) else (each,))]

        def part(*args: jax.Array) -> jax.Array:
            out = compute(*args)
            return lax.psum(out, tuple(names)) if names else out

        return mesh, part, sharding("result"), tuple(sharding(name) for name in avals)

    whole = custom_partitioning(compute)
    order = list(dict.fromkeys(f for each in factors.values() for f in each))
    whole.def_partition(
        partition=partition,
        sharding_rule=_rule([factors[name] for name in avals], factors["result"]),
        need_replication_factors=tuple(f for f in order if f in fixed),
    )
    return whole


# Factors ----------------------------------------------------------------------

# Axes of one name are the same axis: n images, c channels, o0, o1, ... output axes, s0, ...
# spatial axes, m terms, d coordinates; what begins with w belongs to the window alone.


def _factors(
    name: str, shape: Sequence[int], avals: Mapping[str, ShapedArray], spec: SampleSpec
) -> tuple[str, ...]:
    out = tuple(f"o{i}" for i in range(len(avals["grid"].shape) - 2))
    if name == "image":
        return spec.layout.arrange("n", "c", _spatial_factors(spec))
    if name == "values":
        return spec.layout.arrange("n", "c", out)
    if name == "window":
        sizes = zip(out, shape[1:-2], avals["grid"].shape[1:-1], strict=True)
        shared = tuple(f if size == whole else f"w{f}" for f, size, whole in sizes)
        return ("n", *shared, "wd", "we")
    return ("n", *out, "m" if name == "scale" else "d")


def _spatial_factors(spec: SampleSpec) -> tuple[str, ...]:
    return tuple(f"s{i}" for i in range(len(spec.spatial)))


def _result_factors(
    op: str, factors: Mapping[str, tuple[str, ...]], spec: SampleSpec
) -> tuple[str, ...]:
    out = factors["grid"][1:-1]
    if op == "correlate":
        return ("n", *out, "m")
    return spec.layout.arrange("n", "c", out if op == "sample" else _spatial_factors(spec))


def _may_be_cut(op: str, factor: str) -> bool:
    return factor == "n" or factor[0] == "o" or (factor == "c" and op != "correlate")


def _axes_of_factors(
    specs: Mapping[str, PartitionSpec],
    factors: Mapping[str, tuple[str, ...]],
    fixed: set[str],
) -> dict[str, str | tuple[str, ...]]:
    """Say by which mesh axes each factor is cut, as the first operand that is cut says."""
    axes: dict[str, str | tuple[str, ...]] = {}
    used: set[str] = set()
    for name, spec in specs.items():
        for factor, cut_by in zip(factors[name], spec, strict=False):
            names = cut_by if isinstance(cut_by, tuple) else (cut_by,) if cut_by else ()
            if not names or factor in fixed or factor in axes or used & set(names):
                continue
            axes[factor] = cut_by
            used |= set(names)
    return axes


def _rule(operands: Sequence[Sequence[str]], result: Sequence[str]) -> str:
    return f"{', '.join(' '.join(x) for x in operands)} -> {' '.join(result)}"
