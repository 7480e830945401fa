"""Matrices of affine maps and homographies: made, converted, composed, inverted.

All act on normalised coordinates listed (x, y, z) and map the output to the input, as
`affine_grid` and `homography_grid` want them.
"""

from collections.abc import Sequence
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxwarp import _checks, _coords, _matrix_algebra
from jaxwarp._coords import Dim

# For all pictures or for each: a number, or a pair listed (x, y).
Numbers = Real[ArrayLike, ""] | Real[ArrayLike, " N"] | Sequence[float]
Pairs = (
    Real[ArrayLike, "2"] | Real[ArrayLike, "N 2"] | Sequence[ArrayLike] | Sequence[Sequence[float]]
)


def affine_matrix(
    size: Sequence[int],
    *,
    angle: Numbers = 0.0,
    scale: Numbers = 1.0,
    shear: Real[ArrayLike, ""] | Pairs = 0.0,
    translate: Real[ArrayLike, ""] | Pairs = 0.0,
    center: Pairs | None = None,
    align_corners: bool | None = False,
    channel_axis: int = 1,
) -> Float[Array, "N 2 3"]:
    """Make the theta of `affine_grid` from angles in degrees and lengths in pixels.

    The picture is sheared, scaled and turned about the center, then moved. Numbers and
    signs are torchvision's: what they do is said of the *picture*, on the screen, with y
    downwards. Theta is the inverse of that, from output to input, with the aspect ratio
    taken care of.

    Args:
        size: The pictures' size (N, C, H, W), or (N, H, W, C) with ``channel_axis=-1``.
        angle: Degrees, clockwise: () or (N,). A multiple of 90 is exact.
        scale: Factor, above 1 to enlarge: () or (N,).
        shear: Degrees along x and y, (2,) or (N, 2); a number is a shear along x. As in
            torchvision a positive one moves what is above the center to the right (x), and
            what is left of it down (y).
        translate: Pixels to the right and down, (2,) or (N, 2); 0 is nowhere.
        center: Pixels (x, y) from the picture's upper left *corner*, (2,) or (N, 2): the
            centre of pixel i is at i + 1/2. None is the picture's own, (W / 2, H / 2).
        align_corners: As in `affine_grid`; give that and the sampler the same.
        channel_axis: Where size has its channels: 1, the default of all functions, or -1,
            that of all modules.

    Returns:
        Matrices (N, 2, 3), in the widest floating-point dtype of the arrays given, but at
        least float32; of numbers alone, in JAX's default. In an array a scale of 0 gives
        entries that are not finite, in its own batch element only; a negative one mirrors at
        the center.

    Raises:
        TypeError: size is not a sequence of integers; align_corners is not a bool.
        ValueError: Shapes that do not fit; a scale that is a number and not positive.

    Equals ``torchvision.transforms.functional.affine`` with the same angle, translate,
    scale, shear and center.

    Example:
        >>> affine_matrix((1, 3, 20, 40), angle=90, translate=(10, 0))
        Array([[[-0. ,  0.5,  0. ],
                [-2. ,  0. ,  1. ]]], dtype=float32)
    """
    batch, spatial = _checks.image_size("size", size, channel_axis, (4,))
    align_corners = _checks.flag("align_corners", align_corners)
    if isinstance(scale, int | float) and not scale > 0:
        raise ValueError(f"scale must be positive, got {scale!r}")
    if isinstance(shear, int | float):
        shear = (shear, 0.0)
    if isinstance(translate, int | float) and translate == 0:
        translate = (0.0, 0.0)
    given = {"angle": angle, "scale": scale, "shear": shear, "translate": translate}
    given |= {} if center is None else {"center": center}
    arrays = [_numbers(name, x, batch) for name, x in given.items()]
    dtypes = [x.dtype for x in arrays if isinstance(x, jax.Array) and _is_floating(x)]
    dtype = _coords.coordinate_dtype(*(dtypes or [jnp.result_type(float)]))
    options = dict(zip(given, (jnp.asarray(x, dtype) for x in arrays), strict=True))
    return _matrix_algebra.affine_matrix(options, batch, spatial, align_corners)


def theta_from_pixels(
    matrix: Float[ArrayLike, "N rows m"],
    size: Sequence[int],
    out_size: Sequence[int] | None = None,
    align_corners: bool | None = False,
    *,
    channel_axis: int = 1,
) -> Float[Array, "N rows m"]:
    """Turn matrices that map input pixels to output pixels into theta.

    That is how OpenCV's ``warpAffine`` and ``warpPerspective`` and kornia's functions of the
    same names take them: the other way round than theta, and in pixels, whose centres are at
    whole numbers. Matrices that map output to input (``cv2.WARP_INVERSE_MAP``) are to be
    inverted first (``numpy.linalg.inv``).

    Args:
        matrix: Affine maps (N, n, n + 1), for `affine_grid`, or homographies
            (N, n + 1, n + 1), for `homography_grid`; they act on pixel positions (x, y, z, 1),
            for n = 1, 2 or 3.
        size: The input's size (N, C, *spatial), or (N, *spatial, C) with ``channel_axis=-1``.
        out_size: The output's, if it has another; the spatial sizes alone will do. Array
            order: OpenCV's ``dsize`` is (width, height), this is (H, W).
        align_corners: As in `affine_grid`; give that and the sampler the same.
        channel_axis: Where sizes have their channels: 1, the default of all functions, or
            -1, that of all modules.

    Returns:
        Theta, of the matrix's shape and dtype, but at least float32. A homography is scaled
        so that the centre of the input is on the visible side of the horizon: its overall
        factor does not matter. A singular matrix gives entries that are not finite, in its
        own batch element only.

    Raises:
        TypeError: matrix is not a floating-point array; a size is not a sequence of
            integers; align_corners is not a bool.
        ValueError: matrix does not fit size, or is not of its batch size.

    Equals what kornia computes inside ``warp_affine``.

    Example:
        >>> import jax.numpy as jnp
        >>> right_by_ten = jnp.array([[[1.0, 0.0, 10.0], [0.0, 1.0, 0.0]]])
        >>> theta_from_pixels(right_by_ten, (1, 3, 20, 40))
        Array([[[ 1. , -0. , -0.5],
                [-0. ,  1. ,  0. ]]], dtype=float32)
    """
    matrix = _checks.float_array("matrix", matrix)
    batch, spatial = _checks.image_size("size", size, channel_axis)
    n, out = len(spatial), spatial
    if out_size is not None:
        out = _checks.spatial_size("out_size", out_size, n, channel_axis)
    align_corners = _checks.flag("align_corners", align_corners)
    holds = matrix.ndim == 3 and matrix.shape[1:] in ((n, n + 1), (n + 1, n + 1))
    rule = f"(N, {n}, {n + 1}) or (N, {n + 1}, {n + 1}) for a size with {n} spatial axes"
    _checks.shape("matrix", matrix, rule, holds, _checks.no_batch("matrix", matrix, 3))
    rule = f"of batch size {batch}, as size says"
    _checks.shape("matrix", matrix, rule, matrix.shape[0] == batch)
    return _matrix_algebra.theta_from_pixels(matrix, spatial, out, align_corners)


def compose_affine(
    outer: Float[ArrayLike, "N n n+1"], inner: Float[ArrayLike, "N n n+1"]
) -> Float[Array, "N n n+1"]:
    """Compose two batches of affine maps: the result maps x to outer(inner(x)).

    As maps from output to input, warping with the result equals warping first by
    ``outer`` and then warping that picture by ``inner``.

    Args:
        outer: Matrices (N, n, n + 1).
        inner: Matrices (N, n, n + 1).

    Returns:
        Matrices (N, n, n + 1), in the operands' common dtype, but at least float32.

    Raises:
        TypeError: An operand is not a floating-point array.
        ValueError: The shapes differ or are not (N, n, n + 1).

    Example:
        >>> import jax.numpy as jnp
        >>> shift = jnp.array([[[1.0, 2.0]]])
        >>> double = jnp.array([[[2.0, 0.0]]])
        >>> compose_affine(double, shift)
        Array([[[2., 4.]]], dtype=float32)
    """
    outer, inner = _affine("outer", outer), _affine("inner", inner)
    _checks.shape("inner", inner, f"the shape of outer, {outer.shape}", inner.shape == outer.shape)
    return _matrix_algebra.compose_affine(outer, inner)


def invert_affine(theta: Float[ArrayLike, "N n n+1"]) -> Float[Array, "N n n+1"]:
    """Invert a batch of affine maps.

    Args:
        theta: Matrices (N, n, n + 1).

    Returns:
        Matrices (N, n, n + 1), in theta's dtype, but at least float32. A singular map
        gives NaN or infinite entries in its own batch element only.

    Raises:
        TypeError: theta is not a floating-point array.
        ValueError: theta is not (N, n, n + 1).

    Example:
        >>> import jax.numpy as jnp
        >>> invert_affine(jnp.array([[[2.0, 4.0]]]))
        Array([[[ 0.5, -2. ]]], dtype=float32)
    """
    return _matrix_algebra.invert_affine(_affine("theta", theta))


# Checks ----------------------------------------------------------------------


def _affine(name: str, theta: ArrayLike) -> jax.Array:
    theta = _checks.float_array(name, theta)
    holds = theta.ndim == 3 and theta.shape[2] == theta.shape[1] + 1
    _checks.shape(name, theta, "(N, n, n + 1)", holds, _checks.no_batch(name, theta, 3))
    return theta


# How many numbers each option of `affine_matrix` has for a picture.
_PAIRS = {"angle": False, "scale": False, "shear": True, "translate": True, "center": True}


def _numbers(name: str, value: Numbers | Pairs, batch: Dim) -> jax.Array | np.ndarray:
    """Check a number, or a pair of them, for every picture or for each."""
    # Numbers, or a pair of them; also pairs of traced ones, as in translate=(x, y).
    if isinstance(value, Sequence) and any(isinstance(x, jax.Array) for x in value):
        value = jnp.asarray(value)
    plain = isinstance(value, int | float | Sequence) and not isinstance(value, str)
    array = np.asarray(value, float) if plain else _checks.numeric_array(name, cast(Array, value))
    last = (2,) if _PAIRS[name] else ()
    holds = array.shape in (last, (batch, *last))
    rule = f"(2,) or ({batch}, 2), listed (x, y)" if last else f"a number or ({batch},)"
    _checks.shape(name, array, f"{rule} for {batch} pictures", holds)
    return array


def _is_floating(x: jax.Array) -> bool:
    return jnp.issubdtype(x.dtype, jnp.floating)
