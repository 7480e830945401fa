"""The two questions that a port is asked; torch and flax are imported when they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from jaxtyping import PyTree

from jaxwarp.testing._report import Report

if TYPE_CHECKING:
    import torch
    from flax import nnx

_WAYS = ("eager", "jit", "vmap")
_DTYPES = ("float64", "float32", "bfloat16", "float16")


def assert_parity(
    ours: Callable[..., PyTree],
    theirs: Callable[..., PyTree],
    *operands: PyTree,
    dtypes: Sequence[str] = ("float64",),
    order: int = 1,
    forward: bool = False,
    under: Sequence[str] = ("eager",),
    ulp: float | None = None,
    equal_nan: bool = False,
    seed: int = 0,
    name: str | None = None,
) -> Report:
    """Fail unless a JAX function computes what a torch function does, gradients included.

    Compared are the structure of the results (lists and tuples count as the same), shapes,
    dtypes, values, and the gradient of every floating operand under one random cotangent.
    NaN is a failure, unless it is meant. The error names every array that differs, the worst
    entry, by how much and how much was allowed, and where it can the mistake: a convention
    that makes torch agree once it follows it, too.

    Args:
        ours: Function of JAX arrays that returns an array, or a tree of arrays. Other
            arguments are closed over.
        theirs: The same of torch tensors.
        operands: NumPy arrays, numbers, or trees of them, given to both. Floating ones are
            cast to each of ``dtypes`` and differentiated; integers and booleans are passed on.
        dtypes: What to compare in: "float64", "float32", "bfloat16", "float16". float64 turns
            ``jax_enable_x64`` on for as long as it lasts, and is by far the sharpest.
        order: 0 for values alone, 1 for gradients, 2 for second derivatives as well: the
            gradient of <c, J u> for random c and u, in ours by three routes.
        forward: Also compare J u, the derivative in forward mode.
        under: How ours is called: as it is ("eager"), under "jit", under "vmap" over two
            examples.
        ulp: How many units in the last place of the magnitude that an entry could have reached
            may lie between both; 64 in float64 and float32, 8 in 16 bits.
        equal_nan: Let NaN equal NaN, and operands hold it.
        seed: Of cotangents and tangents.
        name: For messages and tables; by default what ``ours`` is called.

    Returns:
        The differences, which print as a table.

    Raises:
        AssertionError: The two differ.
        TypeError: Torch cannot take an operand; a function returns something else than arrays.
        ValueError: A function returns nothing; there is nothing to differentiate; an operand
            holds NaN; theirs draws random numbers; an option is none of those above.

    Example:
        >>> import jax, numpy as np, torch
        >>> x = np.linspace(-3, 3, 10)
        >>> print(assert_parity(jax.nn.silu, torch.nn.functional.silu, x).rows[0].what)
        value
    """
    from jaxwarp.testing import _functions
    from jaxwarp.testing._judge import Wanted

    _among("dtypes", dtypes, _DTYPES)
    wanted = Wanted(_order(order), forward, _among("under", under, _WAYS), ulp, equal_nan, seed)
    label = name or getattr(ours, "__name__", type(ours).__name__)
    return _functions.compare_functions(ours, theirs, operands, dtypes, wanted, label)


def assert_module_parity(
    ours: nnx.Module,
    theirs: torch.nn.Module,
    *inputs: PyTree,
    rename: Mapping[str, str] | None = None,
    flattened: Mapping[str, Sequence[int] | None] | None = None,
    steps: int = 0,
    rate: float = 0.01,
    in_layouts: Sequence[str | None] | str | None = None,
    out_layouts: Sequence[str | None] | str | None = None,
    modes: Sequence[str] = ("evaluation", "training"),
    dtypes: Sequence[str] = ("float64",),
    under: Sequence[str] = ("jit",),
    ulp: float | None = None,
    equal_nan: bool = False,
    seed: int = 0,
    name: str | None = None,
) -> Report:
    """Fail unless an nnx module computes what the torch module does that it ports.

    Copies of both are compared, neither is changed: ours takes the weights of theirs (see
    `jaxwarp.interop.load_state_dict`). In each mode the outputs, the gradient of every
    parameter by its name in torch, of every floating input, and the buffers after the call.
    Dropout is off on both sides in training, too: the two draw different random numbers.

    ``flax.nnx.BatchNorm`` averages the variance divided by n, torch the one divided by n - 1;
    the running variance of such layers is compared with that taken out, and the report says so.

    Args:
        ours: The nnx module; its own values don't matter.
        theirs: The torch module.
        inputs: NumPy arrays or trees of them, in torch's layout; floating ones are cast.
        rename: As in ``load_state_dict``.
        flattened: As in ``load_state_dict``. If it lacks a layer there is no warning: where the
            two differ and nothing likelier is found, the message says so.
        steps: So many steps of plain gradient descent are taken on both sides, towards random
            outputs at the least mean square; their losses are compared. Needs "training".
        rate: The step size of that.
        in_layouts: How each input is laid out in torch and here, in letters: "NCHW->NHWC";
            None for those that are the same. One string for a single input.
        out_layouts: The same for each output.
        modes: "evaluation", "training", or both.
        dtypes: As in `assert_parity`; both modules are cast. A float64 comparison of modules
            that are trained in float32 is meant: it tells mistakes from rounding.
        under: As in `assert_parity`.
        ulp: As in `assert_parity`.
        equal_nan: As in `assert_parity`.
        seed: Of cotangents and targets.
        name: For messages and tables; by default the name of ours' class.

    Returns:
        The differences, which print as a table.

    Raises:
        AssertionError: The two differ; names the first layer whose output does, and where it
            can the mistake.
        TypeError: ours or theirs is no module; an input is not what torch can take.
        ValueError: The weights don't fit; a layout does not fit; theirs draws random numbers.

    Example:
        >>> import numpy as np, torch
        >>> from flax import nnx
        >>> ours, theirs = nnx.Linear(3, 2, rngs=nnx.Rngs(0)), torch.nn.Linear(3, 2)
        >>> x = np.random.default_rng(0).normal(size=(4, 3))
        >>> report = assert_module_parity(ours, theirs, x, modes=["evaluation"])
        >>> [row.what for row in report.rows]  # doctest: +NORMALIZE_WHITESPACE
        ['evaluation: value', 'evaluation: d bias', 'evaluation: d weight',
         'evaluation: d input 0']
    """
    from jaxwarp.testing import _modules
    from jaxwarp.testing._judge import Wanted

    _among("dtypes", dtypes, _DTYPES)
    _among("modes", modes, ("evaluation", "training"))
    wanted = Wanted(1, False, _among("under", under, _WAYS), ulp, equal_nan, seed)
    port = _modules.Port(
        ours, theirs, rename or {}, flattened or {}, in_layouts, out_layouts, inputs
    )
    training = _modules.Training(steps, rate)
    label = name or type(ours).__name__
    return _modules.compare_modules(port, modes, dtypes, training, wanted, label)


def _among(name: str, given: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    given = (given,) if isinstance(given, str) else tuple(given)
    if not given or not set(given) <= set(known):
        raise ValueError(f"{name} must be of {', '.join(known)}, got {', '.join(given) or 'none'}")
    return given


def _order(order: int) -> int:
    if order not in (0, 1, 2):
        raise ValueError(f"order must be 0, 1 or 2, got {order!r}")
    return order
