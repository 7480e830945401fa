"""Sample images at grids: argument checks around the sampler.

``grid_sample`` takes normalised coordinates, ``remap`` pixel positions, ``splat``
is their adjoint. What they compute is in `_sampler`.
"""

from collections.abc import Sequence
from functools import partial

import jax
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float

from jaxwarp import _checks, _coords, _sampler
from jaxwarp._coords import Dim
from jaxwarp._layout import Layout, layout_of
from jaxwarp._sampler import PaddingMode, Rule, SampleSpec, checked_rule


def grid_sample(
    input: Float[ArrayLike, " N *axes"],
    grid: Float[ArrayLike, "N *out n"],
    mode: str = "bilinear",
    padding_mode: PaddingMode = "zeros",
    align_corners: bool | None = False,
    *,
    channel_axis: int = 1,
) -> Float[Array, " N *result_axes"]:
    """Sample an image at normalised coordinates.

    Args:
        input: Images (N, C, *spatial), or (N, *spatial, C) with ``channel_axis=-1``,
            with 1, 2 or 3 spatial axes.
        grid: Normalised coordinates (N, *out, n), listed (x, y, z): for each output
            point, where to read the input. Any number of output axes.
        mode: "nearest" (ties go to the even pixel), "bilinear" (linear along every
            axis) or "bicubic" (Keys' cubic convolution, A = -0.75).
        padding_mode: What lies outside the image: "zeros", "border" (the edge pixel),
            "reflection" (about the outer pixels' centres with ``align_corners``, about
            their outer edges without) or "wrap" (the image again, which torch has not:
            SciPy's grid-wrap, with a period of as many pixels as the axis has). Or one
            of them for each spatial axis, as a tuple in array order: ("border", "wrap")
            for a map of the world.
        align_corners: Whether -1 and 1 are the outer pixels' centres (True) or their
            outer edges (False, also None). Give the grid's maker the same.
        channel_axis: 1 for torch's layout, the default of all functions; -1 for Flax's,
            that of all modules.

    Returns:
        The samples (N, C, *out), or (N, *out, C) with ``channel_axis=-1``, in the
        input's dtype, also where the grid's is another (torch raises there). Coordinates,
        weights and sums are in the wider dtype of both, at least float32. A NaN
        coordinate reads zero or, padded, pixel 0; an infinite one reads zero, the
        edge (border) or pixel 0 (reflection, wrap); neither has a gradient.

    Raises:
        TypeError: An operand is not a floating-point array; align_corners is not a
            bool; channel_axis is not an int.
        ValueError: Shapes that do not fit, an empty spatial axis, an image of 2**31
            pixels or more, an unknown mode or padding_mode, a channel_axis that is
            neither 1 nor -1.

    Equals ``torch.nn.functional.grid_sample`` in values and gradients, where that has the
    padding mode.

    Example:
        >>> import jax.numpy as jnp
        >>> image = jnp.arange(4.0).reshape(1, 1, 2, 2)
        >>> points = jnp.array([[[0.0, 0.0], [0.5, 0.5], [-1.0, 0.5]]])
        >>> grid_sample(image, points)
        Array([[[1.5, 3. , 1. ]]], dtype=float32)
    """
    rule = checked_rule(mode, padding_mode, align_corners, normalized=True)
    return _checked_sample(input, "grid", grid, rule, channel_axis)


def remap(
    input: Float[ArrayLike, " N *axes"],
    positions: Float[ArrayLike, "N *out n"],
    mode: str = "bilinear",
    padding_mode: PaddingMode = "zeros",
    *,
    channel_axis: int = 1,
) -> Float[Array, " N *result_axes"]:
    """Sample an image at pixel positions.

    Pixel (0, 0) has its centre at position (0, 0), as for OpenCV's ``remap``. There is
    no ``align_corners`` here: reflection is about the outer pixels' edges.

    Args:
        input: Images (N, C, *spatial), or (N, *spatial, C) with ``channel_axis=-1``.
        positions: Pixel positions (N, *out, n), listed (x, y, z): for each output
            point, where to read the input. Any number of output axes.
        mode: As in `grid_sample`.
        padding_mode: As in `grid_sample` without ``align_corners``; "wrap" and tuples, too.
        channel_axis: 1 for torch's layout, the default of all functions; -1 for Flax's,
            that of all modules.

    Returns:
        The samples (N, C, *out), or (N, *out, C) with ``channel_axis=-1``, in the
        input's dtype.

    Raises:
        TypeError: As `grid_sample`.
        ValueError: As `grid_sample`.

    Equals ``cv2.remap(image, x, y, INTER_LINEAR, BORDER_CONSTANT)`` for bilinear zeros.

    Example:
        >>> import jax.numpy as jnp
        >>> image = jnp.arange(4.0).reshape(1, 1, 2, 2)
        >>> remap(image, jnp.array([[[1.0, 0.0], [0.5, 1.0]]]))
        Array([[[1. , 2.5]]], dtype=float32)
    """
    rule = checked_rule(mode, padding_mode, False, normalized=False)
    return _checked_sample(input, "positions", positions, rule, channel_axis)


def splat(
    values: Float[ArrayLike, " N *values_axes"],
    grid: Float[ArrayLike, "N *out n"],
    size: Sequence[int],
    mode: str = "bilinear",
    padding_mode: PaddingMode = "zeros",
    align_corners: bool | None = False,
    *,
    channel_axis: int = 1,
) -> Float[Array, " N *result_axes"]:
    """Add values to an image of zeros at normalised coordinates (forward warping).

    The adjoint of `grid_sample`: where that reads pixels with some weights, this adds
    to the same pixels with the same weights, so that for every image and grid
    ``sum(grid_sample(image, grid) * values) == sum(image * splat(values, grid, size))``.
    Divide by the splat of ones for a weighted mean.

    Args:
        values: What to add (N, C, *out), or (N, *out, C) with ``channel_axis=-1``.
        grid: Normalised coordinates (N, *out, n), listed (x, y, z): for each value,
            where in the image to add it.
        size: The image's size, (N, C, *spatial) or (N, *spatial, C) as channel_axis says;
            the spatial sizes alone, (H, W) or (D, H, W), will do.
        mode: As in `grid_sample`.
        padding_mode: As in `grid_sample`; with "zeros" what lands outside is lost.
        align_corners: As in `grid_sample`.
        channel_axis: 1 for torch's layout, the default of all functions; -1 for Flax's,
            that of all modules.

    Returns:
        The image (N, C, *spatial), or (N, *spatial, C) with ``channel_axis=-1``, in the
        values' dtype; sums are at least float32 and rounded once.

    Raises:
        TypeError: As `grid_sample`; size is not a sequence of integers.
        ValueError: As `grid_sample`.

    Example:
        >>> import jax.numpy as jnp
        >>> values = jnp.array([[[1.0, 10.0]]])
        >>> points = jnp.array([[[0.5, -0.5], [0.0, 0.5]]])
        >>> splat(values, points, (2, 2))
        Array([[[[0., 1.],
                 [5., 5.]]]], dtype=float32)
    """
    rule = checked_rule(mode, padding_mode, align_corners, normalized=True)
    values, grid = _checks.float_array("values", values), _checks.float_array("grid", grid)
    layout = layout_of(channel_axis)
    _checks.shape("grid", grid, "(N, *out, n)", grid.ndim >= 2)
    spatial = _splat_size(size, values, grid, layout)
    holds = values.ndim == grid.ndim and layout.spatial(values.shape) == grid.shape[1:-1]
    rule_text = f"{layout.describe('*out')} for a grid of shape {grid.shape}"
    _checks.shape("values", values, rule_text, holds)
    _check_operands("values", values, "grid", grid, len(spatial))
    _checks.pixel_count("size", spatial)
    return _splat(values, grid, rule, layout, spatial)


# Checks -----------------------------------------------------------------------


def _checked_sample(
    input: ArrayLike, name: str, points: ArrayLike, rule: Rule, channel_axis: int
) -> jax.Array:
    """Sample ``input`` at ``points``, which errors call ``name``; check both."""
    layout = layout_of(channel_axis)
    input, points = _checks.images("input", input, layout), _checks.float_array(name, points)
    _checks.shape(name, points, "(N, *out, n)", points.ndim >= 2)
    spatial = layout.spatial(input.shape)
    _check_operands("input", input, name, points, len(spatial))
    _checks.pixel_count("input", spatial)
    _checks.plausible("input's shape", input.shape, layout)
    return _sample(input, points, rule, layout)


def _check_operands(name: str, x: jax.Array, points_name: str, points: jax.Array, n: int) -> None:
    """Raise unless there are points for every element of the batch, of n coordinates each."""
    if x.shape[0] == points.shape[0] and points.shape[-1] == n:
        return
    advice = _advice(name, x, points_name, points, n)
    _checks.same_batch(advice, **{name: x, points_name: points})
    if points.shape[-1] != n:
        raise ValueError(
            f"{points_name} must hold {n} coordinates on its last axis, one for each spatial"
            f" axis of the image, got {points.shape[-1]} (shape {points.shape})"
            + (f" ({advice})" if advice else "")
        )


def _advice(name: str, x: jax.Array, points_name: str, points: jax.Array, n: int) -> str:
    """Guess why operands do not fit: order of arguments or axes, or a batch axis left out."""
    coordinates = points.shape[-1]
    if coordinates != n and points.shape[1:2] == (n,):
        return f"coordinates are last: jnp.moveaxis({points_name}, 1, -1)"
    if coordinates not in (n, n + 1) and x.shape[-1] == points.ndim - 2:
        return f"the order is {name}, {points_name}: are they swapped?"
    lacking = {name: coordinates == n + 1, points_name: coordinates == n == points.ndim - 1}
    for which, lacks in lacking.items():
        if lacks:
            return f"{which} without its batch axis? {which}[None] is a batch of one"
    return ""


def _splat_size(
    size: Sequence[Dim], values: jax.Array, grid: jax.Array, layout: Layout
) -> tuple[Dim, ...]:
    """Return the image's spatial size, which may be given within the image's whole size."""
    whole = f"(*spatial) or {layout.describe()}"
    given = _checks.output_size("size", size, range(1, 6), whole)
    axes = grid.shape[-1] if len(given) > 3 or len(given) == grid.shape[-1] + 2 else len(given)
    spatial = _checks.spatial_size("size", size, axes, layout.channel_axis)
    if len(size) > len(spatial) and values.ndim == grid.ndim:
        kept = values.shape[0], layout.channels(values.shape)
        if (size[0], layout.channels(size)) != kept:
            raise ValueError(f"size must have the batch and channels of {values.shape}, got {size}")
    return spatial


# Compiled ---------------------------------------------------------------------


@partial(jax.jit, static_argnums=(2, 3))
def _sample(input: jax.Array, grid: jax.Array, rule: Rule, layout: Layout) -> jax.Array:
    spec = SampleSpec.plain(rule, layout, layout.spatial(input.shape), input.dtype)
    return _sampler.pull(input, _as_coordinates(grid, input), spec)


@partial(jax.jit, static_argnums=(2, 3, 4))
def _splat(
    values: jax.Array, grid: jax.Array, rule: Rule, layout: Layout, spatial: tuple[Dim, ...]
) -> jax.Array:
    spec = SampleSpec.plain(rule, layout, spatial, values.dtype)
    return _sampler.push(values, _as_coordinates(grid, values), spec)


def _as_coordinates(grid: jax.Array, image: jax.Array) -> jax.Array:
    return grid.astype(_coords.coordinate_dtype(image.dtype, grid.dtype))
