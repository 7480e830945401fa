"""The conventions in which ports go wrong, each as a change to a call of torch's."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from jaxwarp.testing._calls import CONVS, TRANSPOSED, VARIANCES, signature

# What some function of torch was called with, by name, and what of it is to be another.
Arguments = Mapping[str, Any]
Change = dict[str, Any]


class Suspect(NamedTuple):
    """A change to the arguments of some functions, and what it says of ours.

    ``change`` returns the arguments that differ; nothing where the change does not apply.
    """

    functions: tuple[Callable[..., torch.Tensor], ...]
    change: Callable[[Arguments], Change]
    say: Callable[[Arguments, Change], str]

    def applies(self, arguments: Arguments) -> bool:
        """Tell whether there is anything to change in this call."""
        return bool(self.change(arguments))

    def call(self, function: Callable[..., torch.Tensor], arguments: Arguments) -> torch.Tensor:
        """Call the function with the change made."""
        changed = dict(arguments) | self.change(arguments)
        if "conv" in getattr(function, "__name__", "") and isinstance(changed["padding"], _Sides):
            changed["input"] = F.pad(changed["input"], list(changed["padding"]))
            changed["padding"] = 0
        positional = [changed.pop(name) for name in signature(function)[0] if name in changed]
        return function(*positional, **changed)

    def said(self, arguments: Arguments) -> str:
        """Say what ours does, seen from torch's call."""
        return self.say(arguments, self.change(arguments))


_NORMS = (F.batch_norm, F.layer_norm, F.group_norm, F.instance_norm)


class _Sides(tuple):
    """Padding for each side of each axis, as F.pad takes it."""


# The changes ------------------------------------------------------------------


def _to(name: str, value: object) -> Callable[[Arguments], Change]:
    """Set one argument, where it is another."""
    return lambda given: {name: value} if name in given and given[name] != value else {}


def _setting(a: Arguments, change: Change) -> str:
    (name, ours), *_ = change.items()
    return f"ours computes as with {name}={ours!r}, torch with {name}={a.get(name)!r}"


def _flipped_corners(given: Arguments) -> Change:
    if given.get("mode") in ("nearest", "area", "nearest-exact") and "scale_factor" in given:
        return {}  # interpolate takes it only where it means something
    return {"align_corners": not given.get("align_corners")}


def _other_gelu(given: Arguments) -> Change:
    return {"approximate": "none" if given.get("approximate") == "tanh" else "tanh"}


def _other_momentum(given: Arguments) -> Change:
    m = given.get("momentum")
    return {"momentum": 1 - m} if m is not None and given.get("training") else {}


def _say_momentum(given: Arguments, change: Change) -> str:
    m, ours = given["momentum"], change["momentum"]
    return (
        f"ours averages as with momentum={ours:.4g} of torch's, which is {1 - ours:.4g} in Flax; "
        f"torch has momentum={m:.4g}, which is {1 - m:.4g} in Flax"
    )


def _momentum(value: float) -> Callable[[Arguments], Change]:
    return lambda given: _to("momentum", value)(given) if given.get("training") else {}


def _same_padding(given: Arguments) -> Change:
    """Pad as "SAME" does in XLA: as little as gives ceil(size / stride), the odd one last."""
    size, window = given["input"].shape[2:], given["weight"].shape[2:]
    stride, dilation = (_each(given[name], len(size)) for name in ("stride", "dilation"))
    if max(stride) == 1 or isinstance(given["padding"], str):
        return {}
    sides: list[int] = []
    for n, k, s, d in zip(size, window, stride, dilation, strict=True):
        total = max((math.ceil(n / s) - 1) * s + (k - 1) * d + 1 - n, 0)
        sides = [total // 2, total - total // 2, *sides]
    same = list(_each(given["padding"], len(size)))
    return {} if sides == [p for p in same[::-1] for _ in range(2)] else {"padding": _Sides(sides)}


def _say_padding(given: Arguments, change: Change) -> str:
    sides = change["padding"]
    pairs = [(sides[i], sides[i + 1]) for i in range(len(sides) - 2, -1, -2)]
    return (
        f'ours pads {pairs} before and after, as "SAME" does; torch pads '
        f"{tuple(_each(given['padding'], len(pairs)))} on both sides"
    )


def _each(x: int | Sequence[int], count: int) -> tuple[int, ...]:
    if isinstance(x, int):
        return (x,) * count
    return tuple(x) * (count if len(x) == 1 else 1)


def _transposed_window(given: Arguments) -> Change:
    w = given["weight"]
    square = w.ndim == 4 and w.shape[2] == w.shape[3] > 1
    return {"weight": w.transpose(2, 3)} if square else {}


def _flipped_window(given: Arguments) -> Change:
    w = given["weight"]
    return {"weight": w.flip(tuple(range(2, w.ndim)))} if max(w.shape[2:]) > 1 else {}


def _transposed_weight(given: Arguments) -> Change:
    w = given["weight"]
    square = w.ndim >= 2 and w.shape[0] == w.shape[1] > 1
    return {"weight": w.transpose(0, 1)} if square else {}


def _unpermuted(given: Arguments) -> Change:
    x = given["input"]
    shape = getattr(x, "flattened_from", ())
    spread = len(shape) > 1 and shape[0] > 1 and math.prod(shape[1:]) > 1
    return {"input": x.unflatten(1, shape).movedim(1, -1).flatten(1)} if spread else {}


def _permuted(given: Arguments) -> Change:
    if not _unpermuted(given):
        return {}
    channels, *spatial = _map(given)
    return {"input": given["input"].unflatten(1, (*spatial, channels)).movedim(-1, 1).flatten(1)}


def _map(given: Arguments) -> tuple[int, ...]:
    return tuple(given["input"].flattened_from)


def _biased(given: Arguments) -> Change:
    given = {k: v for k, v in given.items() if k in ("unbiased", "correction", "dim")}
    asked = given.get("unbiased", given.get("correction", 1))
    return {("unbiased" if "unbiased" in given else "correction"): 0} if asked else {}


def _attached(given: Arguments) -> Change:
    return {"attached": True} if given["input"].requires_grad else {}


class _Attached(Suspect):
    """Go on as if ``detach`` were not called."""

    def call(self, function: Callable[..., torch.Tensor], arguments: Arguments) -> torch.Tensor:
        return arguments["input"].clone()


def _words(text: str) -> Callable[[Arguments, Change], str]:
    return lambda given, change: text


SUSPECTS: tuple[Suspect, ...] = (
    Suspect((F.grid_sample, F.affine_grid, F.interpolate), _flipped_corners, _setting),
    *(
        Suspect((function,), _flipped_corners, _setting)
        for function in (F.grid_sample, F.affine_grid, F.interpolate)
    ),
    Suspect((F.interpolate,), _to("antialias", True), _setting),
    *(Suspect((F.interpolate,), _to("mode", m), _setting) for m in ("nearest-exact", "bicubic")),
    *(
        Suspect((F.grid_sample,), _to("padding_mode", p), _setting)
        for p in ("zeros", "border", "reflection")
    ),
    *(
        Suspect((F.grid_sample,), _to("mode", m), _setting)
        for m in ("bilinear", "nearest", "bicubic")
    ),
    Suspect(
        (F.linear,),
        _unpermuted,
        lambda given, change: (
            f"ours flattens channels last, but its columns count through {_map(given)} as torch's "
            f"do: pass flattened={{name: {_map(given)}}}"
        ),
    ),
    Suspect(
        (F.linear,),
        _permuted,
        lambda given, change: (
            f"ours flattens channels first, as torch does, but its columns were permuted: leave "
            f"out flattened={{name: {_map(given)}}}"
        ),
    ),
    *(Suspect((norm,), _to("eps", e), _setting) for norm in _NORMS for e in (1e-5, 1e-6, 1e-3)),
    Suspect((F.batch_norm,), _other_momentum, _say_momentum),
    *(Suspect((F.batch_norm,), _momentum(m), _say_momentum) for m in (0.1, 0.01)),
    Suspect((F.gelu,), _other_gelu, _setting),
    Suspect(CONVS, _same_padding, _say_padding),
    Suspect(
        CONVS,
        _transposed_window,
        _words("ours takes the kernel with height and width exchanged (a transposed kernel)"),
    ),
    Suspect(
        (*CONVS, *TRANSPOSED),
        _flipped_window,
        _words("ours takes the kernel flipped: it convolves where torch correlates, or vice versa"),
    ),
    Suspect(
        (F.linear, *CONVS, *TRANSPOSED),
        _transposed_weight,
        _words("ours takes the kernel with inputs and outputs exchanged (a transposed kernel)"),
    ),
    Suspect((F.avg_pool2d,), _to("count_include_pad", False), _setting),
    Suspect(VARIANCES, _biased, _words("ours divides the variance by n, torch by n - 1")),
    _Attached(
        (torch.Tensor.detach, torch.detach),
        _attached,
        _words("torch detaches a gradient here, ours does not: jax.lax.stop_gradient"),
    ),
)
