"""Wrong calls of what makes, converts, composes and inverts matrices."""

import numpy as np

from parity_tests.harness.wrong_calls.grids import SIZE, THETA
from parity_tests.harness.wrong_calls.row import Wrong
from parity_tests.harness.wrong_calls.sampling import corners, zeros


def _sizes(op: str, before: tuple[object, ...] = (), argument: str = "size") -> list[Wrong]:
    """Return what is no size, whatever it is the size of."""
    return [
        Wrong(f"{argument} {name}", op, (*before, size), error, (argument, *says))
        for name, size, error, says in [
            ("short", (2,) * (argument == "size"), ValueError, ("entries",)),
            ("long", (2, 3, 1, 1, 1, 1), ValueError, ("entries", "(2, 3, 1, 1, 1, 1)")),
            ("no height", (2, 3, 0, 5), ValueError, ("positive", "(2, 3, 0, 5)")),
            ("negative", (2, 3, -4, 5), ValueError, ("positive", "(2, 3, -4, 5)")),
            ("float", (2, 3, 4.0, 5), TypeError, ("integers", "4.0")),
            ("bool", (2, 3, True, 5), TypeError, ("integers", "True")),
            ("word", "2345", TypeError, ("tuple or list of integers", "str")),
            ("number", 4, TypeError, ("tuple or list of integers", "int")),
            ("in an array", np.array(SIZE), TypeError, ("tuple or list of integers",)),
        ]
    ]


def _channel_axes(op: str, *arguments: object) -> list[Wrong]:
    return [
        Wrong(f"channel axis {value!r}", op, arguments, error, says, {"channel_axis": value})
        for value, error, says in [
            (2, ValueError, ("channel_axis", "1 or -1", "2")),
            ("last", TypeError, ("channel_axis", "'last'")),
            (True, TypeError, ("channel_axis", "True")),
        ]
    ]


# affine_matrix ----------------------------------------------------------------


def _made(name: str, error: type[Exception], *says: str, **options: object) -> Wrong:
    return Wrong(name, "affine_matrix", (SIZE,), error, says, options)


def _one_for_each(option: str) -> list[Wrong]:
    """Return what is neither a number nor one for each of the two pictures."""
    rule = f"{option} must be a number or (2,) for 2 pictures"
    return [
        _made(f"{option} for 3", ValueError, rule, "got shape (3,)", **{option: zeros(3)}),
        _made(f"{option} for 1", ValueError, rule, "got shape (1,)", **{option: [30.0]}),
        _made(f"{option} column", ValueError, rule, "(2, 1)", **{option: zeros(2, 1)}),
        *_no_numbers(option),
    ]


def _pair_for_each(option: str) -> list[Wrong]:
    """Return what is neither a pair of numbers nor one for each of the two pictures."""
    rule = f"{option} must be (2,) or (2, 2), listed (x, y) for 2 pictures"
    return [
        _made(f"{option} of three", ValueError, rule, "got shape (3,)", **{option: (1, 2, 3)}),
        _made(f"{option} for 3", ValueError, rule, "(3, 2)", **{option: zeros(3, 2)}),
        _made(f"{option} scalar", ValueError, rule, "()", **{option: np.float32(4)}),
        *_no_numbers(option),
    ]


def _no_numbers(option: str) -> list[Wrong]:
    return [
        _made(f"{option} word", TypeError, f"{option} must be", "str", **{option: "90"}),
        _made(f"{option} set", TypeError, f"{option} must be", "set", **{option: {1.0, 2.0}}),
    ]


_MATRIX = [
    Wrong("a signal", "affine_matrix", ((2, 3, 40),), ValueError, ("size", "4 entries")),
    Wrong("a volume", "affine_matrix", ((2, 3, 4, 5, 6),), ValueError, ("size", "4 entries")),
    *_sizes("affine_matrix"),
    *_one_for_each("angle"),
    *_one_for_each("scale"),
    *(
        _made(f"scale {s!r}", ValueError, "scale must be positive", repr(s), scale=s)
        for s in (0, 0.0, -1.5, float("nan"))
    ),
    *_pair_for_each("shear"),
    *_pair_for_each("translate"),
    *_pair_for_each("center"),
    _made("translate number", ValueError, "translate must be (2,) or (2, 2)", translate=4.0),
    _made("center number", ValueError, "center must be (2,) or (2, 2)", center=0.0),
    _made("angle None", TypeError, "angle must be", "NoneType", angle=None),
    *corners("affine_matrix", SIZE, torch_too=False),
    *_channel_axes("affine_matrix", SIZE),
]

# theta_from_pixels ------------------------------------------------------------


def _pixels(
    name: str, arguments: tuple[object, ...], error: type[Exception], *says: str, **options: object
) -> Wrong:
    return Wrong(name, "theta_from_pixels", arguments, error, says, options)


_EITHER = "matrix must be (N, 2, 3) or (N, 3, 3)"
_OUT = "out_size must be (*spatial) with 2 entries, or (N, C, *spatial) with 4"

_PIXELS = [
    _pixels("one matrix", (THETA[0], SIZE), ValueError, _EITHER, "matrix[None]"),
    _pixels("wide", (zeros(2, 2, 4), SIZE), ValueError, _EITHER, "got shape (2, 2, 4)"),
    _pixels("flat", (zeros(2, 6), SIZE), ValueError, _EITHER, "got shape (2, 6)"),
    _pixels(
        "of a plane",
        (THETA, (2, 3, 4, 5, 6)),
        ValueError,
        "matrix must be (N, 3, 4) or (N, 4, 4)",
        "3 spatial axes",
    ),
    _pixels("batch", (THETA[:1], SIZE), ValueError, "matrix must be of batch size 2", "(1, 2, 3)"),
    _pixels("int", (THETA.astype("int32"), SIZE), TypeError, "matrix", "int32"),
    _pixels("complex", (THETA.astype("complex64"), SIZE), TypeError, "matrix", "complex64"),
    _pixels("list", (THETA.tolist(), SIZE), TypeError, "matrix", "list"),
    _pixels("None", (None, SIZE), TypeError, "matrix", "NoneType"),
    *_sizes("theta_from_pixels", (THETA,)),
    *_sizes("theta_from_pixels", (THETA, SIZE), "out_size"),
    _pixels("out_size of a volume", (THETA, SIZE, (3, 4, 5)), ValueError, _OUT, "(3, 4, 5)"),
    _pixels(
        "out_size, channels last",
        (THETA, SIZE, (3,)),
        ValueError,
        "out_size must be (*spatial) with 2 entries, or (N, *spatial, C) with 4",
        channel_axis=-1,
    ),
    *corners("theta_from_pixels", THETA, SIZE, torch_too=False),
    *_channel_axes("theta_from_pixels", THETA, SIZE),
]

# compose_affine and invert_affine ---------------------------------------------

_ALGEBRA = [
    Wrong(name, *rest)
    for name, *rest in [
        (
            "outer shape",
            "compose_affine",
            (zeros(2, 2, 2), THETA),
            ValueError,
            ("outer", "(2, 2, 2)"),
        ),
        (
            "inner shape",
            "compose_affine",
            (THETA, zeros(2, 3, 4)),
            ValueError,
            ("inner", "(2, 2, 3)", "(2, 3, 4)"),
        ),
        (
            "batches",
            "compose_affine",
            (THETA, THETA[:1]),
            ValueError,
            ("inner", "(2, 2, 3)", "(1, 2, 3)"),
        ),
        ("outer list", "compose_affine", ([], THETA), TypeError, ("outer", "list")),
        ("int", "invert_affine", (THETA.astype("int32"),), TypeError, ("theta", "int32")),
        ("square", "invert_affine", (zeros(2, 3, 3),), ValueError, ("theta", "(2, 3, 3)")),
        ("one", "invert_affine", (zeros(2, 3),), ValueError, ("theta", "(2, 3)")),
    ]
]

TABLE = [*_MATRIX, *_PIXELS, *_ALGEBRA]
