"""A window of an array and the rest of it, as a pair of linear operations.

``take`` splits an array into a window at a traced place and the rest; ``put`` joins
the two again. Each is the transpose of the other, so a loop that takes a window,
changes it and puts it back has a backward pass that does the same, in place. With
plain slices and updates every step of it would add an array of zeros, with one
window's gradient inside, to the gradient of the whole array.

What ``rest`` holds at the window's place has no meaning. It may only go to `put`.
"""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.layout import Layout, with_layout_constraint
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxwarp._coords import Dim
from jaxwarp._sharding import runs_by_itself, vary_alike
from jaxwarp._workarounds.fusion import in_a_branch


def take(array: jax.Array, start: jax.Array, shape: Sequence[Dim]) -> tuple[jax.Array, jax.Array]:
    """Split an array into the rest and the window of ``shape`` at ``start``, int32 (ndim,).

    The window must lie within the array.
    """
    rest, window = take_p.bind(*vary_alike([array, start]), shape=tuple(shape))
    return rest, window


def put(rest: jax.Array, window: jax.Array, start: jax.Array) -> jax.Array:
    """Join what `take` has split."""
    (array,) = put_p.bind(*vary_alike([rest, window, start]))
    return array


# The computation --------------------------------------------------------------

# Under `jax.vmap` places may differ: then ``start`` is (*batch, ndim), and so are the
# leading axes of the arrays (but not of ``shape``).


def _take(array: jax.Array, start: jax.Array, *, shape: tuple[Dim, ...]) -> list[jax.Array]:
    return [array, _slice(array, start, shape)]


def _take_on_cpu(array: jax.Array, start: jax.Array, *, shape: tuple[Dim, ...]) -> list[jax.Array]:
    return [array, in_a_branch(partial(_slice, array, start, shape), jnp.all(start >= 0))]


def _slice(array: jax.Array, start: jax.Array, shape: tuple[Dim, ...]) -> jax.Array:
    if start.ndim > 1:
        return jax.vmap(partial(_slice, shape=shape))(array, start)
    return lax.dynamic_slice(array, list(start), shape, allow_negative_indices=False)


def _put(rest: jax.Array, window: jax.Array, start: jax.Array) -> list[jax.Array]:
    if start.ndim > 1:
        return jax.vmap(_put)(rest, window, start)
    return [lax.dynamic_update_slice(rest, window, list(start), allow_negative_indices=False)]


# On a TPU an array's last axes in memory are filled up to 8 x 128. XLA lays a loop's carry out as
# its body would have it, with channels last, whichever axis they are: three of them make it, and
# what is kept of every turn for the backward pass, more than forty times as large.


def _take_on_tpu(array: jax.Array, start: jax.Array, *, shape: tuple[Dim, ...]) -> list[jax.Array]:
    return [_laid_out(x) for x in _take(_laid_out(array), start, shape=shape)]


def _put_on_tpu(rest: jax.Array, window: jax.Array, start: jax.Array) -> list[jax.Array]:
    return [_laid_out(x) for x in _put(_laid_out(rest), _laid_out(window), start)]


def _laid_out(x: jax.Array) -> jax.Array:
    """Return the same array, its two largest axes last in memory."""
    last = sorted(sorted(range(x.ndim), key=lambda axis: x.shape[axis])[-2:])
    ahead = [axis for axis in range(x.ndim) if axis not in last]
    return with_layout_constraint(x, Layout((*ahead, *last)))


def _primitive(name: str, compute: Callable[..., list[jax.Array]]) -> Primitive:
    primitive = Primitive(name)
    primitive.multiple_results = True
    jitted = jax.jit(primitive.bind, static_argnames="shape")

    def run(*args: jax.Array, **params: tuple[Dim, ...]) -> list[jax.Array]:
        with jax.disable_jit(False):  # otherwise this would call itself
            return jitted(*args, **params)

    primitive.def_impl(run)
    primitive.def_abstract_eval(
        lambda *avals, **params: jax.make_jaxpr(partial(compute, **params))(*avals).out_avals
    )
    mlir.register_lowering(primitive, mlir.lower_fun(compute, multiple_results=True))
    return primitive


def _lower_on_tpu(
    laid_out: Callable[..., list[jax.Array]],
    plain: Callable[..., list[jax.Array]],
    ctx: mlir.LoweringRuleContext,
    *args: mlir.Value,
    **params: tuple[Dim, ...],
) -> Sequence[mlir.Value]:
    """Lay out what is for one device; exported programs must not say how arrays are laid out."""
    exported = ctx.module_context.lowering_parameters.for_export
    own = runs_by_itself(ctx) and not exported
    return mlir.lower_fun(laid_out if own else plain, multiple_results=True)(ctx, *args, **params)


take_p = _primitive("jaxwarp_take", _take)
put_p = _primitive("jaxwarp_put", _put)

mlir.register_lowering(take_p, mlir.lower_fun(_take_on_cpu, multiple_results=True), platform="cpu")
mlir.register_lowering(take_p, partial(_lower_on_tpu, _take_on_tpu, _take), platform="tpu")
mlir.register_lowering(put_p, partial(_lower_on_tpu, _put_on_tpu, _put), platform="tpu")


# Derivatives ------------------------------------------------------------------

_Tangent = jax.Array | ad.Zero
_Linear = jax.Array | ad.UndefinedPrimal


def _take_jvp(
    primals: Sequence[jax.Array], tangents: Sequence[_Tangent], *, shape: tuple[Dim, ...]
) -> tuple[Sequence[jax.Array], Sequence[_Tangent]]:
    array, start = primals
    out = take_p.bind(array, start, shape=shape)
    tangent = tangents[0]
    if isinstance(tangent, ad.Zero):
        return out, [ad.Zero(jax.typeof(x)) for x in out]
    return out, take(tangent, start, shape)


def _put_jvp(
    primals: Sequence[jax.Array], tangents: Sequence[_Tangent]
) -> tuple[Sequence[jax.Array], Sequence[_Tangent]]:
    out = put_p.bind(*primals)
    if all(type(t) is ad.Zero for t in tangents):
        return out, [ad.Zero(jax.typeof(x)) for x in out]
    rest, window = map(ad.instantiate_zeros, tangents[:2])
    return out, [put(rest, window, primals[2])]


def _take_transpose(
    cts: Sequence[_Tangent], array: ad.UndefinedPrimal, start: jax.Array, *, shape: tuple[Dim, ...]
) -> list[_Tangent | None]:
    del shape
    if all(type(ct) is ad.Zero for ct in cts):
        return [ad.Zero(array.aval), None]
    rest, window = map(ad.instantiate_zeros, cts)
    return [put(rest, window, start), None]


def _put_transpose(
    cts: Sequence[_Tangent], rest: _Linear, window: _Linear, start: jax.Array
) -> list[_Tangent | None]:
    (ct,) = cts
    linear = [isinstance(x, ad.UndefinedPrimal) for x in (rest, window)]
    if isinstance(ct, ad.Zero):
        out = [ad.Zero(x.aval) for x in (rest, window)]
    else:
        out = take(ct, start, window.aval.shape[start.ndim - 1 :])
    return [*(x if is_linear else None for x, is_linear in zip(out, linear, strict=True)), None]


ad.primitive_jvps[take_p] = _take_jvp
ad.primitive_jvps[put_p] = _put_jvp
ad.primitive_transposes[take_p] = _take_transpose
ad.primitive_transposes[put_p] = _put_transpose


# Batching ---------------------------------------------------------------------


def _batch(
    primitive: Primitive,
    args: Sequence[jax.Array],
    dims: Sequence[int | None],
    **params: tuple[Dim, ...],
) -> tuple[Sequence[jax.Array], list[int]]:
    """Make the mapped axis one more axis of the window or, where places differ, of the batch."""
    size = next(x.shape[d] for x, d in zip(args, dims, strict=True) if d is not None)
    *arrays, start = args
    *mapped, places_differ_along = dims
    to = start.ndim - 1 if places_differ_along is None else 0
    arrays = [_with_axis(x, d, size, to) for x, d in zip(arrays, mapped, strict=True)]
    if places_differ_along is not None:
        start = jnp.moveaxis(start, places_differ_along, 0)
    else:
        start = jnp.concatenate([jnp.zeros_like(start[..., :1]), start], axis=-1)
        params = {name: (size, *shape) for name, shape in params.items()}
    out = primitive.bind(*arrays, start, **params)
    return out, [to] * len(out)


def _with_axis(x: jax.Array, mapped: int | None, size: Dim, to: int) -> jax.Array:
    """Move the mapped axis to ``to``, or make one there."""
    if mapped is not None:
        return jnp.moveaxis(x, mapped, to)
    return jnp.broadcast_to(jnp.expand_dims(x, to), (*x.shape[:to], size, *x.shape[to:]))


for _p in (take_p, put_p):
    batching.primitive_batchers[_p] = partial(_batch, _p)
