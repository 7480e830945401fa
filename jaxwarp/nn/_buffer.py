"""Arrays that belong to a module but are not trained."""

from collections.abc import Mapping
from typing import Any, TypeVar

from flax import nnx

A = TypeVar("A")


class Buffer(nnx.Variable[A]):
    """Hold an array that is part of a module's state but not of its parameters.

    The counterpart of torch's ``register_buffer``; ``nnx.Param`` is that of
    ``register_parameter``. A buffer is saved, restored and moved with its module, and
    since ``nnx.grad`` and ``nnx.Optimizer(..., wrt=nnx.Param)`` select parameters, it is
    neither differentiated nor updated. Through ``nnx.bridge.to_linen`` buffers form the
    collection ``"buffers"``.

    Args:
        value: The array.
        persistent: As for ``register_buffer``: False for what the module derives when it
            is built, which `jaxwarp.interop.load_state_dict` then does not ask torch for.
        **metadata: As for any ``nnx.Variable``.

    Example:
        >>> from flax import nnx
        >>> import jax.numpy as jnp
        >>> class Scale(nnx.Module):
        ...     def __init__(self):
        ...         self.learned = nnx.Param(jnp.ones(()))
        ...         self.fixed = Buffer(jnp.ones(()))
        >>> gradient = nnx.grad(lambda m: m.learned[...] * m.fixed[...])(Scale())
        >>> list(gradient)
        ['learned']
    """

    def __init__(self, value: A, *, persistent: bool = True, **metadata: Any):
        if not persistent:
            metadata |= {"persistent": False, "linen_meta_type": _Bare}
        super().__init__(value, **metadata)


class _Bare:
    """Tells the Linen bridge not to box a buffer for the sake of its metadata."""

    @staticmethod
    def from_nnx_metadata(metadata: Mapping[str, Any]) -> Any:
        return metadata["value"]


# Without a registered name the Linen bridge would call the collection "Buffer".
nnx.register_variable_name("buffers", Buffer)
