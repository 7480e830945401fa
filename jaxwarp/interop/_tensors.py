"""Tensors of torch and arrays of JAX, in the same memory where that is possible."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.core
import jax.numpy as jnp

from jaxwarp._workarounds.dlpack import copied

if TYPE_CHECKING:
    import torch


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
