"""Argument checks shared by every public function.

Each check raises while tracing, before anything is computed, and its message
names the argument, the rule and what came, and what is likely to have been meant; never
the contents of an array. Values that are only known at run time are never checked here:
they have documented results instead.
"""

import math
import operator
import sys
import warnings
from collections.abc import Collection, Sequence
from typing import SupportsIndex

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxwarp._coords import Dim
from jaxwarp._layout import Layout, layout_of

_ARRAYS = (jax.Array, np.ndarray, np.generic)


def describe(value: object) -> str:
    """Name a value in an error: an array by its dtype and shape, anything else as Python does."""
    if isinstance(value, _ARRAYS):
        return f"an array of dtype {value.dtype} and shape {value.shape}"
    if isinstance(value, bool | int | float | str | type(None)):
        return repr(value)
    if isinstance(value, tuple | list) and all(isinstance(v, int | float | str) for v in value):
        return repr(value) if len(value) <= 8 else f"a {type(value).__name__} of {len(value)}"
    return type(value).__name__


def warn(message: str) -> None:
    """Warn whoever called the package, whichever of its functions noticed."""
    frame, level = sys._getframe(), 1
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == "jaxwarp":
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)


# Arrays -----------------------------------------------------------------------


def float_array(name: str, x: ArrayLike) -> jax.Array:
    """Return ``x`` as a JAX array, or raise if it is not a real floating-point array."""
    return _floating(name, numeric_array(name, x), "x.astype(jnp.float32)")


def image_array(name: str, x: ArrayLike) -> jax.Array:
    """Return the pixels ``x`` as a JAX array, or raise if they are not floating-point."""
    array = numeric_array(name, x)
    return _floating(name, array, "x / 255, or jaxwarp.interop.from_image, for 8-bit pictures")


def _floating(name: str, array: jax.Array, advice: str) -> jax.Array:
    if not jnp.issubdtype(array.dtype, jnp.floating):
        hint = f" ({advice})" if jnp.issubdtype(array.dtype, jnp.integer) else ""
        raise TypeError(f"{name} must have a real floating-point dtype, got {array.dtype}{hint}")
    return array


def numeric_array(name: str, x: ArrayLike) -> jax.Array:
    """Return ``x`` as a JAX array, or raise if it is not an array at all."""
    if not isinstance(x, _ARRAYS) and not hasattr(x, "__jax_array__"):
        is_torch = type(x).__module__.partition(".")[0] == "torch"
        advice = "; jaxwarp.interop.from_torch(x) makes it one" if is_torch else ""
        kind = "a torch " * is_torch + type(x).__name__
        raise TypeError(f"{name} must be a JAX or NumPy array, got {kind}{advice}")
    return jnp.asarray(x)


def shape(name: str, x: jax.Array | np.ndarray, rule: str, holds: bool, advice: str = "") -> None:
    """Raise a ValueError that states the shape ``rule``, and ``advice``, unless it ``holds``."""
    if not holds:
        hint = f" ({advice})" if advice else ""
        raise ValueError(f"{name} must be {rule}, got shape {x.shape}{hint}")


def no_batch(name: str, x: jax.Array, axes: int) -> str:
    """Advise to add the batch axis to an array of ``axes`` axes that seems to lack it."""
    return f"without its batch axis? {name}[None] is a batch of one" if x.ndim == axes - 1 else ""


def same_batch(advice: str = "", **arrays: jax.Array) -> None:
    """Raise unless every named array has the same leading (batch) size."""
    sizes = {name: x.shape[0] for name, x in arrays.items()}
    if len(set(sizes.values())) > 1:
        came = ", ".join(f"{name} has {size}" for name, size in sizes.items())
        advice = advice or "to share one operand over a batch, use jax.vmap"
        raise ValueError(
            f"{' and '.join(sizes)} must have the same batch size, got: {came} ({advice})"
        )


def pixel_count(name: str, sizes: Sequence[Dim], what: str = "in one image") -> None:
    """Raise if so many pixels, where their number is known, cannot be counted in 31 bits."""
    known = [d for d in sizes if isinstance(d, int)]
    if len(known) == len(sizes) and math.prod(known) >= 2**31:
        raise ValueError(
            f"{name} must hold fewer than 2**31 pixels {what}, got sizes {tuple(sizes)}"
        )


def images(
    name: str, x: ArrayLike, layout: Layout, axes: int | None = None, spatial: str = "*spatial"
) -> jax.Array:
    """Return a batch of images, none of whose spatial axes is empty, or raise.

    They have so many spatial axes, or 1, 2 or 3.
    """
    x = image_array(name, x)
    described = layout.describe(spatial)
    rule = f"{described} with {axes or '1, 2 or 3'} spatial axes"
    fits = x.ndim in (3, 4, 5) if axes is None else x.ndim == axes + 2
    shape(name, x, rule, fits, no_batch(name, x, axes + 2) if axes else "")
    empty = any(isinstance(d, int) and d == 0 for d in layout.spatial(x.shape))
    shape(name, x, f"{described} with no empty spatial axis", not empty)
    return x


# Options ----------------------------------------------------------------------


def choice(name: str, value: str, allowed: Collection[str]) -> str:
    """Return ``value``, or raise if it is not one of the ``allowed`` names."""
    if not isinstance(value, str) or value not in allowed:
        names = ", ".join(repr(a) for a in allowed)
        raise ValueError(f"{name} must be one of {names}, got {describe(value)}")
    return value


def flag(name: str, value: bool | None, order: str = "") -> bool:
    """Return a bool argument; ``None`` means False, as it does for torch.

    ``order`` says how the function is called, for those who gave it an array here.
    """
    if value is None:
        return False
    if not isinstance(value, bool | np.bool_):
        hint = f" (the order is {order})" if order and isinstance(value, _ARRAYS) else ""
        raise TypeError(
            f"{name} must be a bool (or None, meaning False), got {describe(value)}{hint}"
        )
    return bool(value)


def count(name: str, value: SupportsIndex, least: int = 1, most: int | None = None) -> int:
    """Return a number of something, or raise if it is not an integer in a range.

    No array is a number here: how many there are is static, and an array may be traced.
    """
    try:
        if isinstance(value, bool | np.bool_ | np.ndarray | jax.Array):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {describe(value)}") from None
    if number < least or (most is not None and number > most):
        rule = f"at least {least}" if most is None else f"between {least} and {most}"
        raise ValueError(f"{name} must be {rule}, got {number}")
    return number


# Sizes ------------------------------------------------------------------------


def output_size(
    name: str,
    size: Sequence[Dim],
    lengths: Collection[int] = (3, 4, 5),
    layout: str = "(N, C, *spatial)",
) -> tuple[Dim, ...]:
    """Return a size as a tuple of positive integers (or symbolic dimensions)."""
    if not isinstance(size, Sequence) or isinstance(size, str | bytes):
        advice = " (the size of an array x is x.shape)" if isinstance(size, _ARRAYS) else ""
        kind = type(size).__name__
        raise TypeError(f"{name} must be a tuple or list of integers, got {kind}{advice}")
    dims = tuple(_dimension(name, d) for d in size)
    if len(dims) not in lengths:
        counts = " or ".join(str(n) for n in lengths)
        raise ValueError(f"{name} must be {layout} with {counts} entries, got {dims}")
    if any(isinstance(d, int) and d <= 0 for d in dims):
        raise ValueError(f"{name} must hold positive integers only, got {dims}")
    return dims


def image_size(
    name: str, size: Sequence[Dim], channel_axis: int, lengths: Collection[int] = (3, 4, 5)
) -> tuple[Dim, tuple[Dim, ...]]:
    """Return batch and spatial sizes of (N, C, *spatial), or of the other layout."""
    layout = layout_of(channel_axis)
    dims = output_size(name, size, lengths, layout.describe())
    plausible(name, dims, layout)
    return dims[0], layout.spatial(dims)


def spatial_size(name: str, size: Sequence[Dim], axes: int, channel_axis: int) -> tuple[Dim, ...]:
    """Return the spatial sizes, given alone or within a whole image's."""
    layout = layout_of(channel_axis)
    dims = output_size(name, size, range(1, 6), f"(*spatial) or {layout.describe()}")
    if len(dims) not in (axes, axes + 2):
        whole = f"{layout.describe()} with {axes + 2}"
        raise ValueError(f"{name} must be (*spatial) with {axes} entries, or {whole}, got {dims}")
    if len(dims) == axes:
        return dims
    plausible(name, dims, layout)
    return layout.spatial(dims)


def plausible(name: str, dims: Sequence[Dim], layout: Layout) -> None:
    """Warn if sizes look as if the other layout were meant."""
    if doubt := layout.doubt(dims):
        warn(f"{name} is {tuple(dims)}: {doubt}")


def _dimension(name: str, d: Dim) -> Dim:
    if jax.export.is_symbolic_dim(d):
        return d
    if isinstance(d, jax.core.Tracer):
        raise TypeError(f"{name} must hold integers only, got a traced value (sizes are static)")
    if isinstance(d, bool | np.bool_ | jax.Array | np.ndarray):
        raise TypeError(f"{name} must hold integers only, got {describe(d)}")
    try:
        return operator.index(d)
    except TypeError:
        raise TypeError(f"{name} must hold integers only, got {describe(d)}") from None
