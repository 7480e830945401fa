"""Compare two functions."""

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from jaxwarp.testing import _operands
from jaxwarp.testing._jax_side import Ours
from jaxwarp.testing._judge import Wanted, compare
from jaxwarp.testing._report import Report, Row

DTYPES = ("float64", "float32", "bfloat16", "float16")


def compare_functions(
    ours: Callable[..., PyTree],
    theirs: Callable[..., PyTree],
    operands: Sequence[PyTree],
    dtypes: Sequence[str],
    wanted: Wanted,
    name: str,
) -> Report:
    """Compare two functions in every precision; see `jaxwarp.testing.assert_parity`."""
    if not operands:
        raise ValueError("operands: give at least one")
    names = _operands.parameter_names(ours, len(operands))
    rows: list[Row] = []
    for dtype in dtypes:
        prepared = _operands.prepared(operands, names, jnp.dtype(dtype))
        if not wanted.equal_nan:
            _operands.refuse_nan(prepared)
        with precision(dtype):
            rows += compare(name, Ours(_Plain(ours)), partial(_Plain(theirs), ()), prepared, wanted)
    return Report(name, tuple(rows))


def precision(dtype: str) -> Any:
    """Turn float64 on where it is compared."""
    return jax.enable_x64(True) if dtype == "float64" else nullcontext()


@dataclasses.dataclass(frozen=True)
class _Plain:
    """A function of its operands alone, which needs nothing and leaves nothing behind."""

    function: Callable[..., PyTree]

    def __call__(self, extras: PyTree, *operands: PyTree) -> tuple[PyTree, dict[str, Any]]:
        return self.function(*operands), {}
