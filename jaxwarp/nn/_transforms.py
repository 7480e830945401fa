"""Families of warps: what the numbers of a localisation network mean.

A family turns the network's output, ``params`` (N, K), into ``theta`` (matrices, or the
spline's source points), and theta into a sampling grid. It also says which K numbers mean
"leave the image as it is"; a network that starts there starts as the identity.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.linalg import expm
from jax.typing import DTypeLike
from jaxtyping import Float

from jaxwarp import _checks, _coords
from jaxwarp._grids import affine_grid, homography_grid
from jaxwarp._spline import arguments
from jaxwarp.nn._tps import TPSGrid


@runtime_checkable
class Transform(Protocol):
    """A family of warps: what `SpatialTransformer` asks of one.

    Anything hashable with these members will do; `MatrixTransform` and `TPSTransform`
    are the ones that come along.
    """

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        ...

    @property
    def identity(self) -> tuple[float, ...]:
        """The K parameters of the identity."""
        ...

    def theta(self, params: Float[Array, "N K"]) -> Float[Array, "N _ _"]:
        """Turn parameters (N, K) into what describes the warp, (N, ...)."""
        ...

    def grid_maker(
        self, size: tuple[int, ...], align_corners: bool
    ) -> Callable[[Float[Array, "N _ _"]], Float[Array, "N *size n"]]:
        """Return the function from theta to a grid (N, *size, ndim)."""
        ...


def make_transform(transform: "str | Transform", ndim: int = 2) -> Transform:
    """Return a family of warps by name.

    Args:
        transform: "affine", "attention", "similarity", "homography", "expm_affine" (see
            `MatrixTransform`), "tps" (see `TPSTransform`), or a family, which is
            returned as it is.
        ndim: Number of spatial axes, for a name.

    Returns:
        The family.

    Raises:
        ValueError: There is no such family, or not for so many axes.
        TypeError: transform is neither a name nor a family.

    Example:
        >>> make_transform("attention").identity
        (1.0, 0.0, 0.0)
    """
    if not isinstance(transform, str):
        if not isinstance(transform, Transform):
            came = _checks.describe(transform)
            raise TypeError(f"transform must be a name or a Transform, got {came}")
        return transform
    _checks.choice("transform", transform, (*_MATRICES, "tps"))
    return TPSTransform((4,) * ndim) if transform == "tps" else MatrixTransform(transform, ndim)


# Matrices --------------------------------------------------------------------


@dataclass(frozen=True)
class MatrixTransform:
    """Warps given by a matrix that acts on normalised output coordinates (x, y, z, 1).

    The matrix maps output to input, for n = ``ndim`` spatial axes. The families, their
    parameters, and the matrix theta:

    - "affine": the n x (n + 1) entries, row by row. Theta is (N, n, n + 1).
    - "attention": scale s and shift t, (s, tx, ty): [s I | t].
    - "similarity" (n = 2): (a, b, tx, ty): [[a, -b, tx], [b, a, ty]], that is a rotation
      by atan2(b, a) and a scale of hypot(a, b).
    - "homography": all entries but the last, which is 1. Theta is (N, n + 1, n + 1).
    - "expm_affine": the n x (n + 1) entries of a matrix whose exponential is the affine
      map: always invertible, and the negated parameters give the inverse.

    Args:
        family: One of the names above.
        ndim: Number of spatial axes.

    Raises:
        ValueError: There is no such family, or not for so many axes.

    Example:
        >>> import jax.numpy as jnp
        >>> MatrixTransform("similarity").theta(jnp.array([[0.0, 2.0, 0.5, 0.0]]))
        Array([[[ 0. , -2. ,  0.5],
                [ 2. ,  0. ,  0. ]]], dtype=float32)
    """

    family: str
    ndim: int = 2

    def __post_init__(self):
        _checks.choice("family", self.family, _MATRICES)
        axes = _MATRICES[self.family].axes
        if self.ndim not in axes:
            raise ValueError(f"ndim must be in {axes} for {self.family!r}, got {self.ndim!r}")

    @property
    def identity(self) -> tuple[float, ...]:
        """The K parameters of the identity."""
        return tuple(float(p) for p in _MATRICES[self.family].identity(self.ndim))

    def theta(self, params: Float[Array, "N K"]) -> Float[Array, "N rows m"]:
        """Turn parameters (N, K) into matrices (N, n, n + 1) or (N, n + 1, n + 1)."""
        return _MATRICES[self.family].theta(params, self.ndim)

    def grid_maker(
        self, size: tuple[int, ...], align_corners: bool
    ) -> Callable[[Float[Array, "N rows m"]], Float[Array, "N *size n"]]:
        """Return the function from theta to a grid (N, *size, n)."""
        return _MatrixGrid(self.family, size, align_corners)


@dataclass(frozen=True)
class _MatrixGrid:
    family: str
    size: tuple[int, ...]
    align_corners: bool

    def __call__(self, theta: Float[Array, "N rows m"]) -> Float[Array, "N *size n"]:
        size = (theta.shape[0], 1, *self.size)
        return _MATRICES[self.family].grid(theta, size, self.align_corners)


class _Family(NamedTuple):
    """A row of the table: n -> identity, (params, n) -> theta, theta -> grid, allowed n."""

    identity: Callable[[int], Sequence[float]]
    theta: Callable[[jax.Array, int], jax.Array]
    grid: Callable[..., jax.Array] = affine_grid
    axes: tuple[int, ...] = (1, 2, 3)


def _affine_identity(n: int) -> Sequence[float]:
    return np.eye(n, n + 1).ravel().tolist()


def _attention_theta(params: jax.Array, n: int) -> jax.Array:
    scaled = params[:, :1, None] * jnp.eye(n, dtype=params.dtype)[None]
    return jnp.concatenate([scaled, params[:, 1:, None]], axis=-1)


def _similarity_theta(params: jax.Array, n: int) -> jax.Array:
    a, b, x, y = params.T
    return jnp.stack([a, -b, x, b, a, y], axis=-1).reshape(-1, 2, 3)


def _homography_theta(params: jax.Array, n: int) -> jax.Array:
    last = jnp.ones_like(params[:, :1])
    return jnp.concatenate([params, last], axis=-1).reshape(-1, n + 1, n + 1)


def _expm_theta(params: jax.Array, n: int) -> jax.Array:
    generator = params.reshape(-1, n, n + 1)
    square = jnp.concatenate([generator, jnp.zeros_like(generator[:, :1])], axis=1)
    return expm(square)[:, :-1]


_MATRICES = {
    "affine": _Family(_affine_identity, lambda params, n: params.reshape(-1, n, n + 1)),
    "attention": _Family(lambda n: [1.0] + [0.0] * n, _attention_theta),
    "similarity": _Family(lambda n: [1.0, 0.0, 0.0, 0.0], _similarity_theta, axes=(2,)),
    "homography": _Family(
        lambda n: np.eye(n + 1).ravel().tolist()[:-1], _homography_theta, homography_grid
    ),
    "expm_affine": _Family(lambda n: [0.0] * (n * (n + 1)), _expm_theta),
}


# Splines ---------------------------------------------------------------------


@dataclass(frozen=True)
class TPSTransform:
    """Thin-plate splines with target points on a lattice over [-1, 1].

    The parameters move the source points away from the lattice: theta is
    ``lattice + params``, or ``lattice + bound * tanh(params)``. A point's parameters
    stand together, (x, y, z); points are listed row by row.

    Args:
        lattice: Number of control points along each axis, in array order (rows, columns).
        bound: How far a source point may move along each axis, in normalised units (2 is
            the width of the image); None means anywhere.
        smoothing: As in `jaxwarp.tps_grid`.
        dtype: Of the control points and of the matrix made from them; float64 needs
            ``jax_enable_x64``.

    Raises:
        ValueError: An axis has fewer than two control points; bound is not positive.

    Example:
        >>> TPSTransform((2, 2)).points().tolist()
        [[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]]
    """

    lattice: tuple[int, ...] = (4, 4)
    bound: float | None = None
    smoothing: float = 0.0
    dtype: DTypeLike = jnp.float32

    def __post_init__(self):
        lattice = _checks.output_size("lattice", self.lattice, (1, 2, 3), "(*points per axis)")
        object.__setattr__(self, "lattice", lattice)
        if min(lattice) < 2:
            raise ValueError(f"lattice must have at least 2 points on each axis, got {lattice}")
        if self.bound is not None and not self.bound > 0:
            raise ValueError(f"bound must be positive or None, got {self.bound!r}")

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.lattice)

    @property
    def identity(self) -> tuple[float, ...]:
        """The K = T * n parameters of the identity, all of them 0."""
        return (0.0,) * int(np.prod(self.lattice) * self.ndim)

    def points(self) -> Float[Array, "T n"]:
        """Return the lattice: the target points (T, n), listed (x, y, z)."""
        # Rounded to float32, so that the points are the same in every dtype.
        grid = _coords.identity_grid(self.lattice, True, jnp.float32)
        return grid.reshape(-1, self.ndim).astype(self.dtype)

    def theta(self, params: Float[Array, "N K"]) -> Float[Array, "N T n"]:
        """Turn parameters (N, K) into source points (N, T, n)."""
        offset = params if self.bound is None else self.bound * jnp.tanh(params)
        points = self.points().astype(params.dtype)[None]
        return points + offset.reshape(-1, *points.shape[1:])

    def grid_maker(self, size: tuple[int, ...], align_corners: bool) -> TPSGrid:
        """Return the module from source points to a grid (N, *size, n)."""
        with arguments.concretely():
            points = self.points()
        return TPSGrid(points, size, align_corners, smoothing=self.smoothing)
