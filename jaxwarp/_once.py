"""`sample` on one CPU: what its channels share is computed once, and kept in memory.

XLA fuses: it computes an array again wherever it is used, here for every channel. What a
branch returns it computes by itself. So each array to keep is made in a branch that is
always taken, which XLA does not conclude.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from jaxwarp._corners import Points, settle, unrolled_corners
from jaxwarp._form import Form, are_known
from jaxwarp._sharding import zeros

_T = TypeVar("_T")

# In bytes. From 32 MB on, glibc gives a program fresh pages at every call, which cost more
# than is saved; this leaves room for what else it needs.
_MOST = 2**24
# So few channels are computed next to each other, whatever the layout: one reading of what
# they share does for all. With one corner that is too little to pay for the copy.
_FEW = 8


def sample(
    locate: Callable[[], Points],
    gather: Callable[[Points], jax.Array],
    grid: jax.Array,
    result: jax.ShapeDtypeStruct,
    form: Form,
) -> jax.Array:
    """Return ``gather(locate())``, with the points settled and kept where that is faster."""
    points, channels = locate(), result.shape[form.channel_axis]
    if not are_known(*result.shape, *grid.shape) or channels == 1:
        return gather(points)
    bytes_kept = _bytes(jax.eval_shape(partial(settle, form=form), points).along)
    if bytes_kept > _MOST:
        return gather(points)
    points = points._replace(along=_keep(lambda: settle(locate(), form).along, grid))
    if form.channels_last or channels > _FEW or unrolled_corners(form) == 1:
        return gather(points)
    if bytes_kept + _bytes(result) > _MOST:
        return gather(points)
    return jnp.moveaxis(_keep(lambda: jnp.moveaxis(gather(points), 1, -1), grid), -1, 1)


def _bytes(arrays: Any) -> int:
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(arrays))


def _keep(make: Callable[[], _T], like: jax.Array) -> _T:
    """Return ``make()``, computed once; ``like`` says over which mesh axes it varies."""

    def never() -> Any:
        arrays, structure = jax.tree.flatten(jax.eval_shape(make))
        # Each filled with a number of its own: of equal ones XLA would make one, and copies.
        filled = [zeros(x.shape, like).astype(x.dtype) + k for k, x in enumerate(arrays)]
        return jax.tree.unflatten(structure, filled)

    above_all = like.reshape(-1)[0] > jnp.inf
    return lax.cond(above_all, never, make)
