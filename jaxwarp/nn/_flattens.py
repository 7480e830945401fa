"""Which Linear layers follow a flatten, as far as weights and shapes can tell.

Torch flattens (C, *spatial), Flax (*spatial, C): a Linear layer in between needs its columns
permuted, and nothing in its own shape shows whether that was forgotten.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol, TypeGuard, runtime_checkable

from flax import nnx

Layers = Mapping[str, nnx.Module]
Shapes = Mapping[str, Sequence[int] | None]

_NORMS = (nnx.BatchNorm, nnx.GroupNorm, nnx.LayerNorm)


@runtime_checkable
class SaysWhatItFlattens(Protocol):
    """A module like `LocalizationNet`: the first layer of ``regressor`` takes ``flattened``."""

    flattened: Sequence[int]
    regressor: nnx.Sequential


def problems(module: nnx.Module, layers: Layers, flattened: Shapes) -> Iterator[str]:
    """Yield what is wrong with ``flattened`` for sure.

    Args:
        module: The module that takes the weights.
        layers: The layers by the names that torch has for them, in its state_dict's order.
        flattened: What was said, by the same names.
    """
    for name, shape in _known(module, layers):
        if name not in flattened and _matters(shape):
            yield f"flattened: {name!r} follows a flatten; say flattened={{{name!r}: {shape}}}"
        elif tuple(flattened.get(name) or shape) != shape:
            yield f"flattened: {name!r} is {flattened[name]}, the module flattens {shape}"
    widths = {layer.out_features for layer in layers.values() if _is_convolution(layer)}
    for name, width, _ in _after_a_convolution(layers):
        shape = tuple(flattened.get(name) or ())
        if shape and shape[0] not in widths and shape[-1] == width:
            order = (width, *shape[:-1])
            yield f"flattened: {name!r} is {shape}, torch's order is (C, *spatial): {order}?"


def unsaid(module: nnx.Module, layers: Layers, flattened: Shapes) -> Iterator[str]:
    """Yield a sentence for each Linear layer that seems to follow a flatten, if nothing was said.

    Flax does not know which layer follows which. Torch's state_dict lists them as they were
    defined, which mostly is the order in which they are called.
    """
    said = {*flattened, *(name for name, _ in _known(module, layers))}
    for name, width, pixels in _after_a_convolution(layers):
        if name not in said and width > 1 and pixels > 1:
            yield (
                f"{name!r} takes {width * pixels} columns after {width} channels: if they are"
                f" flattened as Flax has them, (H, W, C), its columns are in another order than"
                f" torch's; say flattened={{{name!r}: ({width}, H, W)}} with H * W = {pixels},"
                f" or {{{name!r}: None}} if they are in torch's"
            )


def _known(module: nnx.Module, layers: Layers) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the layers whose place after a flatten is known, and what is flattened."""
    for _, part in nnx.iter_modules(module):
        if isinstance(part, SaysWhatItFlattens):
            first = part.regressor.layers[0]
            names = [name for name, layer in layers.items() if layer is first]
            yield from ((name, tuple(part.flattened)) for name in names)


def _matters(shape: Sequence[int]) -> bool:
    return shape[0] > 1 and math.prod(shape[1:]) > 1


def _is_convolution(layer: nnx.Module) -> TypeGuard[nnx.Conv | nnx.ConvTranspose]:
    return isinstance(layer, nnx.Conv | nnx.ConvTranspose)


def _after_a_convolution(layers: Layers) -> Iterable[tuple[str, int, int]]:
    """Yield each Linear layer whose weights stand after a convolution's: name, channels, pixels."""
    width = 0
    for name, layer in layers.items():
        if isinstance(layer, nnx.Linear):
            if width and layer.in_features % width == 0:
                yield name, width, layer.in_features // width
            width = 0
        elif _is_convolution(layer):
            width = layer.out_features
        elif not isinstance(layer, _NORMS):
            width = 0
