"""Torch's module as a function of its parameters, buffers and inputs."""

from collections.abc import Collection, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from flax import nnx
from torch.overrides import TorchFunctionMode

from jaxwarp.testing._devices import torch_device
from jaxwarp.testing._question import AFTER

_DROPOUTS = (
    F.dropout,
    F.dropout1d,
    F.dropout2d,
    F.dropout3d,
    F.alpha_dropout,
    F.feature_alpha_dropout,
)


class TheirModule:
    """A torch module, called with its parameters and buffers by name, and its inputs."""

    def __init__(self, module: torch.nn.Module, otherwise: Collection[str]) -> None:
        self.module = module.to(torch_device())
        self.otherwise = frozenset(otherwise)
        for name, part in module.named_modules():
            part._parity_name = name  # type: ignore[assignment]
            if isinstance(part, torch.nn.MultiheadAttention):
                part.dropout = 0.0

    def __call__(self, parameters, buffers, *inputs) -> tuple[Any, Mapping[str, Any]]:
        """Return the result and the buffers after the call."""
        values = {**parameters, **buffers}
        for name in self.otherwise & values.keys():
            values[name].averages_otherwise = True
        dtype = next((x.dtype for x in values.values()), None)
        counters = {
            n: x.clone().to(dtype if x.is_floating_point() else None)
            for n, x in self.module.named_buffers()
            if n not in values
        }
        result = torch.func.functional_call(self.module, {**values, **counters}, inputs)
        return result, {f"{AFTER}{name}": values[name] for name in buffers}

    def context(self) -> TorchFunctionMode:
        """Return what is in force while the module computes."""
        return _AsFlaxTrains()

    def notes(self) -> list[str]:
        """Say what was taken for granted in training."""
        notes = []
        if any(isinstance(m, torch.nn.modules.dropout._DropoutNd) for m in self.module.modules()):
            notes.append("dropout was off on both sides: they draw different random numbers")
        if self.otherwise:
            notes.append(
                f"{', '.join(sorted(self.otherwise))}: compared with the average of the variance "
                "divided by n, which flax.nnx.BatchNorm takes; torch divides by n - 1"
            )
        return notes


def averages_otherwise(module: nnx.Module, owners: Mapping[str, str]) -> set[str]:
    """Return torch's names of the running variances that Flax's BatchNorm averages its own way."""
    norms = (
        "/".join(map(str, (*path, "var")))
        for path, layer in nnx.iter_modules(module)
        # Whoever overrides the call may average as torch does.
        if isinstance(layer, nnx.BatchNorm) and type(layer).__call__ is nnx.BatchNorm.__call__
    )
    return {owners[key] for key in norms if key in owners}


class _AsFlaxTrains(TorchFunctionMode):
    """No dropout; and the running variances that are marked average what Flax does."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in _DROPOUTS:
            return args[0] if args else kwargs["input"]
        if func is F.scaled_dot_product_attention:
            kwargs = {**kwargs, "dropout_p": 0.0}
            args = args[:4]
        if func is F.batch_norm:
            return _batch_norm(*args, **kwargs)
        return func(*args, **kwargs)


def _batch_norm(
    input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5
):
    rest = (weight, bias, training, momentum, eps)
    if not training or not hasattr(running_var, "averages_otherwise"):
        return F.batch_norm(input, running_mean, running_var, *rest)
    new = running_var.clone()  # the graph keeps it, so nothing else may be written there
    normed = F.batch_norm(input, running_mean, new, *rest)
    with torch.no_grad():
        added = new - (1 - momentum) * running_var  # momentum * variance
        running_var.copy_(new - added / (input.numel() // input.shape[1]))
    return normed
