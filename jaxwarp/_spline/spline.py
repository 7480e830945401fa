"""What a fitted thin-plate spline consists of."""

from dataclasses import dataclass

import jax


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ThinPlateSpline:
    """A fitted thin-plate spline, made by `tps_fit`: a pytree of arrays.

    Every array has a leading batch axis, of one where it comes from a target that all
    sources share.

    Attributes:
        center: centre of the target points, (N or 1, n).
        scale: half-width of the target points, (N or 1,).
        knots: target points in that frame, (target - center) / scale, (N or 1, T, n).
        weights: how much each knot bends the map, (N, T, n).
        affine: affine part of the displacement, rows 1, x[, y[, z]], (N, n + 1, n).

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxwarp import tps_fit
        >>> spline = tps_fit(jnp.array([[[0.0], [2.0]]]), jnp.array([[[1.0], [3.0]]]))
        >>> spline.center, spline.scale
        (Array([[1.]], dtype=float32), Array([1.], dtype=float32))
    """

    center: jax.Array
    scale: jax.Array
    knots: jax.Array
    weights: jax.Array
    affine: jax.Array
