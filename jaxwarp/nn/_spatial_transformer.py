"""Spatial transformer layers: a network decides how to warp its own input."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, lax
from jax.typing import ArrayLike
from jaxtyping import Float

from jaxwarp import _checks, _coords, _sampler
from jaxwarp._layout import layout_of
from jaxwarp._sampler import PaddingMode
from jaxwarp.nn._signature import show_constructor
from jaxwarp.nn._transforms import Transform, make_transform


class Warped(NamedTuple):
    """What a `SpatialTransformer` did to a batch.

    Attributes:
        image: The warped images, in the input's layout and dtype.
        grid: Where each output pixel was read, (N, *out, n), normalised (x, y, z).
        theta: The warp itself: matrices, or the spline's source points.
    """

    image: Float[Array, " N *axes"]
    grid: Float[Array, "N *out n"]
    theta: Float[Array, "N _ _"]


@show_constructor
class SpatialTransformer(nnx.Module):
    """Warp images as a network that looks at them says (Jaderberg et al. 2015).

    ``y = transformer(x)`` is the warped batch; ``transformer.warp(x)`` also returns the
    grid and theta, for penalties and pictures. The grid and the sampler share one
    ``align_corners``. A network that returns the family's identity gives back its input
    bit for bit (if the output has the input's size), which `identity_head` and
    `LocalizationNet` do before training. Train the network with a smaller learning rate
    than the rest, or penalise theta, if it flies off the image.

    Args:
        localization: Any callable, usually an ``nnx.Module``, from images (N, *spatial, C)
            to the family's K parameters, (N, K).
        transform: The family of warps: "affine", "attention", "similarity", "homography",
            "expm_affine", "tps", or a `Transform` such as ``TPSTransform((5, 5), bound=0.5)``.
        size: The output's size, or None for the input's: the spatial sizes alone, or a whole
            image's as channel_axis says. "tps" precomputes a matrix
            for it, kept as a `Buffer`; with None this matrix is made, and becomes a constant
            of the program, whenever a call is traced.
        mode: As in `jaxwarp.grid_sample`.
        padding_mode: As in `jaxwarp.grid_sample`.
        align_corners: As in `jaxwarp.grid_sample`.
        channel_axis: -1, the default of all modules, for Flax's layout (N, *spatial, C);
            1, that of all functions, for torch's (N, C, *spatial).

    Raises:
        TypeError: localization is not callable; an option has the wrong type.
        ValueError: An option has no such value, or size not the family's number of axes.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxwarp.nn import LocalizationNet
        >>> network = LocalizationNet((28, 28, 1), "affine", rngs=nnx.Rngs(0))
        >>> transformer = SpatialTransformer(network, "affine", size=(14, 14))
        >>> transformer(jnp.ones((2, 28, 28, 1))).shape
        (2, 14, 14, 1)
        >>> transformer.warp(jnp.ones((2, 28, 28, 1))).theta.shape
        (2, 2, 3)
    """

    def __init__(
        self,
        localization: Callable[[Float[Array, " N *axes"]], Float[Array, "N K"]],
        transform: str | Transform = "affine",
        *,
        size: Sequence[int] | None = None,
        mode: str = "bilinear",
        padding_mode: PaddingMode = "zeros",
        align_corners: bool | None = False,
        channel_axis: int = -1,
    ):
        if not callable(localization):
            kind = type(localization).__name__
            raise TypeError(f"localization must be callable on a batch of images, got {kind}")
        self.localization = localization
        self.transform = make_transform(transform)
        # Pixel positions instead of normalised coordinates: see `_positions`.
        self.rule = _sampler.checked_rule(mode, padding_mode, align_corners, normalized=False)
        self.layout = layout_of(channel_axis)
        self.fixed_grid = None if size is None else self._grid_maker(size)

    def __call__(self, x: Float[ArrayLike, " N *axes"]) -> Float[Array, " N *result_axes"]:
        """Return the warped batch; `warp` says what may be wrong."""
        return self.warp(x).image

    def warp(self, x: Float[ArrayLike, " N *axes"]) -> Warped:
        """Return the warped batch, the sampling grid and theta.

        Args:
            x: Images (N, *spatial, C), or (N, C, *spatial) with ``channel_axis=1``.

        Returns:
            The warped images in x's dtype; grid and theta are at least float32.

        Raises:
            TypeError: x, or what localization returns, is not a floating-point array.
            ValueError: x does not have the family's number of axes; localization does not
                return (N, K).
        """
        images = _checks.images("x", x, self.layout, self.transform.ndim)
        spatial = self.layout.spatial(images.shape)
        _checks.pixel_count("x", spatial)
        to_grid = self.fixed_grid or self._grid_maker(spatial)
        theta = self.transform.theta(self._params(images))
        grid = to_grid(theta)
        identity = jnp.asarray(self.transform.identity, theta.dtype)[None]
        home = to_grid(self.transform.theta(identity))
        positions = _positions(grid, home, spatial, self.rule.align_corners)
        spec = _sampler.SampleSpec.plain(self.rule, self.layout, spatial, images.dtype)
        dtype = _coords.coordinate_dtype(images.dtype, positions.dtype)
        image = _sampler.pull(images, positions.astype(dtype), spec)
        return Warped(image, grid, theta)

    def _params(self, x: Float[Array, " N *axes"]) -> Float[Array, "N K"]:
        params = _checks.float_array("localization(x)", self.localization(x))
        wanted = (x.shape[0], len(self.transform.identity))
        rule = f"(N, K) = {wanted} for {self.transform}"
        _checks.shape("localization(x)", params, rule, params.shape == wanted)
        return params.astype(_coords.coordinate_dtype(params.dtype))

    def _grid_maker(
        self, size: Sequence[int]
    ) -> Callable[[Float[Array, "N _ _"]], Float[Array, "N *out n"]]:
        axes = self.transform.ndim
        size = _checks.spatial_size("size", size, axes, self.layout.channel_axis)
        return self.transform.grid_maker(size, self.rule.align_corners)


# Outside of jit every operation would be compiled for itself.
@partial(jax.jit, static_argnums=(2, 3), inline=True)
def _positions(
    grid: Float[Array, "N *out n"],
    home: Float[Array, "1 *out n"],
    spatial: tuple[int, ...],
    align_corners: bool,
) -> Float[Array, "N *out n"]:
    """Turn a grid into pixel positions, by how far it is from the identity's grid ``home``.

    Going through normalised coordinates rounds: pixel 3 of 28 would be read at 3.0000002.
    A pixel that stays at home is read exactly.
    """
    positions, coordinates = [], _coords.xyz_order(range(len(spatial)))
    for axis, size in enumerate(spatial):
        i = coordinates[axis]
        if grid.shape[1 + axis] == size:
            start = lax.broadcasted_iota(home.dtype, home.shape[:-1], 1 + axis)
        else:
            start = _coords.to_pixels(home[..., i], size, align_corners)
        origin = _coords.to_pixels(jnp.zeros((), grid.dtype), size, align_corners)
        moved = _coords.to_pixels(grid[..., i] - home[..., i], size, align_corners) - origin
        positions.append(start + moved)
    return jnp.stack(_coords.xyz_order(positions), axis=-1)
