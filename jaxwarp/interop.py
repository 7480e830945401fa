"""To and from torch and pictures: tensors, images, trained weights.

Importing this module imports neither torch nor flax; calling its functions imports what
they need.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.typing import DTypeLike

from jaxwarp import _checks
from jaxwarp._layout import Layout, layout_of
from jaxwarp._workarounds.division import LEVELS
from jaxwarp._workarounds.dlpack import copied

if TYPE_CHECKING:
    import torch
    from flax import nnx

__all__ = ["from_image", "from_torch", "load_state_dict", "to_image", "to_torch"]

_A = TypeVar("_A", jax.Array, np.ndarray)


class Picture(Protocol):
    """What NumPy can look at as an array, such as a PIL image."""

    @property
    def __array_interface__(self) -> Mapping[str, object]: ...


# Images ----------------------------------------------------------------------


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


# Tensors ---------------------------------------------------------------------


def from_torch(tensor: torch.Tensor, *, copy: bool | None = None) -> jax.Array:
    """Turn a torch tensor into a JAX array with the same values, shape and device.

    The memory is shared where DLPack and the two libraries allow it, so a later in-place
    change of the tensor *changes the array*, which JAX takes to be immutable: pass
    ``copy=True`` for a tensor that is still being trained. Gradients do not cross.

    Args:
        tensor: Any dense tensor. 64-bit tensors become 32-bit unless ``jax_enable_x64``
            is set, as everywhere in JAX.
        copy: True always copies; None copies where sharing is impossible (dtype narrowed,
            rows not contiguous, memory not aligned); False raises there.

    Returns:
        The array.

    Raises:
        TypeError: tensor is not a dense torch tensor.
        ValueError: copy is False and the memory cannot be shared.

    Example:
        >>> import torch
        >>> from_torch(torch.ones(2))
        Array([1., 1.], dtype=float32)
    """
    import torch

    if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided:
        kind = getattr(tensor, "layout", type(tensor).__name__)
        raise TypeError(f"tensor must be a dense torch.Tensor, got {kind}")
    # DLPack knows neither torch's lazy conjugate and negative bits nor sliced rows.
    plain = tensor.detach().resolve_conj().resolve_neg()
    try:
        array = jnp.from_dlpack(plain)
    except jax.errors.JaxRuntimeError:
        array = jnp.from_dlpack(plain.contiguous())
    shares = array.size == 0 or array.unsafe_buffer_pointer() == tensor.data_ptr()
    if copy is False and not shares:
        raise ValueError(
            f"tensor of dtype {tensor.dtype}, shape {tuple(tensor.shape)} and strides"
            f" {tensor.stride()} cannot be shared with JAX: copy=False was asked for"
        )
    return copied(array) if copy and shares else array


def to_torch(array: jax.Array, *, copy: bool | None = None) -> torch.Tensor:
    """Turn a JAX array into a torch tensor with the same values, shape and device.

    The memory is shared where DLPack allows it: *do not write* to such a tensor, JAX
    takes its arrays to be immutable; pass ``copy=True`` for one that will be changed.

    Args:
        array: A concrete JAX array on one device.
        copy: True always copies; None shares where possible; False raises where
            sharing is impossible.

    Returns:
        The tensor, without gradient.

    Raises:
        TypeError: array is not a JAX array, or is traced (under jit, grad or vmap).
        ValueError: array lies on several devices; torch has no such dtype; copy is False
            and the memory cannot be shared.

    Example:
        >>> import jax.numpy as jnp
        >>> to_torch(jnp.arange(3))
        tensor([0, 1, 2], dtype=torch.int32)
    """
    import torch

    if not isinstance(array, jax.Array) or isinstance(array, jax.core.Tracer):
        raise TypeError(f"array must be a concrete JAX array, got {type(array).__name__}")
    if len(array.devices()) > 1:
        raise ValueError(f"array must lie on one device, got one on {len(array.devices())}")
    try:
        tensor = torch.from_dlpack(array)
    except (BufferError, RuntimeError) as error:
        raise ValueError(f"array of dtype {array.dtype} cannot become a torch tensor") from error
    shares = array.size == 0 or tensor.data_ptr() == array.unsafe_buffer_pointer()
    if copy is False and not shares:
        raise ValueError("array cannot be shared with torch: copy=False was asked for")
    return tensor.clone() if copy and shares else tensor


# Weights ---------------------------------------------------------------------


class IncompatibleKeys(NamedTuple):
    """What had no counterpart when weights were loaded; torch's names.

    Attributes:
        missing_keys: What the module wanted and torch did not have.
        unexpected_keys: What torch had and the module did not want.
    """

    missing_keys: list[str]
    unexpected_keys: list[str]


def load_state_dict(
    module: nnx.Module,
    state_dict: Mapping[str, torch.Tensor | jax.Array | np.ndarray],
    *,
    flattened: Mapping[str, Sequence[int] | None] | None = None,
    rename: Mapping[str, str] | None = None,
    strict: bool = True,
) -> IncompatibleKeys:
    """Copy the weights of a torch module into an nnx module of the same architecture.

    Layers are matched by name: torch's ``encoder.0.weight`` goes to ``module.encoder``,
    whose layer 0 it is if that is an ``nnx.Sequential`` or ``nnx.List``. Weights are
    transposed as the layer needs (``Conv``, ``ConvTranspose``, ``Linear``, ``BatchNorm``,
    ``GroupNorm``, ``LayerNorm``, ``Embed``), and torch's packed projections of attention are
    taken apart for ``MultiHeadAttention``; parameters and buffers that a module holds itself
    are copied under their own name. What a module derives when it is built, such as the
    matrix of `jaxwarp.nn.TPSGrid` (``Buffer(..., persistent=False)``), is not asked for.
    Values take the dtype of the variable they go to. Either everything is loaded or, on an
    error, nothing.

    What a ``state_dict`` does not hold must agree already: padding, strides, and
    ``epsilon`` (torch uses 1e-5 in every normalisation, Flax 1e-6 in ``LayerNorm`` and
    ``GroupNorm``) and ``momentum`` (torch's m is 1 - m in Flax).

    Args:
        module: The nnx module, changed in place.
        state_dict: ``torch_module.state_dict()``, of tensors or of arrays.
        flattened: Torch names of the Linear layers that follow a flatten of a feature map,
            with the map's (C, *spatial) in torch's order: torch flattens (C, H, W), Flax
            (H, W, C), so their columns need permuting. None instead of a shape says that
            the nnx module flattens channels first, too. Where a Linear layer stands after
            a convolution and nothing is said of it, a warning names it.
        rename: Torch prefixes and what they are called here, dotted; the longest fits.
        strict: Whether everything must have its counterpart. If not, what has one is loaded;
            what has one of another shape is an error all the same, as in torch.

    Returns:
        As in torch ``missing_keys``, what the module wanted, by its own names, and
        ``unexpected_keys``, what torch had left over. Both are empty if strict.

    Raises:
        TypeError: module is not an nnx module; state_dict is not a mapping.
        ValueError: Names every key that is missing, left over or of the wrong shape, and
            every entry of flattened or rename that fits nothing, or not what is known of
            the shapes.

    Example:
        >>> import jax.numpy as jnp, torch
        >>> from flax import nnx
        >>> layer = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
        >>> theirs = torch.nn.Linear(3, 2)
        >>> load_state_dict(layer, theirs.state_dict())
        IncompatibleKeys(missing_keys=[], unexpected_keys=[])
        >>> bool((layer.kernel[...].T == from_torch(theirs.weight)).all())
        True
    """
    from flax import nnx

    from jaxwarp.nn import _torch_weights

    if not isinstance(module, nnx.Module):
        order = "load_state_dict(module, torch_module.state_dict())"
        kind = type(module).__name__
        raise TypeError(f"module must be an nnx.Module, got {kind} (the order is {order})")
    if not isinstance(state_dict, Mapping):
        hint = " (its .state_dict() is one)" if hasattr(state_dict, "state_dict") else ""
        kind = type(state_dict).__name__
        raise TypeError(f"state_dict must map names to weights, got {kind}{hint}")
    weights = {key: _weight(value) for key, value in state_dict.items()}
    *keys, doubts = _torch_weights.load(module, weights, flattened or {}, rename or {}, strict)
    for doubt in doubts:
        _checks.warn(f"load_state_dict: {doubt}")
    return IncompatibleKeys(*keys)


def _weight(value: torch.Tensor | jax.Array | np.ndarray) -> np.ndarray:
    """Return a weight on the host, in the same memory where that is possible."""
    return np.asarray(value if isinstance(value, jax.Array | np.ndarray) else from_torch(value))
