"""Wrong calls of what warps by flows and composes them."""

import jax
import numpy as np
import torch

from parity_tests.harness.wrong_calls.row import Wrong
from parity_tests.harness.wrong_calls.sampling import IMAGE, paddings, zeros

FLOW = zeros(2, 4, 5, 2)
CHANNELS_FIRST = zeros(2, 2, 4, 5)

# Warp images ------------------------------------------------------------------


def _warp(
    name: str,
    arguments: tuple[object, ...],
    error: type[Exception],
    *says: str,
    **options: object,
) -> Wrong:
    return Wrong(name, "warp_flow", arguments, error, says, options)


_LAST = zeros(2, 4, 5, 3)
_FITS = "flow must be (2, 2, 4, 5)"

_WARP_SHAPES = [
    _warp("channels last", (IMAGE, FLOW), ValueError, _FITS, "jnp.moveaxis(flow, -1, 1)"),
    _warp(
        "channels first",
        (_LAST, CHANNELS_FIRST),
        ValueError,
        "flow must be (2, 4, 5, 2)",
        "jnp.moveaxis(flow, 1, -1)",
        channel_axis=-1,
    ),
    _warp("one flow", (IMAGE, CHANNELS_FIRST[0]), ValueError, "flow[None] is a batch of one"),
    _warp("one image", (IMAGE[0], CHANNELS_FIRST[:1]), ValueError, "input[None] is a batch of one"),
    _warp("swapped", (CHANNELS_FIRST, IMAGE), ValueError, "the order is input, flow", "swapped"),
    _warp("batch", (IMAGE, CHANNELS_FIRST[:1]), ValueError, _FITS, "got shape (1, 2, 4, 5)"),
    _warp("image batch", (IMAGE[:1], CHANNELS_FIRST), ValueError, "flow must be (1, 2, 4, 5)"),
    _warp("size", (IMAGE, zeros(2, 2, 4, 6)), ValueError, _FITS, "got shape (2, 2, 4, 6)"),
    _warp("components", (IMAGE, zeros(2, 3, 4, 5)), ValueError, _FITS, "got shape (2, 3, 4, 5)"),
    _warp("volume", (zeros(2, 3, 4, 5, 6), CHANNELS_FIRST), ValueError, "(2, 3, 4, 5, 6)"),
    _warp("scalar flow", (IMAGE, np.float32(0)), ValueError, _FITS, "got shape ()"),
    _warp(
        "empty",
        (zeros(2, 3, 0, 5), zeros(2, 2, 0, 5)),
        ValueError,
        "input must be (N, C, *spatial)",
        "with no empty spatial axis",
    ),
    _warp(
        "empty, channels last",
        (zeros(2, 4, 0, 3), zeros(2, 4, 0, 2)),
        ValueError,
        "input must be (N, *spatial, C)",
        channel_axis=-1,
    ),
    _warp("no axes", (zeros(2, 3), zeros(2, 0)), ValueError, "input", "1, 2 or 3 spatial axes"),
    _warp(
        "4 axes",
        (zeros(1, 1, 2, 2, 2, 2), zeros(1, 4, 2, 2, 2, 2)),
        ValueError,
        "input",
        "1, 2 or 3 spatial axes",
    ),
]

_WARP_TYPES = [
    _warp("image uint8", (IMAGE.astype("uint8"), CHANNELS_FIRST), TypeError, "input", "x / 255"),
    _warp("image complex", (IMAGE + 0j, CHANNELS_FIRST), TypeError, "input", "complex64"),
    _warp("image list", (IMAGE.tolist(), CHANNELS_FIRST), TypeError, "input", "array", "list"),
    _warp("image None", (None, CHANNELS_FIRST), TypeError, "input", "array", "NoneType"),
    _warp(
        "image tensor",
        (torch.zeros(2, 3, 4, 5), CHANNELS_FIRST),
        TypeError,
        "input",
        "torch Tensor",
        "jaxwarp.interop.from_torch",
    ),
    _warp(
        "flow int",
        (IMAGE, CHANNELS_FIRST.astype(int)),
        TypeError,
        "flow must have a real floating-point",
        "x.astype(jnp.float32)",
    ),
    _warp("flow list", (IMAGE, CHANNELS_FIRST.tolist()), TypeError, "flow", "array", "list"),
    _warp("flow None", (IMAGE, None), TypeError, "flow", "array", "NoneType"),
]

_RIGHT = (IMAGE, CHANNELS_FIRST)

_WARP_OPTIONS = [
    _warp("mode", (*_RIGHT, "linear"), ValueError, "mode must be one of", "'bilinear'", "'linear'"),
    _warp("mode None", (*_RIGHT, None), ValueError, "mode", "None"),
    *paddings("warp_flow", *_RIGHT),
    _warp("channel axis", _RIGHT, ValueError, "channel_axis", "1 or -1", "0", channel_axis=0),
    _warp("channel axis bool", _RIGHT, TypeError, "channel_axis", "True", channel_axis=True),
    _warp("channel axis word", _RIGHT, TypeError, "channel_axis", "'last'", channel_axis="last"),
]

# Flows alone ------------------------------------------------------------------

ARGUMENTS = {
    "compose_flow": ("outer", "inner"),
    "invert_flow": ("flow",),
    "integrate_velocity": ("velocity",),
    "flow_jacobian_determinant": ("flow",),
}
_SHAPES = {
    "one coordinate too many": zeros(2, 4, 5, 3),
    "channels first": CHANNELS_FIRST,
    "no spatial axis": zeros(2, 0),
    "four spatial axes": zeros(1, 2, 2, 2, 2, 4),
    "an empty axis": zeros(2, 0, 5, 2),
    "no batch": zeros(4, 2),
    "scalar": np.float32(0),
}
_TYPES = {
    "int32": FLOW.astype("int32"),
    "complex64": FLOW.astype("complex64"),
    "list": FLOW.tolist(),
    "NoneType": None,
}


def _flow(op: str, name: str, error: type[Exception], *says: str, **changed: object) -> Wrong:
    right = dict.fromkeys(ARGUMENTS[op], FLOW)
    return Wrong(name, op, (), error, says, right | changed)


def _no_flows(op: str, argument: str) -> list[Wrong]:
    shape = f"{argument} must be (N, *spatial, n) with n = 1, 2 or 3 non-empty spatial axes"
    return [
        *(
            _flow(
                op,
                f"{argument}, {name}",
                ValueError,
                shape,
                f"got shape {wrong.shape}",
                **{argument: wrong},
            )
            for name, wrong in _SHAPES.items()
        ),
        *(
            _flow(op, f"{argument} {came}", TypeError, argument, came, **{argument: wrong})
            for came, wrong in _TYPES.items()
        ),
    ]


def _steps(op: str, *out_of_range: int) -> list[Wrong]:
    wrong = [(s, ValueError) for s in out_of_range]
    wrong += [(s, TypeError) for s in (7.0, True, "7", None, [7])]
    return [_flow(op, f"steps {s!r}", e, "steps", repr(s), steps=s) for s, e in wrong]


def _steps_in_an_array(op: str) -> list[Wrong]:
    # Steps are static: which program is traced depends on them.
    says = "steps must be an integer, got an array of dtype"
    return [
        _flow(op, f"steps in an array, {x!r}", TypeError, says, steps=x)
        for x in (np.ones(1), np.array([7]), np.array(7), jax.device_put(7))
    ]


TABLE = [
    *_WARP_SHAPES,
    *_WARP_TYPES,
    *_WARP_OPTIONS,
    *(row for op, names in ARGUMENTS.items() for name in names for row in _no_flows(op, name)),
    *(
        _flow("compose_flow", f"two shapes, {x.shape}", ValueError, "inner", "outer", inner=x)
        for x in (FLOW[:1], FLOW[:, :3], zeros(2, 9, 1))
    ),
    *paddings("compose_flow", FLOW, FLOW),
    *paddings("invert_flow", FLOW),
    *paddings("integrate_velocity", FLOW),
    *_steps("invert_flow", 0, -1),
    *_steps("integrate_velocity", -1, 65),
    *_steps_in_an_array("invert_flow"),
    *_steps_in_an_array("integrate_velocity"),
]
