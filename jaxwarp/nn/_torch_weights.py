"""Where the weights of torch's layers go in Flax, and how they are laid out there.

Weights are laid out on the host, by NumPy: as operations of JAX each would be compiled, for every
shape that a network has.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import jax
import numpy as np
from flax import nnx

from jaxwarp.nn import _flattens, _torch_attention
from jaxwarp.nn._buffer import Buffer

# What torch calls the variables of a layer, where the names differ.
_TORCH_NAMES: dict[type, dict[str, str]] = {
    nnx.Conv: {"kernel": "weight"},
    nnx.ConvTranspose: {"kernel": "weight"},
    nnx.Linear: {"kernel": "weight"},
    nnx.BatchNorm: {"scale": "weight", "mean": "running_mean", "var": "running_var"},
    nnx.GroupNorm: {"scale": "weight"},
    nnx.LayerNorm: {"scale": "weight"},
    nnx.Embed: {"embedding": "weight"},
}
# Variables that torch has no weights for, and a counter of its own that Flax does without.
_NOT_WEIGHTS = (nnx.RngState, nnx.Cache, nnx.Intermediate, nnx.Perturbation)
_NOT_LOADED = "num_batches_tracked"


# Axes of torch's weight in the order that they have here, and what is done to it before.
_Arranged = tuple[tuple[int, ...], Callable[[np.ndarray], np.ndarray]]


class _Slot(NamedTuple):
    """A variable that expects a torch weight: ``transpose(adapt(weight), axes)``."""

    layer: nnx.Module
    variable: nnx.Variable
    axes: tuple[int, ...]
    adapt: Callable[[np.ndarray], np.ndarray]

    def torch_shape(self) -> tuple[int, ...]:
        shape = self.variable.get_value().shape
        return tuple(shape[self.axes.index(i)] for i in range(len(shape)))

    def fill(self, weight: np.ndarray) -> None:
        """Copy the weight, whose memory may be torch's, into the variable."""
        old = self.variable.get_value()
        new = np.transpose(self.adapt(weight), self.axes).astype(old.dtype, order="C", copy=True)
        self.variable.set_value(jax.device_put(new, old.sharding))


def load(
    module: nnx.Module,
    weights: Mapping[str, np.ndarray],
    flattened: _flattens.Shapes,
    rename: Mapping[str, str],
    strict: bool,
) -> tuple[list[str], list[str], list[str]]:
    """Copy torch's weights into ``module``; see `jaxwarp.interop.load_state_dict`.

    Returns the keys that are missing, those left over, and what is doubtful, in sentences.
    """
    slots = dict(_slots(module))
    weights, misfits = _torch_attention.unpacked(slots, weights, lambda key: _renamed(key, rename))
    names = {key: _renamed(key, rename) for key in weights if not key.endswith(_NOT_LOADED)}
    keys = {name: key for key, name in names.items()}
    missing = [name for name in slots if name not in keys]
    left_over = [key for key, name in names.items() if name not in slots]
    layers = {
        key.rpartition(".")[0]: slots[name].layer for key, name in names.items() if name in slots
    }
    problems = [
        *misfits,
        *_unused_names(weights, rename),
        *_reorder_columns(slots, {_renamed(k, rename): v for k, v in flattened.items()}),
        *_flattens.problems(module, layers, flattened),
        *(f"missing: {name}" for name in missing if strict),
        *(f"left over: {key}{_why(names[key], module)}" for key in left_over if strict),
        *(
            f"left over: {key}, as well as {keys[name]}"
            for key, name in names.items()
            if name in slots and keys[name] != key
        ),
    ]
    fits = [(slots[name], key) for name, key in keys.items() if name in slots]
    problems += [
        f"wrong shape: {key} is {weights[key].shape}, the module needs {slot.torch_shape()}"
        for slot, key in fits
        if weights[key].shape != slot.torch_shape()
    ]
    if problems:
        listed = "\n  ".join(sorted(problems))
        raise ValueError(f"state_dict does not fit the module:\n  {listed}")
    for slot, key in fits:
        slot.fill(weights[key])
    return missing, left_over, list(_flattens.unsaid(module, layers, flattened))


def _slots(module: nnx.Module) -> Iterator[tuple[str, _Slot]]:
    """Yield every variable that expects a weight, by the name that torch gives it."""
    layers = dict(nnx.iter_modules(module))
    for path, variable in nnx.iter_graph(module):
        if not isinstance(variable, nnx.Variable) or isinstance(variable, _NOT_WEIGHTS):
            continue
        if _is_derived(variable):
            continue
        layer, attribute = layers[path[:-1]], str(path[-1])
        names = next((_TORCH_NAMES[t] for t in type(layer).__mro__ if t in _TORCH_NAMES), {})
        owner = [
            str(part)
            for i, part in enumerate(path[:-1])
            # nnx.Sequential keeps its layers in a list, torch's under their numbers.
            if not (part == "layers" and isinstance(layers.get(path[:i]), nnx.Sequential))
        ]
        ndim = variable.get_value().ndim
        layout = _kernel(layer, ndim) if attribute == "kernel" and names else _unchanged(ndim)
        yield ".".join([*owner, names.get(attribute, attribute)]), _Slot(layer, variable, *layout)


def _is_derived(variable: object) -> bool:
    """Tell whether it is a buffer that the module makes itself when it is built."""
    return isinstance(variable, Buffer) and not variable.get_metadata("persistent", True)


def _why(name: str, module: nnx.Module) -> str:
    """Explain a key that is left over because nothing is loaded where it belongs."""
    found = [v for path, v in nnx.iter_graph(module) if ".".join(map(str, path)) == name]
    return " (a buffer that the module derives)" if any(map(_is_derived, found)) else ""


# Layouts ---------------------------------------------------------------------


def _unchanged(ndim: int) -> _Arranged:
    return tuple(range(ndim)), lambda weight: weight


def _kernel(layer: nnx.Module, ndim: int) -> _Arranged:
    """Return the axes of torch's (out, in, *window) in Flax's (*window, in, out)."""
    window = tuple(range(2, ndim))
    if isinstance(layer, nnx.ConvTranspose) and not layer.transpose_kernel:
        # Torch has (in, out, *window), and the window acts flipped, being that of the
        # convolution whose gradient the layer is. Flax does that only if asked to.
        return (*window, 0, 1), lambda weight: np.flip(weight, window)
    return (*window, 1, 0), lambda weight: weight


def _reorder_columns(slots: dict[str, _Slot], flattened: _flattens.Shapes) -> Iterator[str]:
    """Let Linear layers after a flatten take columns in torch's order; yield what is wrong."""
    for owner, shape in flattened.items():
        name = f"{owner}.weight" if owner else "weight"
        slot = slots.get(name)
        if slot is None or not isinstance(slot.layer, nnx.Linear):
            yield f"flattened: {owner!r} is not a Linear layer of the module"
        elif shape is None:
            continue
        elif math.prod(shape) != slot.layer.in_features:
            columns = slot.layer.in_features
            yield f"flattened: {owner!r} has {columns} columns, not those of {tuple(shape)}"
        else:
            slots[name] = slot._replace(adapt=lambda w, shape=tuple(shape): _columns(w, shape))


def _columns(weight: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Permute columns that count through (C, *spatial) to count through (*spatial, C)."""
    rows = weight.shape[0]
    return np.moveaxis(weight.reshape(rows, *shape), 1, -1).reshape(rows, -1)


# Names -----------------------------------------------------------------------


def _renamed(key: str, rename: Mapping[str, str]) -> str:
    fitting = [prefix for prefix in rename if _starts_with(key, prefix)]
    if not fitting:
        return key
    longest = max(fitting, key=len)
    rest = key[len(longest) :].lstrip(".")
    return ".".join(part for part in (rename[longest], rest) if part)


def _starts_with(key: str, prefix: str) -> bool:
    return not prefix or key == prefix or key.startswith(f"{prefix}.")


def _unused_names(weights: Iterable[str], rename: Mapping[str, str]) -> Iterator[str]:
    for prefix in rename:
        if not any(_starts_with(key, prefix) for key in weights):
            yield f"rename: no key of state_dict starts with {prefix!r}"
