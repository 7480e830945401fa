"""Our module as a function of its own variables, and how torch's become those.

Where each of our entries comes from is found by loading, in place of weights, the numbers of
their entries. So everything that `load_state_dict` knows is known here, and gradients and
buffers go back to torch's names and layout by the same numbers.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import PyTree

from jaxwarp.nn import _torch_weights
from jaxwarp.testing import _operands
from jaxwarp.testing._layouts import Layout, to_ours, to_theirs
from jaxwarp.testing._operands import is_float
from jaxwarp.testing._question import AFTER, Question

Arrays = Mapping[str, np.ndarray]
_Shapes = Mapping[str, Sequence[int] | None]


class Translation(NamedTuple):
    """How torch's parameters and buffers become our variables, and back.

    Attributes:
        sizes: Torch's names and shapes.
        numbers: For each variable of ours the numbers of its entries among all of torch's.
        names: Of the operands.
    """

    sizes: Mapping[str, tuple[int, ...]]
    numbers: Mapping[str, np.ndarray]
    names: tuple[str, ...]

    def owner(self, key: str) -> str:
        """Return torch's name of what a variable's first entry comes from."""
        ends = np.cumsum([int(np.prod(shape)) for shape in self.sizes.values()])
        first = self.numbers[key].ravel()[0]
        return list(self.sizes)[int(np.searchsorted(ends, first, side="right"))]

    def owners(self) -> dict[str, str]:
        """Return torch's name for each of our variables."""
        return {key: self.owner(key) for key in self.numbers}

    def operands(self, operands: _operands.Operands) -> _operands.Operands:
        """Put our variables in place of torch's parameters and buffers."""
        both = jax.tree.unflatten(operands.structure, operands.leaves)
        parameters, buffers, *rest = both
        mine = (self._enter(parameters), self._enter(buffers), *rest)
        return _operands.prepared(mine, self.names[: len(mine)], None, constant=(1,))

    def question(self, question: Question) -> Question:
        """Ask our module: of its own variables."""
        after = {n.removeprefix(AFTER): x for n, x in question.values.items() if _is_after(n)}
        values = {n: x for n, x in question.values.items() if not _is_after(n)}
        values |= {f"{AFTER}{key}": x for key, x in self._enter(after).items()}
        return question._replace(operands=self.operands(question.operands), values=values)

    def answer(self, found: Arrays) -> dict[str, np.ndarray]:
        """Give the answer torch's names and layout."""
        rest, translated = dict(found), {}
        for prefix in ("d ", AFTER):
            mine = {k: rest.pop(prefix + k) for k in self.numbers if prefix + k in rest}
            translated |= {prefix + n: x for n, x in self._leave(mine).items()}
        return rest | translated

    def _enter(self, arrays: Arrays) -> dict[str, np.ndarray]:
        if not arrays:
            return {}
        some, shape = next((x, self.sizes[n]) for n, x in arrays.items())
        lead = some.shape[: some.ndim - len(shape)]  # a stack of examples
        empty = np.zeros((), some.dtype)
        row = np.concatenate(
            [
                np.broadcast_to(arrays.get(n, empty), (*lead, *shape)).reshape(*lead, -1)
                for n, shape in self.sizes.items()
            ],
            axis=-1,
        )
        return {k: row[..., i] for k, i in self.numbers.items() if self.owner(k) in arrays}

    def _leave(self, arrays: Arrays) -> dict[str, np.ndarray]:
        if not arrays:
            return {}
        key, some = next(iter(arrays.items()))
        lead = some.shape[: some.ndim - self.numbers[key].ndim]
        ends = np.cumsum([int(np.prod(shape)) for shape in self.sizes.values()])
        row = np.zeros((*lead, ends[-1]), some.dtype)
        for key, x in arrays.items():
            row[..., self.numbers[key]] = x
        parts = zip(self.sizes.items(), np.split(row, ends[:-1], axis=-1), strict=True)
        owners = {self.owner(key) for key in arrays}
        return {n: x.reshape(*lead, *shape) for (n, shape), x in parts if n in owners}


def _is_after(name: str) -> bool:
    return name.startswith(AFTER)


def ported(
    module: nnx.Module,
    state_dict: Arrays,
    rename: Mapping[str, str],
    flattened: _Shapes,
    dtype: DTypeLike,
) -> tuple[nnx.Module, dict[str, np.ndarray], list[str]]:
    """Copy a module, cast it and load torch's weights; number its entries as torch's are.

    What `load_state_dict` would warn of is returned: a comparison can tell whether it matters.
    """
    ours = cast(module, dtype)
    doubts = _load(ours, state_dict, rename, flattened)
    return ours, _index(ours, state_dict, rename, flattened), doubts


def _load(
    module: nnx.Module, state_dict: Arrays, rename: Mapping[str, str], flattened: _Shapes
) -> list[str]:
    doubts = _torch_weights.load(module, state_dict, flattened, rename, strict=True)[-1]
    return [f"perhaps: {doubt}" for doubt in doubts]


def cast(module: nnx.Module, dtype: DTypeLike) -> nnx.Module:
    """Copy a module with floating values of one dtype; abstract ones become zero."""
    graphdef, state = nnx.split(module)
    copy = nnx.merge(graphdef, jax.tree.map(lambda x: _cast(x, dtype), state))
    layers = dict(nnx.iter_modules(copy))
    for path, layer in nnx.iter_modules(module):
        # A layer may be told to compute in another dtype than its weights have: that stays.
        if getattr(layer, "dtype", None) in _dtypes(layer):
            layers[path].dtype = dtype  # type: ignore[attr-defined]
    return copy


def _cast(x: Any, dtype: DTypeLike) -> Any:
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        abstract = isinstance(x, jax.ShapeDtypeStruct)
        return jax.random.split(jax.random.key(0), x.shape) if abstract else x
    x = np.zeros(x.shape, x.dtype) if isinstance(x, jax.ShapeDtypeStruct) else np.asarray(x)
    return jax.device_put(x.astype(dtype) if is_float(x) else x)


def _dtypes(layer: nnx.Module) -> set[np.dtype]:
    """Return the dtypes of a layer's own variables."""
    own = (value for value in vars(layer).values() if isinstance(value, nnx.Variable))
    return {x.get_value().dtype for x in own if hasattr(x.get_value(), "dtype")}


def _index(
    module: nnx.Module, state_dict: Arrays, rename: Mapping[str, str], flattened: _Shapes
) -> dict[str, np.ndarray]:
    """Return for each floating variable that is loaded the numbers of its entries in torch."""
    first = np.cumsum([0, *(x.size for x in state_dict.values())])
    with jax.enable_x64(True):  # float64 counts exactly
        wide = cast(module, jnp.float64)
        found = []
        for shift in (0.0, float(first[-1])):
            numbers = {
                name: np.asarray(np.arange(at, at + x.size).reshape(x.shape) + shift)
                for (name, x), at in zip(state_dict.items(), first, strict=False)
            }
            _load(wide, numbers, rename, flattened)
            found.append({k: np.asarray(v.get_value()) for k, v in variables(wide)})
    one, two = found
    # What was not loaded did not change.
    loaded = (k for k, x in one.items() if x.size and (two[k] - x == first[-1]).all())
    return {k: one[k].astype(np.int64) for k in loaded}


def variables(module: nnx.Module) -> Iterator[tuple[str, nnx.Variable]]:
    """Yield the floating variables of a module by name."""
    for path, variable in nnx.to_flat_state(nnx.state(module)):
        value = variable.get_value()
        if hasattr(value, "dtype") and is_float(value):
            yield "/".join(map(str, path)), variable


@dataclasses.dataclass(frozen=True)
class OurModule:
    """Our module, called with its parameters and buffers by name, and torch's inputs."""

    graphdef: nnx.GraphDef
    inside: tuple[Layout, ...] | None
    outside: tuple[Layout, ...] | None

    def __call__(self, state, parameters, buffers, *inputs):
        """Return the result in torch's layout, and the buffers after the call."""
        module = self.filled(state, parameters, buffers)
        result = self._result(module(*self.laid_out(inputs)))
        after = {f"{AFTER}{k}": v.get_value() for k, v in variables(module) if k in buffers}
        return result, after

    def filled(
        self,
        state: nnx.State,
        parameters: Mapping[str, jax.Array],
        buffers: Mapping[str, jax.Array],
    ) -> nnx.Module:
        """Return the module with these values."""
        # Variables of this trace: those of an outer one may not be written.
        module = nnx.merge(self.graphdef, jax.tree.map(lambda x: x, state))
        values = {**parameters, **buffers}
        for key, variable in variables(module):
            if key in values:
                variable.set_value(values[key])
        return module

    def laid_out(self, inputs: Sequence[jax.Array]) -> tuple[jax.Array, ...]:
        """Lay out torch's inputs as ours takes them."""
        axes = self.inside or (None,) * len(inputs)
        return tuple(to_ours(x, a) for x, a in zip(inputs, axes, strict=True))

    def _result(self, result: PyTree) -> PyTree:
        if self.outside is None:
            return result
        leaves, structure = jax.tree.flatten(result)
        if len(leaves) != len(self.outside):
            raise ValueError(
                f"out_layouts must have one entry for each output, got {len(self.outside)} for "
                f"{len(leaves)}"
            )
        laid = [to_theirs(x, a) for x, a in zip(leaves, self.outside, strict=True)]
        return jax.tree.unflatten(structure, laid)
