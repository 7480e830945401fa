"""Sampling as a trilinear spec, and its three partial derivatives as operations.

With an image I, a scale s per point, a cotangent c per sample, and per-axis tap
weights w and indices k that depend on the grid g, let::

    T(I, s, c; g) = sum over n, p, m, ch, t of
        c[n, p, ch] * s[n, p, m] * (d^o_m W)[n, p, t] * I[n, k[n, p, t], ch]

where W is the product of the axes' weights and ``d^o_m`` its m-th partial
derivative with respect to g, of order ``o_m`` (one number per axis). For plain
sampling there is one term, of order zero. T is linear in I, s and c, and leaving
one of them out gives the three operations of this module::

    sample    = dT/dc    gather and weigh                 (I, s) -> (N, C, *out)
    splat     = dT/dI    its adjoint: weigh and add       (c, s) -> (N, C, *spatial)
    correlate = dT/ds    gather and dot over channels     (I, c) -> (N, *out, M)

The transpose of any of them in one of its arguments is another of the three, and
the derivative in g is the same operation with higher orders and the tangent of g
as scale. So the set is closed under differentiation: forward, reverse and any
mixture follow, and what lies between a forward and a backward pass is only the
operands themselves (the image and the grid), never gathered pixels.

All three are one JAX primitive that differs in ``missing``. What they compute is
in `backends`; here stands only what JAX needs to know about them.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxwarp._sampler import placement
from jaxwarp._sampler.backends import choose, portable
from jaxwarp._sampler.spec import SampleSpec
from jaxwarp._sharding import let_compiler_place, vary_alike


def pull(
    image: jax.Array, grid: jax.Array, spec: SampleSpec, window: jax.Array | None = None
) -> jax.Array:
    """Read an image at the points of a grid (see `spec` for the layouts)."""
    return _place_and_bind("sample", spec, {"image": image, "grid": grid, "window": window})


def push(
    values: jax.Array, grid: jax.Array, spec: SampleSpec, window: jax.Array | None = None
) -> jax.Array:
    """Add values to an image of zeros at the points of a grid; the adjoint of `pull`."""
    return _place_and_bind("splat", spec, {"values": values, "grid": grid, "window": window})


def _place_and_bind(op: str, spec: SampleSpec, operands: dict[str, Any]) -> jax.Array:
    return let_compiler_place(
        lambda **operands: _bind(op, spec, operands),
        {name: x for name, x in operands.items() if x is not None},
        partial(spec.result_spec, op),
    )


# The primitive ----------------------------------------------------------------

_OPERANDS = ("image", "values", "scale", "grid", "window")
_LINEAR = ("image", "values", "scale")

sample_p = Primitive("jaxwarp_sample")


def _bind(op: str, spec: SampleSpec, operands: dict[str, Any]) -> jax.Array:
    names = tuple(name for name in _OPERANDS if operands.get(name) is not None)
    args = vary_alike([operands[name] for name in names])
    return sample_p.bind(*args, op=op, spec=spec, names=names)


@sample_p.def_abstract_eval
def _abstract(*avals: Any, op: str, spec: SampleSpec, names: tuple[str, ...]) -> Any:
    """Describe the result by tracing a stand-in that depends on every operand.

    That way JAX itself says over which mesh axes the result varies.
    """
    operands = dict(zip(names, avals, strict=True))
    shape, dtype = spec.result(op, operands)

    def stand_in(*args: Any) -> Any:
        total = sum(jnp.sum(x).astype(dtype) for x in args)
        return jnp.broadcast_to(total, shape)

    (out,) = jax.make_jaxpr(stand_in)(*avals).out_avals
    return out


def _lower(
    ctx: mlir.LoweringRuleContext,
    *args: Any,
    platform: str | None = None,
    op: str,
    spec: SampleSpec,
    names: tuple[str, ...],
) -> Any:
    """Let a backend compute it: the platform's own, unless the program is for any platform."""
    avals: Any = dict(zip(names, ctx.avals_in, strict=True))
    alone = placement.runs_by_itself(ctx)
    exported = ctx.module_context.lowering_parameters.for_export
    own = not exported and (alone or placement.can_be_cut(ctx, platform))
    backend = choose(platform if own else None, op, avals, spec)

    def compute(*args: Any) -> jax.Array:
        return getattr(backend, op)(dict(zip(names, args, strict=True)), spec)

    if own and not alone and backend is not portable:
        compute = placement.cut(compute, op, avals, spec)
    return mlir.lower_fun(compute, multiple_results=False)(ctx, *args)


mlir.register_lowering(sample_p, _lower)
for _platform in ("cpu", "cuda", "rocm", "tpu"):
    mlir.register_lowering(sample_p, partial(_lower, platform=_platform), platform=_platform)
placement.wants_devices(sample_p)

_jitted = jax.jit(sample_p.bind, static_argnames=("op", "spec", "names"))


@sample_p.def_impl
def _run(*args: Any, **params: Any) -> jax.Array:
    """Run outside of any program: as a program of its own, under `jax.disable_jit` too."""
    with jax.disable_jit(False):
        return _jitted(*args, **params)


# Derivatives ------------------------------------------------------------------


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[Any, Any]:
    op, spec, names = params["op"], params["spec"], params["names"]
    operands = dict(zip(names, primals, strict=True))
    out = sample_p.bind(*primals, **params)
    terms = []
    for name, tangent in zip(names, tangents, strict=True):
        if type(tangent) is ad.Zero:
            continue
        if name in _LINEAR:
            terms.append(_bind(op, spec, operands | {name: tangent}))
        elif name == "grid":
            terms += _grid_tangent(op, spec, operands, tangent)
    if not terms:
        return out, ad.Zero(jax.typeof(out))
    return out, sum(terms[1:], terms[0])


def _grid_tangent(op: str, spec: SampleSpec, operands: dict[str, Any], tangent: Any) -> list[Any]:
    """Differentiate in the grid: raise the orders, and scale by the grid's tangent."""
    steps = spec.differentiate()
    if not steps:
        return []
    raised = spec._replace(orders=tuple(step.order for step in steps))
    moves = jnp.stack([tangent[..., step.coordinate] for step in steps], axis=-1)
    if op == "correlate":
        slopes = _bind(op, raised, operands) * moves
        which = jnp.asarray([step.term for step in steps])
        zeros = jnp.zeros((*slopes.shape[:-1], len(spec.orders)), slopes.dtype)
        return [zeros.at[..., which].add(slopes)]
    if "scale" in operands:
        moves = moves * jnp.stack([operands["scale"][..., s.term] for s in steps], axis=-1)
    return [_bind(op, raised, operands | {"scale": moves})]


# The transpose of (op) in (operand): the operation, and what the cotangent is to it.
_TRANSPOSES = {
    ("sample", "image"): ("splat", "values"),
    ("sample", "scale"): ("correlate", "values"),
    ("splat", "values"): ("sample", "image"),
    ("splat", "scale"): ("correlate", "image"),
    ("correlate", "image"): ("splat", "scale"),
    ("correlate", "values"): ("sample", "scale"),
}


def _transpose(ct: Any, *args: Any, op: str, spec: SampleSpec, names: tuple[str, ...]) -> list[Any]:
    operands = dict(zip(names, args, strict=True))
    (linear,) = [name for name, x in operands.items() if ad.is_undefined_primal(x)]
    if type(ct) is ad.Zero:
        return [ad.Zero(x.aval) if name == linear else None for name, x in operands.items()]
    operands.pop(linear)
    transposed, role = _TRANSPOSES[op, linear]
    out = _bind(transposed, spec, operands | {role: ct})
    return [out if name == linear else None for name in names]


ad.primitive_jvps[sample_p] = _jvp
ad.primitive_transposes[sample_p] = _transpose


# Batching ---------------------------------------------------------------------


def _batch(args: Sequence[Any], dims: Sequence[Any], **params: Any) -> tuple[Any, int]:
    """Fold the mapped axis into one that the operation has anyway, copying no image.

    Many images on one grid are more channels; many grids on one image are more
    output points; anything else is a larger batch.
    """
    op, spec, names = params["op"], params["spec"], params["names"]
    size = next(x.shape[d] for x, d in zip(args, dims, strict=True) if d is not None)
    mapped = {name for name, d in zip(names, dims, strict=True) if d is not None}
    front = {
        name: x if d is None else jnp.moveaxis(x, d, 0)
        for name, x, d in zip(names, args, dims, strict=True)
    }
    on_channels = mapped <= {"image", "values"} and op != "correlate"
    on_points = "image" not in mapped and op != "splat"
    fold = _on_channels if on_channels else _on_points if on_points else _on_batch
    return fold(op, spec, front, mapped, size)


def _spread(front: dict[str, Any], mapped: set[str], size: Any, names: Sequence[str]) -> dict:
    """Give the operands ``names`` the mapped axis in front if they lack it."""
    return {
        name: jnp.broadcast_to(x, (size, *x.shape)) if name in names and name not in mapped else x
        for name, x in front.items()
    }


def _on_batch(
    op: str, spec: SampleSpec, front: dict[str, Any], mapped: set[str], size: Any
) -> tuple[Any, int]:
    front = _spread(front, mapped, size, tuple(front))
    batch = front["grid"].shape[1]
    out = _bind(op, spec, {name: _merge(x, 0) for name, x in front.items()})
    return out.reshape(size, batch, *out.shape[1:]), 0


def _on_points(
    op: str, spec: SampleSpec, front: dict[str, Any], mapped: set[str], size: Any
) -> tuple[Any, int]:
    points = 1 if spec.layout.channels_last else 2
    front = _spread(front, mapped, size, ("values", "scale", "grid"))
    if "window" in front and "window" not in mapped:
        front["window"] = front["window"][None]
    to = {"values": points, "scale": 1, "grid": 1, "window": 1}
    moved = {name: jnp.moveaxis(x, 0, to[name]) if name in to else x for name, x in front.items()}
    return _bind(op, spec, moved), 1 if op == "correlate" else points


def _on_channels(
    op: str, spec: SampleSpec, front: dict[str, Any], mapped: set[str], size: Any
) -> tuple[Any, int]:
    (name,) = mapped
    axis = front[name].ndim - 2 if spec.layout.channels_last else 1
    channels = front[name].shape[axis + 1]
    merged = _merge(jnp.moveaxis(front[name], 0, axis), axis)
    out = _bind(op, spec, front | {name: merged})
    axis = out.ndim - 1 if spec.layout.channels_last else 1
    return out.reshape(*out.shape[:axis], size, channels, *out.shape[axis + 1 :]), axis


def _merge(x: jax.Array, axis: int) -> jax.Array:
    """Merge an axis with the next one."""
    return x.reshape(*x.shape[:axis], x.shape[axis] * x.shape[axis + 1], *x.shape[axis + 2 :])


batching.primitive_batchers[sample_p] = _batch
