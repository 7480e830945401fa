"""Pictures, as files hold them, and the batches of floats that everything here takes."""

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.typing import DTypeLike

from jaxwarp import _checks
from jaxwarp._layout import Layout, layout_of
from jaxwarp._workarounds.division import LEVELS

_A = TypeVar("_A", jax.Array, np.ndarray)


class Picture(Protocol):
    """What NumPy can look at as an array, such as a PIL image."""

    @property
    def __array_interface__(self) -> Mapping[str, object]: ...


def from_image(image: npt.ArrayLike | Picture, *, channel_axis: int = 1) -> jax.Array:
    """Turn a picture (H, W, C), or a batch of them, into the floats that everything here takes.

    Args:
        image: Picture (H, W, C), or (H, W) for a single channel, or batch (N, H, W, C): a
            NumPy or JAX array, or anything with ``__array__`` such as a PIL image. Channels
            are last, as loaders of pictures have them. uint8 0..255 becomes float32 0..1;
            floating-point pixels keep their dtype and values.
        channel_axis: Of the result: 1, the default of all functions, for torch's layout
            (N, C, H, W); -1, that of all modules, for Flax's (N, H, W, C).

    Returns:
        The batch; of one, for one picture.

    Raises:
        TypeError: The pixels are neither uint8 nor floating point; channel_axis is not an int.
        ValueError: image is not (H, W), (H, W, C) or (N, H, W, C); channel_axis is not 1 or -1.

    Example:
        >>> import numpy as np
        >>> from_image(np.full((2, 3, 3), 255, np.uint8)).shape
        (1, 3, 2, 3)
    """
    layout = layout_of(channel_axis)
    if isinstance(image, jax.Array):
        return _batch(image, jnp.asarray(LEVELS), layout)
    # On the host, where no picture's shape is compiled for; a copy, for JAX may keep its memory.
    return jax.device_put(np.array(_batch(np.asarray(image), LEVELS, layout), order="C"))


def _batch(image: _A, levels: _A, layout: Layout) -> _A:
    """Turn pixels (H, W), (H, W, C) or (N, H, W, C) into floats, and arrange them in a batch."""
    pixels: Any  # jax.Array or np.ndarray, as image and levels are
    if image.dtype == np.uint8:
        pixels = levels[image]
    elif jnp.issubdtype(image.dtype, jnp.floating):
        pixels = image
    else:
        raise TypeError(f"image must have uint8 or floating-point pixels, got {image.dtype}")
    rule = "(H, W), (H, W, C) or (N, H, W, C)"
    _checks.shape("image", pixels, rule, pixels.ndim in (2, 3, 4))
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    batch = pixels if pixels.ndim == 4 else pixels[None]
    if Layout(channels_last=True).doubt(batch.shape):
        _checks.warn(f"image is {image.shape}: channels are to be last, (N, H, W, C)")
    return layout.channels_from_end(batch)


def to_image(batch: jax.Array, *, dtype: DTypeLike = np.uint8, channel_axis: int = 1) -> jax.Array:
    """Turn a batch of one picture, (1, C, H, W), into a picture (H, W, C).

    Args:
        batch: Pixels (1, C, H, W), floating point, 0..1 for a uint8 picture.
        dtype: uint8 rounds and clips 0..1 to 0..255 (NaN becomes 0); a floating-point
            dtype keeps the values.
        channel_axis: 1 for torch's layout (1, C, H, W), -1 for Flax's (1, H, W, C).

    Returns:
        The picture, (H, W, C); ``to_image(from_image(x))`` is x for uint8 x.

    Raises:
        TypeError: batch is not floating point; dtype is neither uint8 nor floating point;
            channel_axis is not an int.
        ValueError: batch is not a batch of one picture; channel_axis is not 1 or -1.

    Example:
        >>> import jax.numpy as jnp
        >>> to_image(jnp.full((1, 3, 2, 4), 0.5))[0, 0]
        Array([128, 128, 128], dtype=uint8)
    """
    layout = layout_of(channel_axis)
    batch = _checks.float_array("batch", batch)
    rule = "a batch of one picture, (1, C, H, W) (or (1, H, W, C) for channel_axis=-1)"
    _checks.shape("batch", batch, rule, batch.ndim == 4 and batch.shape[0] == 1)
    image = layout.channels_to_end(batch)[0]
    if jnp.issubdtype(dtype, jnp.floating):
        return image.astype(dtype)
    if np.dtype(dtype) != np.uint8:
        raise TypeError(f"dtype must be uint8 or floating point, got {np.dtype(dtype)}")
    return _levels(image)


# One program outside of jit, instead of one for each operation.
@jax.jit
def _levels(image: jax.Array) -> jax.Array:
    levels = jnp.nan_to_num(jnp.clip(image.astype(jnp.float32), 0, 1)) * 255
    return jnp.round(levels).astype(jnp.uint8)
