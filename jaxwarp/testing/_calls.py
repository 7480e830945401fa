"""How torch's functions are called: their arguments by name."""

import inspect
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F

CONVS = (torch.conv1d, torch.conv2d, torch.conv3d)
TRANSPOSED = (torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d)
VARIANCES = (torch.var, torch.std, torch.Tensor.var, torch.Tensor.std)
# The parameters of functions written in C++, which have no signature to look at: those that
# are given by position, and the others.
_BUILT_IN = {
    **dict.fromkeys(
        CONVS, (("input", "weight", "bias", "stride", "padding", "dilation", "groups"), ())
    ),
    **dict.fromkeys(
        TRANSPOSED,
        (
            (
                "input",
                "weight",
                "bias",
                "stride",
                "padding",
                "output_padding",
                "groups",
                "dilation",
            ),
            (),
        ),
    ),
    F.gelu: (("input",), ("approximate",)),
    F.linear: (("input", "weight", "bias"), ()),
    F.avg_pool2d: (
        (
            "input",
            "kernel_size",
            "stride",
            "padding",
            "ceil_mode",
            "count_include_pad",
            "divisor_override",
        ),
        (),
    ),
    torch.Tensor.detach: (("input",), ()),
    torch.detach: (("input",), ()),
    **dict.fromkeys(VARIANCES, (("input", "dim"), ("unbiased", "correction", "keepdim"))),
}
_CONV = {"bias": None, "stride": 1, "padding": 0, "dilation": 1, "groups": 1}
_DEFAULTS = {
    F.gelu: {"approximate": "none"},
    F.linear: {"bias": None},
    F.avg_pool2d: {"stride": None, "padding": 0, "ceil_mode": False, "count_include_pad": True}
    | {"divisor_override": None},
    **dict.fromkeys(CONVS, _CONV),
    **dict.fromkeys(TRANSPOSED, _CONV | {"output_padding": 0}),
}


@cache
def signature(function: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the arguments that may be given by position, and of the others."""
    if function in _BUILT_IN:
        return _BUILT_IN[function]
    return tuple(inspect.signature(function).parameters), ()


def bound(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return a call's arguments by name."""
    names, _ = signature(function)
    given = dict(zip(names, args, strict=False)) | dict(kwargs)
    if function in _BUILT_IN:
        defaults = _DEFAULTS.get(function, {})
    else:
        parameters = inspect.signature(function).parameters.values()
        defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    return defaults | given
