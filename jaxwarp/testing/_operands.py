"""Operands and results: trees of arrays, each with a name."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.typing import DTypeLike
from jaxtyping import PyTree

_KINDS = "fiub"


class Operands(NamedTuple):
    """The leaves of all operands in one row, their names, and how to put them back."""

    leaves: tuple[np.ndarray, ...]
    names: tuple[str, ...]
    structure: Any  # of the tuple of operands
    moving: tuple[int, ...]  # which leaves are floating
    differentiated: tuple[int, ...]  # which of these a gradient is asked for

    def floats(self) -> list[np.ndarray]:
        """Return the floating leaves."""
        return [self.leaves[i] for i in self.moving]

    def replaced(self, floats: Sequence[np.ndarray]) -> "Operands":
        """Return the same operands with other floating leaves."""
        leaves = list(self.leaves)
        for i, x in zip(self.moving, floats, strict=True):
            leaves[i] = x
        return self._replace(leaves=tuple(leaves))


def prepared(
    operands: Sequence[PyTree],
    names: Sequence[str],
    dtype: DTypeLike | None,
    constant: Sequence[int] = (),
) -> Operands:
    """Flatten operands; their floating leaves take ``dtype``, unless it is None.

    No gradient is asked for the operands in ``constant``.
    """
    leaves, labels, owners = [], [], []
    for i, (operand, name) in enumerate(zip(operands, names, strict=True)):
        for path, leaf in jax.tree_util.tree_leaves_with_path(operand):
            labels.append(_label(name, path))
            leaves.append(_array(labels[-1], leaf, dtype))
            owners.append(i)
    moving = tuple(i for i, x in enumerate(leaves) if is_float(x))
    differentiated = tuple(i for i in moving if owners[i] not in constant)
    structure = jax.tree.structure(tuple(operands))
    return Operands(tuple(leaves), tuple(labels), structure, moving, differentiated)


def is_float(x: Any) -> bool:
    """Tell whether an array is of a real floating dtype (bfloat16 included)."""
    return jnp.issubdtype(x.dtype, jnp.floating)


def parameter_names(f: Callable[..., PyTree], count: int) -> list[str]:
    """Return what a function calls its positional operands."""
    try:
        parameters = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):  # not every built-in function has a signature
        parameters = []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [p.name for p in parameters if p.kind in kinds][:count]
    return names + [f"operand {i}" for i in range(len(names), count)]


def named_leaves(side: str, tree: PyTree) -> dict[str, PyTree]:
    """Return the leaves of a function's result by name; lists and tuples are the same."""
    leaves = jax.tree_util.tree_leaves_with_path(_plain(tree))
    if not leaves:
        raise ValueError(f"{side} returns nothing: it must return an array, or a tree of arrays")
    return {_label("value", path): leaf for path, leaf in leaves}


def _plain(tree: PyTree) -> PyTree:
    """Turn lists, and the tuples with names that torch's functions return, into tuples."""
    if isinstance(tree, dict):
        return {key: _plain(value) for key, value in tree.items()}
    if isinstance(tree, tuple | list):
        return tuple(map(_plain, tree))
    return tree


def _label(name: str, path: jax.tree_util.KeyPath) -> str:
    inside = jax.tree_util.keystr(path, simple=True, separator=".")
    return ".".join(part for part in (name, inside) if part)


def _array(name: str, leaf: npt.ArrayLike, dtype: DTypeLike | None) -> np.ndarray:
    if type(leaf).__module__.partition(".")[0] == "torch":
        raise TypeError(f"{name} must be a NumPy array, got {type(leaf).__name__}: use .numpy()")
    if isinstance(leaf, jax.core.Tracer):
        raise TypeError(f"{name} must be a NumPy array, got a traced one")
    try:
        array = np.asarray(leaf)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be a NumPy array, got {type(leaf).__name__}") from error
    if is_float(array):
        return array if dtype is None else array.astype(dtype)
    if array.dtype.kind not in _KINDS:
        raise TypeError(
            f"{name} must hold real numbers, integers or booleans, got {array.dtype} "
            f"({type(leaf).__name__}); let the functions close over anything else"
        )
    return array


def refuse_nan(operands: Operands) -> None:
    """Raise unless all operands are numbers."""
    for name, x in zip(operands.names, operands.leaves, strict=True):
        if is_float(x) and np.isnan(x).any():
            raise ValueError(
                f"{name} holds {int(np.isnan(x).sum())} NaN, behind which differences hide: pass "
                "equal_nan=True if they are meant"
            )
