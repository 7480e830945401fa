"""Wrong calls of thin-plate splines."""

import jax
import numpy as np

import jaxwarp
from parity_tests.harness.control_points import scattered
from parity_tests.harness.wrong_calls.row import Wrong

T, S, P = (np.zeros(shape) for shape in ((2, 5, 2), (2, 5, 2), (2, 7, 2)))
GOOD = np.stack([scattered(5), scattered(5, seed=1)])
_SIZES = (2, 2), (2,), (2, 5, 2), (2, 5, 2), (2, 3, 2)
SPLINE = jaxwarp.ThinPlateSpline(*(jax.device_put(np.zeros(size)) for size in _SIZES))

TABLE = [
    Wrong("list", "tps_fit", ([[0.0, 0.0]], S), TypeError, ("target", "got list")),
    Wrong("integers", "tps_fit", (T.astype(int), S), TypeError, ("target", "int64")),
    Wrong("complex", "tps_fit", (T, S + 0j), TypeError, ("source", "complex128")),
    Wrong("no batch", "tps_fit", (T[0], S), ValueError, ("target", "(N, T, n)", "(5, 2)")),
    Wrong("4-D", "tps_fit", (T, np.zeros((2, 5, 4))), ValueError, ("source", "1, 2 or 3")),
    Wrong(
        "too few",
        "tps_fit",
        (T[:, :2], S[:, :2]),
        ValueError,
        ("target", "at least 3 points, got shape (2, 2, 2)"),
    ),
    Wrong("count", "tps_fit", (T, S[:, :4]), ValueError, ("source", "(N, 5, 2)", "5 points")),
    Wrong("axes", "tps_fit", (T, np.zeros((2, 5, 3))), ValueError, ("source", "(N, 5, 2)")),
    Wrong("batch", "tps_fit", (T, S[:1]), ValueError, ("target has 2, source has 1",)),
    Wrong("negative", "tps_fit", (GOOD, GOOD), ValueError, ("smoothing", "-1"), {"smoothing": -1}),
    Wrong(
        "smoothing nan",
        "tps_fit",
        (GOOD, GOOD),
        ValueError,
        ("smoothing", "nan"),
        {"smoothing": np.array(np.nan)},
        known=True,
    ),
    Wrong("flag", "tps_fit", (T, S), TypeError, ("smoothing", "bool"), {"smoothing": True}),
    Wrong("vector", "tps_fit", (T, S), ValueError, ("scalar",), {"smoothing": np.zeros(2)}),
    Wrong("no spline", "tps_apply", (T, P), TypeError, ("spline", "ndarray"), known=True),
    Wrong("no energy", "bending_energy", (T,), TypeError, ("spline", "ndarray"), known=True),
    Wrong(
        "points' axes",
        "tps_apply",
        (SPLINE, np.zeros((2, 7, 3))),
        ValueError,
        ("points", "(N, ..., 2)"),
    ),
    Wrong("points' batch", "tps_apply", (SPLINE, P[:1]), ValueError, ("points has 1",)),
    Wrong("integer points", "tps_invert", (SPLINE, P.astype(int)), TypeError, ("points", "int64")),
    Wrong("steps", "tps_invert", (SPLINE, P), ValueError, ("steps", "0"), {"steps": 0}),
    Wrong(
        "half a step",
        "tps_invert",
        (SPLINE, P),
        TypeError,
        ("steps", "integer", "1.5"),
        {"steps": 1.5},
    ),
    Wrong(
        "one step",
        "tps_invert",
        (SPLINE, P),
        TypeError,
        ("steps", "integer", "True"),
        {"steps": True},
    ),
    *(
        Wrong(
            f"steps in an array, {x!r}",
            "tps_invert",
            (SPLINE, P),
            TypeError,
            ("steps must be an integer, got an array of dtype",),
            {"steps": x},
        )
        for x in (np.ones(1), np.array([7]), np.array(7), jax.device_put(7))
    ),
    Wrong("size", "tps_grid", (T, S, (2, 1, 4)), ValueError, ("size", "4 entries", "2-D")),
    Wrong("size's batch", "tps_grid", (T, S, (3, 1, 4, 4)), ValueError, ("size", "batch")),
    Wrong("empty", "tps_grid", (T, S, (2, 1, 0, 4)), ValueError, ("size", "positive")),
    Wrong("align", "tps_grid", (T, S, (2, 1, 4, 4), 1), TypeError, ("align_corners", "1")),
    Wrong(
        "fixed: 3-D",
        "tps_operator",
        (GOOD, (2, 1, 4, 4, 4)),
        ValueError,
        ("4 entries",),
        known=True,
    ),
    Wrong(
        "fixed: batch",
        "tps_operator",
        (GOOD, (3, 1, 4, 4)),
        ValueError,
        ("batch size 2",),
        known=True,
    ),
    Wrong(
        "fixed: source",
        "ThinPlateOperator",
        (GOOD[:, :3],),
        ValueError,
        ("source", "(N, 5, 2)"),
        call=lambda source: jaxwarp.tps_operator(GOOD, (2, 1, 4, 4))(source),
    ),
    Wrong(
        "fixed: source's batch",
        "ThinPlateOperator",
        (GOOD[:1],),
        ValueError,
        ("source has 1",),
        call=lambda source: jaxwarp.tps_operator(GOOD, (2, 1, 4, 4))(source),
    ),
    Wrong(
        "fixed: traced",
        "tps_operator",
        (),
        TypeError,
        ("target must be concrete",),
        call=lambda: jax.jit(lambda t: jaxwarp.tps_operator(t, (2, 1, 4, 4)))(GOOD),
    ),
    Wrong(
        "no spline",
        "tps_jacobian_determinant",
        (T, P),
        TypeError,
        ("spline", "ndarray"),
        known=True,
    ),
    Wrong(
        "points' batch",
        "tps_jacobian_determinant",
        (SPLINE, P[:1]),
        ValueError,
        ("points has 1",),
    ),
]
