"""Compare an nnx module with the torch module that it ports."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from jax.typing import DTypeLike

from jaxwarp.testing import _operands, _torch_side
from jaxwarp.testing._descent import OurDescent, TheirDescent
from jaxwarp.testing._functions import precision
from jaxwarp.testing._jax_side import Ours
from jaxwarp.testing._judge import Wanted, compare
from jaxwarp.testing._layers import first_different
from jaxwarp.testing._layouts import layouts
from jaxwarp.testing._operands import is_float
from jaxwarp.testing._ported import OurModule, Translation, ported
from jaxwarp.testing._report import Report, Row
from jaxwarp.testing._torch_module import TheirModule, averages_otherwise


class Port(NamedTuple):
    """Both modules, and what the caller says about how one became the other."""

    ours: Any
    theirs: Any
    rename: Mapping[str, str]
    flattened: Mapping[str, Sequence[int] | None]
    in_layouts: Any
    out_layouts: Any
    inputs: tuple[Any, ...]


class Training(NamedTuple):
    """How many steps of gradient descent, and of what size."""

    steps: int
    rate: float


class _Ported(NamedTuple):
    """Copies of both modules with torch's weights, and what was doubtful about those."""

    ours: Any
    theirs: torch.nn.Module
    state: Mapping[str, np.ndarray]
    translation: Translation
    doubts: Sequence[str]


class _Pair(NamedTuple):
    """Both modules in one mode, as functions of parameters, buffers and inputs."""

    ours: Ours
    theirs: TheirModule
    operands: tuple[Any, ...]
    names: tuple[str, ...]
    doubts: Sequence[str]

    def prepared(self, dtype: DTypeLike) -> _operands.Operands:
        """Flatten the operands; buffers are not differentiated."""
        return _operands.prepared(self.operands, self.names, dtype, constant=(1,))


def compare_modules(
    port: Port,
    modes: Sequence[str],
    dtypes: Sequence[str],
    training: Training,
    wanted: Wanted,
    name: str,
) -> Report:
    """Compare two modules in every precision; see `jaxwarp.testing.assert_module_parity`."""
    if not isinstance(port.ours, nnx.Module):
        raise TypeError(f"ours must be an nnx.Module, got {type(port.ours).__name__}")
    if not isinstance(port.theirs, torch.nn.Module):
        raise TypeError(f"theirs must be a torch.nn.Module, got {type(port.theirs).__name__}")
    if training.steps and "training" not in modes:
        raise ValueError("steps: losses are compared in training, which modes leaves out")
    rows: list[Row] = []
    notes: dict[str, None] = {}
    for dtype in dtypes:
        with precision(dtype):
            both = _ported(port, dtype)
            for mode in modes:
                pair = _pair(port, both, mode)
                rows += _compare(pair, mode, dtype, wanted, name)
                if mode == "training":
                    notes |= dict.fromkeys(pair.theirs.notes())
                    rows += _compare_losses(pair, training, dtype, wanted, name)
    return Report(name, tuple(rows), tuple(notes))


def _compare(pair: _Pair, mode: str, dtype: str, wanted: Wanted, name: str):
    operands = pair.prepared(jnp.dtype(dtype))
    if not wanted.equal_nan:
        _operands.refuse_nan(operands)
    rows = compare(
        f"{name}, {mode}",
        pair.ours,
        pair.theirs,
        operands,
        wanted,
        lambda: first_different(pair.ours, pair.theirs, operands),
        pair.doubts,
    )
    return [row._replace(what=f"{mode}: {row.what.removesuffix(', jit')}") for row in rows]


def _compare_losses(pair: _Pair, training: Training, dtype: str, wanted: Wanted, name: str):
    if not training.steps:
        return []
    operands = pair.prepared(jnp.dtype(dtype))
    values = _torch_side.values(pair.theirs, operands)
    rng = np.random.default_rng((wanted.seed, 2))
    targets = {
        n: rng.normal(size=x.shape)
        for n, x in values.items()
        if is_float(x) and n.startswith("value")
    }
    both = pair._replace(
        operands=(*pair.operands[:2], targets, *pair.operands[2:]),
        names=(*pair.names[:2], "target", *pair.names[2:]),
    )
    rows = compare(
        f"{name}, losses of {training.steps} steps of training",
        Ours(
            OurDescent(pair.ours.call, *training),
            pair.ours.extras,
            pair.ours.translation._replace(names=both.names),
        ),
        TheirDescent(pair.theirs, *training),
        both.prepared(jnp.dtype(dtype)),
        wanted._replace(order=0, forward=False, under=("jit",)),
    )
    return [row._replace(what=f"losses of {training.steps} steps") for row in rows]


def _ported(port: Port, dtype: str) -> _Ported:
    """Copy both modules, with torch's weights in both."""
    theirs = copy.deepcopy(port.theirs).to(_TORCH[dtype])
    state = {k: _numpy(x) for k, x in theirs.state_dict().items()}
    ours, index, doubts = ported(port.ours, state, port.rename, port.flattened, jnp.dtype(dtype))
    names = ("", "", *(f"input {i}" for i in range(len(port.inputs))))
    translation = Translation({k: x.shape for k, x in state.items()}, index, names)
    return _Ported(ours, theirs, state, translation, doubts)


def _pair(port: Port, both: _Ported, mode: str) -> _Pair:
    """Take both modules apart into functions, in one mode."""
    ours, theirs, state, translation, doubts = both
    theirs.train(mode == "training")
    ours.train() if mode == "training" else ours.eval()
    ours.set_attributes(deterministic=True, raise_if_not_found=False)  # dropout
    graphdef, values = nnx.split(ours)
    inside = layouts("in_layouts", port.in_layouts, len(port.inputs))
    call = OurModule(graphdef, inside, layouts("out_layouts", port.out_layouts, None))
    owners = translation.owners()
    loaded, trained = set(owners.values()), dict(theirs.named_parameters())
    return _Pair(
        Ours(call, values, translation),
        TheirModule(theirs, averages_otherwise(ours, owners)),
        (
            {k: x for k, x in state.items() if k in loaded and k in trained},
            {k: x for k, x in state.items() if k in loaded and k not in trained},
            *port.inputs,
        ),
        translation.names,
        doubts,
    )


_TORCH = {
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def _numpy(x: torch.Tensor) -> np.ndarray:
    return np.array(_torch_side.array(x))
