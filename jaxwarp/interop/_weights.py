"""Weights of a torch module, loaded into one of Flax."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np

from jaxwarp import _checks
from jaxwarp.interop._tensors import from_torch

if TYPE_CHECKING:
    import torch
    from flax import nnx


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
