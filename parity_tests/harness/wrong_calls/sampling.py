"""Wrong calls of the samplers: what is wrong for `grid_sample` is wrong for `remap`."""

import numpy as np

from parity_tests.harness.wrong_calls.row import Wrong


def zeros(*shape: int, dtype: str = "float32") -> np.ndarray:
    return np.zeros(shape, dtype)


IMAGE, GRID = zeros(2, 3, 4, 5), zeros(2, 6, 7, 2)
VALUES, POINTS = zeros(2, 3, 6), zeros(2, 6, 2)


# What is no padding mode of a picture, alone or for each axis, and what is said of it.
UNKNOWN_PADDINGS = [
    ("edge", ("padding_mode must be one of 'zeros', 'border', 'reflection', 'wrap'", "'edge'")),
    (None, ("padding_mode must be one of", "None")),
    (1, ("padding_mode must be one of", "1")),
    (("wrap", "edge"), ("padding_mode must be one of", "'edge'")),
    (["border", 2], ("padding_mode must be one of", "2")),
    (("wrap",), ("padding_mode must be one name, or one for each of the 2", "('wrap',)")),
    (("zeros",) * 3, ("padding_mode", "2 spatial axes", "('zeros', 'zeros', 'zeros')")),
    ((), ("padding_mode", "one for each of the 2 spatial axes in array order", "()")),
]


def paddings(op: str, *arguments: object, torch_too: bool = False) -> list[Wrong]:
    return [
        Wrong(
            f"padding_mode {padding!r}",
            op,
            arguments,
            ValueError,
            says,
            {"padding_mode": padding},
            torch_too=torch_too,
        )
        for padding, says in UNKNOWN_PADDINGS
    ]


def _sampling(op: str, points: str, torch_too: bool) -> list[Wrong]:
    def wrong(name, *rest, **keywords):
        return Wrong(name, op, *rest, **({"torch_too": torch_too} | keywords))

    return [
        wrong(
            "unknown mode",
            (IMAGE, GRID, "trilinear"),
            ValueError,
            ("mode", "'bilinear'", "'nearest'", "'bicubic'", "'trilinear'"),
        ),
        wrong(
            "unknown padding",
            (IMAGE, GRID, "bilinear", "mirror"),
            ValueError,
            ("padding_mode", "'zeros'", "'border'", "'reflection'", "'wrap'", "'mirror'"),
        ),
        wrong("mode None", (IMAGE, GRID, None), ValueError, ("mode", "None")),
        wrong("mode number", (IMAGE, GRID, 1), ValueError, ("mode", "1")),
        wrong("padding None", (IMAGE, GRID, "nearest", None), ValueError, ("padding_mode", "None")),
        wrong("image list", (IMAGE.tolist(), GRID), TypeError, ("input", "array", "list")),
        wrong("points list", (IMAGE, GRID.tolist()), TypeError, (points, "array", "list")),
        wrong("image None", (None, GRID), TypeError, ("input", "array", "NoneType")),
        wrong("points None", (IMAGE, None), TypeError, (points, "array", "NoneType")),
        wrong(
            "batch", (IMAGE, zeros(3, 6, 7, 2)), ValueError, ("input", points, "batch", "2", "3")
        ),
        wrong("batch of one", (IMAGE, GRID[:1]), ValueError, ("batch", "2", "1", "vmap")),
        wrong("image batch of one", (IMAGE[:1], GRID), ValueError, ("input", "batch", "1", "2")),
        wrong("3 coordinates", (IMAGE, zeros(2, 6, 7, 3)), ValueError, (points, "2", "3")),
        wrong("1 coordinate", (IMAGE, zeros(2, 6, 7, 1)), ValueError, (points, "2", "1")),
        wrong("no coordinates", (IMAGE, zeros(2, 6, 7, 0)), ValueError, (points, "2", "0")),
        wrong(
            "2 coordinates, volume",
            (zeros(2, 3, 4, 5, 6), zeros(2, 6, 7, 8, 2)),
            ValueError,
            (points, "3", "2"),
        ),
        wrong("no axes", (zeros(2, 3), zeros(2, 0)), ValueError, ("input", "(2, 3)")),
        wrong(
            "4 axes", (zeros(1, 1, 2, 2, 2, 2), zeros(1, 5, 4)), ValueError, ("input", "1, 2 or 3")
        ),
        wrong("vector", (zeros(2), GRID), ValueError, ("input", "(2,)")),
        wrong("scalar", (np.float32(0), GRID), ValueError, ("input", "()")),
        wrong("scalar points", (IMAGE, np.float32(0)), ValueError, (points, "()")),
        wrong("empty height", (zeros(2, 3, 0, 5), GRID), ValueError, ("input", "(2, 3, 0, 5)")),
        wrong("empty width", (zeros(2, 3, 4, 0), GRID), ValueError, ("input", "(2, 3, 4, 0)")),
        wrong(
            "empty height, empty output",
            (zeros(2, 3, 0, 5), zeros(2, 0, 7, 2)),
            ValueError,
            ("input", "(2, 3, 0, 5)"),
        ),
        wrong("image int", (zeros(2, 3, 4, 5, dtype="int32"), GRID), TypeError, ("input", "int32")),
        wrong("image bool", (zeros(2, 3, 4, 5, dtype="bool"), GRID), TypeError, ("input", "bool")),
        wrong(
            "image uint8", (zeros(2, 3, 4, 5, dtype="uint8"), GRID), TypeError, ("input", "uint8")
        ),
        wrong(
            "image complex",
            (zeros(2, 3, 4, 5, dtype="complex64"), GRID),
            TypeError,
            ("input", "complex64"),
        ),
        wrong(
            "points int", (IMAGE, zeros(2, 6, 7, 2, dtype="int32")), TypeError, (points, "int32")
        ),
        wrong(
            "points complex",
            (IMAGE, zeros(2, 6, 7, 2, dtype="complex64")),
            TypeError,
            (points, "complex64"),
        ),
        wrong(
            "channel axis",
            (IMAGE, GRID),
            ValueError,
            ("channel_axis", "1 or -1", "3"),
            options={"channel_axis": 3},
            torch_too=False,
        ),
        wrong(
            "channel axis word",
            (IMAGE, GRID),
            TypeError,
            ("channel_axis", "1 or -1", "'last'"),
            options={"channel_axis": "last"},
            torch_too=False,
        ),
        wrong(
            "channel axis bool",
            (IMAGE, GRID),
            TypeError,
            ("channel_axis", "True"),
            options={"channel_axis": True},
            torch_too=False,
        ),
        wrong(
            "axes of channels last",
            (zeros(2, 4, 5, 3), zeros(2, 6, 7, 3)),
            ValueError,
            (points, "2", "3"),
            options={"channel_axis": -1},
            torch_too=False,
        ),
        wrong(
            "empty height, channels last",
            (zeros(2, 0, 5, 3), GRID),
            ValueError,
            ("input", "(2, 0, 5, 3)"),
            options={"channel_axis": -1},
            torch_too=False,
        ),
    ]


def corners(op: str, *arguments: object, torch_too: bool = True) -> list[Wrong]:
    return [
        Wrong(
            f"align_corners {value!r}",
            op,
            arguments,
            TypeError,
            ("align_corners", "bool", repr(value)),
            {"align_corners": value},
            torch_too,
        )
        for value in (1, 0, "true", 1.0)
    ]


_SPLAT = [
    Wrong(
        "list",
        "splat",
        (VALUES.tolist(), POINTS, (4, 5)),
        TypeError,
        ("values must be a JAX or NumPy array",),
    ),
    Wrong(
        "int",
        "splat",
        (VALUES.astype("int32"), POINTS, (4, 5)),
        TypeError,
        ("values must have a real floating",),
    ),
    Wrong(
        "grid int",
        "splat",
        (VALUES, POINTS.astype("int32"), (4, 5)),
        TypeError,
        ("grid must have a real floating",),
    ),
    Wrong(
        "batch",
        "splat",
        (VALUES, POINTS[:1], (4, 5)),
        ValueError,
        ("values and grid must have the same batch",),
    ),
    Wrong(
        "points",
        "splat",
        (VALUES[..., :5], POINTS, (4, 5)),
        ValueError,
        ("values must be", "got shape (2, 3, 5)"),
    ),
    Wrong(
        "axes",
        "splat",
        (VALUES, POINTS, (4, 5, 6)),
        ValueError,
        ("grid must hold 3 coordinates", "got 2"),
    ),
    Wrong("no axes", "splat", (VALUES, POINTS, ()), ValueError, ("size must be",)),
    Wrong(
        "empty",
        "splat",
        (VALUES, POINTS, (4, 0)),
        ValueError,
        ("size must hold positive integers", "(4, 0)"),
    ),
    Wrong(
        "float",
        "splat",
        (VALUES, POINTS, (4.0, 5)),
        TypeError,
        ("size must hold integers only, got 4.0",),
    ),
    Wrong(
        "mode",
        "splat",
        (VALUES, POINTS, (4, 5), "cubic"),
        ValueError,
        ("mode must be one of", "got 'cubic'"),
    ),
    Wrong(
        "padding",
        "splat",
        (VALUES, POINTS, (4, 5), "nearest", "mirror"),
        ValueError,
        ("padding_mode must be one",),
    ),
    Wrong(
        "corners",
        "splat",
        (VALUES, POINTS, (4, 5), "nearest", "zeros", 1),
        TypeError,
        ("align_corners must be",),
    ),
]

_PLATFORMS = [
    Wrong(
        f"platform {platform!r}",
        "backend_of",
        (platform,),
        ValueError,
        ("platform must be one of 'cpu', 'gpu', 'cuda', 'rocm', 'tpu'", repr(platform)),
    )
    for platform in ("abacus", "GPU", None)
]


TABLE = [
    *_sampling("grid_sample", "grid", torch_too=True),
    *corners("grid_sample", IMAGE, GRID),
    *_sampling("remap", "positions", torch_too=False),
    *paddings("grid_sample", IMAGE, GRID, torch_too=True),
    *paddings("remap", IMAGE, GRID),
    *paddings("splat", VALUES, POINTS, (4, 5)),
    *_SPLAT,
    *_PLATFORMS,
]
