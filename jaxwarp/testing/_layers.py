"""Name the first layer whose output differs."""

from collections.abc import Iterator, Mapping
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx

from jaxwarp.testing import _torch_side
from jaxwarp.testing._jax_side import Ours
from jaxwarp.testing._operands import Operands
from jaxwarp.testing._ported import OurModule
from jaxwarp.testing._torch_module import TheirModule


def first_different(ours: Ours, theirs: TheirModule, operands: Operands) -> str:
    """Name the first layer with weights, in torch's order, whose output is not the same.

    Layers are compared that are called as modules on both sides.
    """
    mine, last = _our_outputs(ours, operands), ""
    paths = _layers(ours.translation.owners())
    for name, x in _their_outputs(theirs, operands):
        y = mine.get(paths[name]) if name in paths else None
        if y is None or not (fitting := _layouts(x, y)):
            continue
        if not any(_close(x, z) for z in fitting):
            after = f"; the one before it, {last}, is the same" if last else ""
            return f"the first layer whose output differs is {_said(theirs, name)}{after}"
        last = _said(theirs, name)
    return ""


def _layers(owners: Mapping[str, str]) -> dict[str, str]:
    """Return the path of the layer of ours that takes the weights of each layer of torch's."""
    found: dict[str, set[str]] = {}
    for key, name in owners.items():
        found.setdefault(name.rpartition(".")[0], set()).add(key.rpartition("/")[0])
    return {name: paths.pop() for name, paths in found.items() if len(paths) == 1}


def _said(theirs: TheirModule, name: str) -> str:
    return f"{name or 'the module'} ({type(theirs.module.get_submodule(name)).__name__})"


def _their_outputs(theirs: TheirModule, operands: Operands) -> Iterator[tuple[str, np.ndarray]]:
    found: dict[str, np.ndarray] = {}

    def hook(name):
        def keep(module, args, output):
            if isinstance(output, torch.Tensor):
                found.setdefault(name, _torch_side.array(output))

        return keep

    handles = [m.register_forward_hook(hook(n)) for n, m in theirs.module.named_modules()]
    try:
        _torch_side.values(theirs, operands)
    finally:
        for handle in handles:
            handle.remove()
    yield from found.items()


def _our_outputs(ours: Ours, operands: Operands) -> dict[str, np.ndarray]:
    if not hasattr(nnx, "capture"):
        return {}  # Flax 0.12.2 has no way to look inside
    operands = ours.translation.operands(operands)
    leaves = jax.device_put(operands.leaves)
    parameters, buffers, *inputs = jax.tree.unflatten(operands.structure, leaves)
    call = cast(OurModule, ours.call)
    module = call.filled(ours.extras, parameters, buffers)
    forward = nnx.capture(module, nnx.Intermediate, method_outputs=nnx.Intermediate)
    _, captured = forward(*call.laid_out(inputs))
    return {
        "/".join(map(str, path[:-1])): np.asarray(variable.get_value()[0])
        for path, variable in nnx.to_flat_state(captured)
        if path[-1] == "__call__" and isinstance(variable.get_value()[0], jax.Array)
    }


def _layouts(x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    """Return y in every layout in which it has the shape of x: as it is, channels moved."""
    options = [y, np.moveaxis(y, -1, 1)] if y.ndim > 2 else [y]
    return [z for z in options if z.shape == x.shape]


def _close(x: np.ndarray, y: np.ndarray) -> bool:
    tolerance = np.sqrt(float(jnp.finfo(x.dtype).eps)) * np.abs(x).max(initial=1e-30)
    return bool(np.allclose(x, y, rtol=0, atol=tolerance, equal_nan=True))
