"""A thin-plate spline as a function: where it maps points.

Everything about a spline is a function of *one* point, such as `move`; `everywhere` maps
it over points and batch without ever holding all kernel values.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.export import is_symbolic_dim

from jaxwarp._spline.kernel import affine_terms, kernel
from jaxwarp._spline.spline import ThinPlateSpline

# Kernel values held at once: enough to fill a GPU, few enough for a CPU's cache.
_VALUES_AT_ONCE = 2**20

# GPUs and TPUs otherwise round the operands of a matmul to 10 or 7 bits: pixels, not digits.
_HIGHEST = lax.Precision.HIGHEST


@jax.jit
def map_points(spline: ThinPlateSpline, points: jax.Array) -> jax.Array:
    """Map points (N, ..., n) through the spline."""
    return everywhere(move, spline, points)


def move(spline: ThinPlateSpline, point: jax.Array) -> jax.Array:
    """Map one point (n,) through one spline, without a batch axis: the formula itself."""
    u = (point - spline.center) / spline.scale
    bend = jnp.matmul(kernel(u, spline.knots), spline.weights, precision=_HIGHEST)
    return point + bend + jnp.matmul(affine_terms(u), spline.affine, precision=_HIGHEST)


def everywhere(
    f: Callable[..., jax.Array], spline: ThinPlateSpline, *points: jax.Array
) -> jax.Array:
    """Map ``f(spline, *point)`` over the batch and the points (N or 1, *out, n).

    What has a batch of one is shared by all, and so is the work. The points are taken some at
    a time, and the derivative computes their kernel values again rather than keep them.
    """
    *out, ndim = points[0].shape[1:]
    flat = [p.reshape(p.shape[0], math.prod(out), ndim) for p in points]
    splines = [x.shape[0] for x in (spline.knots, *flat) if not is_symbolic_dim(x.shape[0])]
    at_once = _VALUES_AT_ONCE // (spline.knots.shape[1] * max(1, *splines))

    def element(spline: ThinPlateSpline, *points: jax.Array) -> jax.Array:
        some = jax.vmap(lambda *point: f(spline, *point))
        return _in_chunks(jax.checkpoint(some), points, max(1, at_once))

    result = _over_batch(element, spline, *flat)
    return result.reshape(result.shape[0], *out, *result.shape[2:])


def _in_chunks(
    f: Callable[..., jax.Array], points: tuple[jax.Array, ...], at_once: int
) -> jax.Array:
    """Apply ``f`` to points (P, n), about ``at_once`` of them at a time."""
    total = points[0].shape[0]
    rows = at_once if is_symbolic_dim(total) else max(1, min(at_once, total))
    chunks = -(-total // rows)

    def split(points: jax.Array) -> jax.Array:
        # Filled up with the last point, where f is as well defined as on the others.
        fill = jnp.broadcast_to(points[-1:], (chunks * rows - total, points.shape[1]))
        return jnp.concatenate([points, fill]).reshape(chunks, rows, points.shape[1])

    result = lax.map(lambda chunk: f(*chunk), tuple(split(p) for p in points))
    return result.reshape(chunks * rows, *result.shape[2:])[:total]


def _over_batch(f: Callable[..., jax.Array], *operands: ThinPlateSpline | jax.Array) -> jax.Array:
    """Map ``f`` over the leading axis of every array; those with one element are shared."""
    leaves, tree = jax.tree.flatten(operands)
    axes = [None if x.shape[0] == 1 else 0 for x in leaves]
    leaves = [x[0] if axis is None else x for x, axis in zip(leaves, axes, strict=True)]

    def element(*leaves: jax.Array) -> jax.Array:
        return f(*jax.tree.unflatten(tree, leaves))

    if all(axis is None for axis in axes):
        return element(*leaves)[None]
    return jax.vmap(element, in_axes=axes)(*leaves)
