"""Control points that determine no spline, because its linear system is singular."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from jaxwarp._spline.kernel import frame, squared_distance

_FAULTS = {
    1: "it holds a NaN or an infinity",
    2: "it holds the same point twice (smoothing > 0 would allow that)",
    3: "its points all lie on one point, line or plane, which determines no spline",
}


def refuse_degenerate(target: jax.Array, smoothing: jax.Array) -> jax.Array:
    """Return the `faults` of control points; raise a ValueError if known points have one."""
    found = faults(target, smoothing)
    if isinstance(found, Tracer) or not found.is_fully_addressable:
        return found
    for element, fault in enumerate(np.asarray(found)):
        if fault:
            raise ValueError(f"target has no spline in batch element {element}: {_FAULTS[fault]}")
    return found


@jax.jit
def faults(target: jax.Array, smoothing: jax.Array) -> jax.Array:
    """Return what is wrong with each batch element of control points, (N,); 0 is nothing."""
    return jax.vmap(_fault, in_axes=(0, None))(target, smoothing)


def _fault(target: jax.Array, smoothing: jax.Array) -> jax.Array:
    center, scale = frame(target)
    knots = (target - center[None]) / scale
    # Points on a line are only as straight as their coordinates are exact.
    exactness = jnp.finfo(target.dtype).eps * jnp.max(jnp.abs(target)) / scale
    flat = _thickness(knots) <= 16 * exactness
    # Each point coincides with itself; none may with another.
    coincide = jnp.sum(squared_distance(knots[:, None], knots[None]) == 0) > knots.shape[0]
    found = jnp.where(coincide & (smoothing == 0), 2, 0)
    found = jnp.where(flat, 3, found)
    return jnp.where(jnp.all(jnp.isfinite(target)), found, 1)


def _thickness(points: jax.Array) -> jax.Array:
    """Return how far points (T, n) are from lying on a point, line or plane."""
    rest = points - points[:1]
    most = jnp.zeros((), points.dtype)
    for _ in range(points.shape[1]):
        # Take out the direction of the point that sticks out most (pivoted Gram-Schmidt).
        lengths = jnp.sqrt(jnp.sum(rest**2, axis=1))
        most = jnp.max(lengths)
        axis = rest[jnp.argmax(lengths)] / jnp.where(most > 0, most, 1)
        along = jnp.matmul(rest, axis, precision=lax.Precision.HIGHEST)
        rest = rest - along[:, None] * axis[None]
    return most
