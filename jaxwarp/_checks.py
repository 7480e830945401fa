"""Argument checks shared by every public function.

Each check raises while tracing, before anything is computed, and its message
names the argument, the rule and what came. Values that are only known at run
time are never checked here: they have documented results instead.
"""

import math
import operator
from collections.abc import Collection, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def float_array(name: str, x: Any) -> jax.Array:
    """Return ``x`` as a JAX array, or raise if it is not a real floating-point array."""
    array = numeric_array(name, x)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{name} must have a real floating-point dtype, got {array.dtype}")
    return array


def numeric_array(name: str, x: Any) -> jax.Array:
    """Return ``x`` as a JAX array, or raise if it is not an array at all."""
    is_array = isinstance(x, jax.Array | np.ndarray | np.generic) or hasattr(x, "__jax_array__")
    if not is_array:
        raise TypeError(f"{name} must be a JAX or NumPy array, got {type(x).__name__}")
    return jnp.asarray(x)


def choice(name: str, value: Any, allowed: Collection[str]) -> str:
    """Return ``value``, or raise if it is not one of the ``allowed`` names."""
    if not isinstance(value, str) or value not in allowed:
        names = ", ".join(repr(a) for a in allowed)
        raise ValueError(f"{name} must be one of {names}, got {value!r}")
    return value


def flag(name: str, value: Any) -> bool:
    """Return a bool argument; ``None`` means False, as it does for torch."""
    if value is None:
        return False
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be a bool (or None, meaning False), got {value!r}")
    return bool(value)


def output_size(
    name: str, size: Any, lengths: Collection[int] = (3, 4, 5), layout: str = "(N, C, *spatial)"
) -> tuple[Any, ...]:
    """Return a size as a tuple of positive integers (or symbolic dimensions)."""
    if not isinstance(size, Sequence) or isinstance(size, str | bytes):
        raise TypeError(f"{name} must be a tuple or list of integers, got {type(size).__name__}")
    if len(size) not in lengths:
        counts = " or ".join(str(n) for n in lengths)
        raise ValueError(f"{name} must be {layout} with {counts} entries, got {tuple(size)}")
    dims = tuple(_dimension(name, d) for d in size)
    if any(isinstance(d, int) and d <= 0 for d in dims):
        raise ValueError(f"{name} must hold positive integers only, got {dims}")
    return dims


def _dimension(name: str, d: Any) -> Any:
    if jax.export.is_symbolic_dim(d):
        return d
    if isinstance(d, bool | np.bool_ | jax.Array | np.ndarray):
        raise TypeError(f"{name} must hold integers only, got {d!r}")
    try:
        return operator.index(d)
    except TypeError:
        raise TypeError(f"{name} must hold integers only, got {d!r}") from None


def count(name: str, value: Any) -> int:
    """Return a number of something, or raise if it is not an integer of at least 1."""
    rule = f"{name} must be an integer of at least 1, got {value!r}"
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(rule)
    if operator.index(value) < 1:
        raise ValueError(rule)
    return operator.index(value)


def shape(name: str, x: jax.Array | np.ndarray, rule: str, holds: bool) -> None:
    """Raise a ValueError that states the shape ``rule`` unless it ``holds``."""
    if not holds:
        raise ValueError(f"{name} must be {rule}, got shape {x.shape}")


def pixel_count(name: str, sizes: Sequence[Any], what: str = "in one image") -> None:
    """Raise if so many pixels, where their number is known, cannot be counted in 31 bits."""
    known = [d for d in sizes if isinstance(d, int)]
    if len(known) == len(sizes) and math.prod(known) >= 2**31:
        raise ValueError(
            f"{name} must hold fewer than 2**31 pixels {what}, got sizes {tuple(sizes)}"
        )


def same_batch(**arrays: jax.Array) -> None:
    """Raise unless every named array has the same leading (batch) size."""
    sizes = {name: x.shape[0] for name, x in arrays.items()}
    if len(set(sizes.values())) > 1:
        came = ", ".join(f"{name} has {size}" for name, size in sizes.items())
        raise ValueError(
            f"{' and '.join(sizes)} must have the same batch size, got: {came}"
            " (to share one operand over a batch, use jax.vmap)"
        )
