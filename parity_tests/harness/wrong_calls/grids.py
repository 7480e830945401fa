"""Wrong calls of what makes grids."""

import numpy as np

from parity_tests.harness.wrong_calls.row import Wrong
from parity_tests.harness.wrong_calls.sampling import corners, zeros

THETA, SIZE, FLOW = zeros(2, 2, 3), (2, 3, 4, 5), zeros(2, 6, 7, 2)


def _matrix_grid(op: str, rows: int, torch_too: bool) -> list[Wrong]:
    theta = zeros(2, rows, 3)

    def wrong(name, *rest, **keywords):
        return Wrong(name, op, *rest, **({"torch_too": torch_too} | keywords))

    shape = f"({rows}, 3)"
    return [
        wrong("int theta", (theta.astype("int32"), SIZE), TypeError, ("theta", "int32")),
        wrong(
            "complex theta", (theta.astype("complex64"), SIZE), TypeError, ("theta", "complex64")
        ),
        wrong("list theta", (theta.tolist(), SIZE), TypeError, ("theta", "list")),
        wrong("None theta", (None, SIZE), TypeError, ("theta", "NoneType")),
        wrong("square theta", (zeros(2, 3, 4), SIZE), ValueError, ("theta", "(2, 3, 4)")),
        wrong("wide theta", (zeros(2, rows, 4), SIZE), ValueError, ("theta", f"(2, {rows}, 4)")),
        wrong("one matrix", (theta[0], SIZE), ValueError, ("theta", shape)),
        wrong(
            "theta of a plane", (theta, (2, 3, 4, 5, 6)), ValueError, ("theta", f"(2, {rows}, 3)")
        ),
        wrong("batch", (theta, (3, 3, 4, 5)), ValueError, ("theta", "3", f"(2, {rows}, 3)")),
        wrong("short size", (theta, (2, 3)), ValueError, ("size", "(2, 3)")),
        wrong("long size", (theta, (2, 3, 1, 1, 1, 1)), ValueError, ("size", "(2, 3, 1, 1, 1, 1)")),
        wrong("empty size", (theta, ()), ValueError, ("size", "()")),
        wrong("no height", (theta, (2, 3, 0, 5)), ValueError, ("size", "positive", "(2, 3, 0, 5)")),
        wrong(
            "no batch", (theta[:0], (0, 3, 4, 5)), ValueError, ("size", "positive", "(0, 3, 4, 5)")
        ),
        wrong(
            "no channels", (theta, (2, 0, 4, 5)), ValueError, ("size", "positive", "(2, 0, 4, 5)")
        ),
        wrong(
            "negative", (theta, (2, 3, -4, 5)), ValueError, ("size", "positive", "(2, 3, -4, 5)")
        ),
        wrong("float", (theta, (2, 3, 4.0, 5)), TypeError, ("size", "integers", "4.0")),
        wrong("word", (theta, "2345"), TypeError, ("size", "str")),
        wrong("number", (theta, 4), TypeError, ("size", "int")),
        wrong("None size", (theta, None), TypeError, ("size", "NoneType")),
        wrong(
            "array size", (theta, np.array(SIZE)), TypeError, ("size", "ndarray"), torch_too=False
        ),
    ]


TABLE = [
    *_matrix_grid("affine_grid", 2, torch_too=True),
    *corners("affine_grid", THETA, SIZE),
    *_matrix_grid("homography_grid", 3, torch_too=False),
    *corners("homography_grid", zeros(2, 3, 3), SIZE, torch_too=False),
    *corners("flow_grid", FLOW, torch_too=False),
    *(
        Wrong(name, *rest)
        for name, *rest in [
            ("flow int", "flow_grid", (FLOW.astype("int32"),), TypeError, ("flow", "int32")),
            ("flow list", "flow_grid", (FLOW.tolist(),), TypeError, ("flow", "list")),
            ("flow axes", "flow_grid", (zeros(2, 6, 7, 3),), ValueError, ("flow", "(2, 6, 7, 3)")),
            ("flow vector", "flow_grid", (zeros(2, 2),), ValueError, ("flow", "(2, 2)")),
            ("flow empty", "flow_grid", (zeros(2, 0, 7, 2),), ValueError, ("flow", "(2, 0, 7, 2)")),
        ]
    ),
]
