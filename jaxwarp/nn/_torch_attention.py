"""Torch's packed projections of attention, as nnx.MultiHeadAttention holds them.

Torch keeps the projections of queries, keys and values in one matrix, and all heads in its
rows; Flax has a kernel (in, heads, features) for each, and (heads, features, out) for the last.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

_PARTS = ("query", "key", "value")


def unpacked(
    slots: Mapping[str, Any], weights: Mapping[str, np.ndarray], renamed: Callable[[str], str]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the weights with those of attention under Flax's names, and what does not fit.

    ``slots`` has the module's variables, by the names that the weights have once renamed.
    """
    owners = [
        name.removesuffix("query.kernel")
        for name in slots
        if name.endswith("query.kernel")
        and all(name.replace("query", part) in slots for part in (*_PARTS, "out"))
    ]
    targets = {torch: names for owner in owners for torch, names in _packed(owner)}
    found, problems = {}, []
    for key, weight in weights.items():
        name = renamed(key)
        # Biases that neither side has are no part of it.
        names = [n for n in targets.get(name, ()) if n in slots]
        shapes = [slots[n].variable.get_value().shape for n in names]
        if not names:
            found[key] = weight
        elif weight.shape != (needed := _torch_shape(name, shapes)):
            problems.append(f"wrong shape: {key} is {weight.shape}, the module needs {needed}")
            found |= {_beside(key, n): np.zeros(s) for n, s in zip(names, shapes, strict=True)}
        else:
            parts = _split(name, weight, shapes)
            found |= {_beside(key, n): x for n, x in zip(names, parts, strict=True)}
    return found, problems


def _packed(owner: str) -> Iterator[tuple[str, list[str]]]:
    """Yield torch's names of an attention layer's weights, and what is in them here."""
    yield f"{owner}in_proj_weight", [f"{owner}{part}.kernel" for part in _PARTS]
    yield f"{owner}in_proj_bias", [f"{owner}{part}.bias" for part in _PARTS]
    yield f"{owner}out_proj.weight", [f"{owner}out.kernel"]
    yield f"{owner}out_proj.bias", [f"{owner}out.bias"]
    # Where keys or values have another width than queries, torch does not pack them.
    for part in _PARTS:
        yield f"{owner}{part[0]}_proj_weight", [f"{owner}{part}.kernel"]


def _beside(key: str, name: str) -> str:
    """Return torch's key with its last parts replaced by those of a name here."""
    stem = key.removesuffix(".weight").removesuffix(".bias").rpartition(".")[0]
    return ".".join(part for part in (stem, *name.split(".")[-2:]) if part)


def _torch_shape(name: str, shapes: list[tuple[int, ...]]) -> tuple[int, ...]:
    if name.endswith("out_proj.weight"):
        *inside, outside = shapes[0]
        return outside, math.prod(inside)
    if name.endswith("bias"):
        return (sum(map(math.prod, shapes)),)
    return sum(math.prod(shape[1:]) for shape in shapes), shapes[0][0]


def _split(name: str, weight: np.ndarray, shapes: list[tuple[int, ...]]) -> Iterator[np.ndarray]:
    if name.endswith("out_proj.weight"):
        yield weight.T.reshape(shapes[0])
        return
    start = 0
    for shape in shapes:
        rows = math.prod(shape) if weight.ndim == 1 else math.prod(shape[1:])
        yield weight[start : start + rows].T.reshape(shape)
        start += rows
