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

All three are one JAX primitive, `sample_p`, that differs in ``op``. Here stands what JAX must
know about them whatever computes them; `backends` does, and lowers the primitive.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching

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


def _place_and_bind(op: str, spec: SampleSpec, operands: dict[str, jax.Array | None]) -> jax.Array:
    return let_compiler_place(
        lambda **operands: _bind(op, spec, operands),
        {name: x for name, x in operands.items() if x is not None},
        partial(spec.result_spec, op),
    )


# The primitive ----------------------------------------------------------------

_OPERANDS = ("image", "values", "scale", "grid", "window")
_LINEAR = ("image", "values", "scale")

sample_p = Primitive("jaxwarp_sample")


def _bind(op: str, spec: SampleSpec, operands: Mapping[str, jax.Array]) -> jax.Array:
    names = tuple(name for name in _OPERANDS if name in operands)
    args = vary_alike([operands[name] for name in names])
    return sample_p.bind(*args, op=op, spec=spec, names=names)


@sample_p.def_abstract_eval
def _abstract(
    *avals: ShapedArray, op: str, spec: SampleSpec, names: tuple[str, ...]
) -> ShapedArray:
    """Describe the result by tracing a stand-in that depends on every operand.

    That way JAX itself says over which mesh axes the result varies.
    """
    operands = dict(zip(names, avals, strict=True))
    shape, dtype = spec.result(op, operands)

    def stand_in(*args: jax.Array) -> jax.Array:
        total = sum(jnp.sum(x).astype(dtype) for x in args)
        return jnp.broadcast_to(total, shape)

    (out,) = jax.make_jaxpr(stand_in)(*avals).out_avals
    return out


_jitted = jax.jit(sample_p.bind, static_argnames=("op", "spec", "names"))


@sample_p.def_impl
def _run(*args: jax.Array, **params: Any) -> jax.Array:
    """Run outside of any program: as a program of its own, under `jax.disable_jit` too."""
    with jax.disable_jit(False):
        return _jitted(*args, **params)


# Derivatives ------------------------------------------------------------------

_Tangent = jax.Array | ad.Zero


def _jvp(
    primals: Sequence[jax.Array],
    tangents: Sequence[_Tangent],
    *,
    op: str,
    spec: SampleSpec,
    names: tuple[str, ...],
) -> tuple[jax.Array, _Tangent]:
    operands = dict(zip(names, primals, strict=True))
    out = sample_p.bind(*primals, op=op, spec=spec, names=names)
    terms = []
    for name, tangent in zip(names, tangents, strict=True):
        if isinstance(tangent, ad.Zero):
            continue
        if name in _LINEAR:
            terms.append(_bind(op, spec, operands | {name: tangent}))
        elif name == "grid":
            terms += _grid_tangent(op, spec, operands, tangent)
    if not terms:
        return out, ad.Zero(jax.typeof(out))
    return out, sum(terms[1:], terms[0])


def _grid_tangent(
    op: str, spec: SampleSpec, operands: dict[str, jax.Array], tangent: jax.Array
) -> list[jax.Array]:
    """Differentiate in the grid: raise the orders, and scale by the grid's tangent."""
    steps = spec.differentiate()
    if not steps:
        return []
    raised = spec._replace(orders=tuple(step.order for step in steps))
    moves = _pick(tangent, [step.coordinate for step in steps])
    if op == "correlate":
        slopes = _bind(op, raised, operands) * moves
        which = jnp.asarray([step.term for step in steps])
        zeros = jnp.zeros((*slopes.shape[:-1], len(spec.orders)), slopes.dtype)
        return [zeros.at[..., which].add(slopes)]
    if "scale" in operands:
        moves = moves * _pick(operands["scale"], [step.term for step in steps])
    return [_bind(op, raised, operands | {"scale": moves})]


def _pick(x: jax.Array, which: list[int]) -> jax.Array:
    """Take entries of the last axis; all of them in their order are the array itself."""
    if which == list(range(x.shape[-1])):
        return x
    return jnp.stack([x[..., i] for i in which], axis=-1)


# The transpose of (op) in (operand): the operation, and what the cotangent is to it.
_TRANSPOSES = {
    ("sample", "image"): ("splat", "values"),
    ("sample", "scale"): ("correlate", "values"),
    ("splat", "values"): ("sample", "image"),
    ("splat", "scale"): ("correlate", "image"),
    ("correlate", "image"): ("splat", "scale"),
    ("correlate", "values"): ("sample", "scale"),
}


def _transpose(
    ct: _Tangent,
    *args: jax.Array | ad.UndefinedPrimal,
    op: str,
    spec: SampleSpec,
    names: tuple[str, ...],
) -> list[_Tangent | None]:
    operands = dict(zip(names, args, strict=True))
    (linear,) = [name for name, x in operands.items() if isinstance(x, ad.UndefinedPrimal)]
    if isinstance(ct, ad.Zero):
        return [ad.Zero(x.aval) if name == linear else None for name, x in operands.items()]
    transposed, role = _TRANSPOSES[op, linear]
    others = {name: x for name, x in operands.items() if not isinstance(x, ad.UndefinedPrimal)}
    out = _bind(transposed, spec, others | {role: ct})
    return [out if name == linear else None for name in names]


ad.primitive_jvps[sample_p] = _jvp
ad.primitive_transposes[sample_p] = _transpose


# Batching ---------------------------------------------------------------------


def _batch(
    args: Sequence[jax.Array],
    dims: Sequence[int | None],
    *,
    op: str,
    spec: SampleSpec,
    names: tuple[str, ...],
) -> tuple[jax.Array, int]:
    """Fold the mapped axis into one that the operation has anyway, copying no image.

    Many images on one grid are more channels; many grids on one image are more
    output points; anything else is a larger batch.
    """
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


def _spread(
    front: dict[str, jax.Array], mapped: set[str], size: int, names: Sequence[str]
) -> dict[str, jax.Array]:
    """Give the operands ``names`` the mapped axis in front if they lack it."""
    return {
        name: jnp.broadcast_to(x, (size, *x.shape)) if name in names and name not in mapped else x
        for name, x in front.items()
    }


def _on_batch(
    op: str, spec: SampleSpec, front: dict[str, jax.Array], mapped: set[str], size: int
) -> tuple[jax.Array, int]:
    front = _spread(front, mapped, size, tuple(front))
    batch = front["grid"].shape[1]
    out = _bind(op, spec, {name: _merge(x, 0) for name, x in front.items()})
    return out.reshape(size, batch, *out.shape[1:]), 0


def _on_points(
    op: str, spec: SampleSpec, front: dict[str, jax.Array], mapped: set[str], size: int
) -> tuple[jax.Array, int]:
    points = spec.layout.first_between
    front = _spread(front, mapped, size, ("values", "scale", "grid"))
    if "window" in front and "window" not in mapped:
        front["window"] = front["window"][None]
    to = {"values": points, "scale": 1, "grid": 1, "window": 1}
    moved = {name: jnp.moveaxis(x, 0, to[name]) if name in to else x for name, x in front.items()}
    return _bind(op, spec, moved), 1 if op == "correlate" else points


def _on_channels(
    op: str, spec: SampleSpec, front: dict[str, jax.Array], mapped: set[str], size: int
) -> tuple[jax.Array, int]:
    (name,) = mapped
    axis = spec.layout.channel_axis % (front[name].ndim - 1)
    channels = front[name].shape[axis + 1]
    merged = _merge(jnp.moveaxis(front[name], 0, axis), axis)
    out = _bind(op, spec, front | {name: merged})
    axis = spec.layout.channel_axis % out.ndim
    return out.reshape(*out.shape[:axis], size, channels, *out.shape[axis + 1 :]), axis


def _merge(x: jax.Array, axis: int) -> jax.Array:
    """Merge an axis with the next one."""
    return x.reshape(*x.shape[:axis], x.shape[axis] * x.shape[axis + 1], *x.shape[axis + 2 :])


batching.primitive_batchers[sample_p] = _batch
