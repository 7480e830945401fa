"""The table of cases, and the numbers each of them is run on.

A case names an operation and how it is asked for; `problem` turns it into arrays, always the
same ones. The lenses that compare with torch (values, gradients, second derivatives,
transformations) look at this one table. Shapes are few and fixed because compiling is what takes
the time: one program serves all kinds of positions that share a shape.
"""

import dataclasses
import itertools
import zlib
from functools import cache

import numpy as np

MODES = ("bilinear", "nearest", "bicubic")
PADDINGS = ("zeros", "border", "reflection")
DTYPES = ("float64", "float32")

ANYWHERE = "anywhere"  # inside and a little outside
FAR = "far outside"  # up to 40 images away
EXACT = "edges and ties"  # every kink, tie and border, in numbers without rounding
THIN = "one pixel wide"  # the same with an axis of one pixel
NOT_FINITE = "not finite"  # NaN, infinities and huge numbers among ordinary ones
POSITIONS = (ANYWHERE, FAR, EXACT, THIN, NOT_FINITE)

BATCH, CHANNELS = 2, 3
OUT = {1: (144,), 2: (9, 16), 3: (4, 4, 9)}  # 144 points for each image
# Where the pixel pitch in normalised coordinates is a power of two, nothing is rounded.
_EXACT_SIZES = {
    False: {1: (8,), 2: (4, 8), 3: (2, 4, 8)},
    True: {1: (9,), 2: (5, 9), 3: (3, 5, 9)},
}
_THIN_SIZES = {
    False: {1: (1,), 2: (1, 4), 3: (2, 1, 4)},
    True: {1: (1,), 2: (1, 5), 3: (3, 1, 5)},
}
# Objects in images: whose they are, their boxes in whole pixels (x1, y1, x2, y2), the last of
# which lies over the first one's, and the size of what is cut out and pasted.
OWNERS = np.array([0, 1, 0])
BOXES = np.array([[1, 0, 6, 3], [0, 0, 8, 4], [3, 1, 8, 4]])
PATCH = (3, 4)
# For the lenses that compile programs of their own anyway.
AWKWARD_SIZES = {1: (7,), 2: (6, 5), 3: (3, 5, 4)}
HUGE = (1e5, -1e5, 1e10, -1e10, 1e30, -1e30)
NAMED = (np.nan, np.inf, -np.inf)


@dataclasses.dataclass(frozen=True)
class Case:
    """One line of the table."""

    op: str
    axes: int
    dtype: str
    mode: str = "-"
    padding: str = "-"
    align_corners: bool = False
    positions: str = ANYWHERE

    def __str__(self) -> str:
        """Return the identifier that pytest shows and that seeds the numbers."""
        corners = "corners" if self.align_corners else "edges"
        words = (self.op, f"{self.axes}d", self.mode, self.padding, corners, self.positions)
        return "-".join(w.replace(" ", "_") for w in (*words, self.dtype) if w != "-")

    @property
    def samples(self) -> bool:
        """Whether the operation reads an image."""
        return self.op in ("grid_sample", "remap")

    @property
    def exact(self) -> bool:
        """Whether the numbers are chosen so that nothing is rounded."""
        return self.positions in (EXACT, THIN)

    @property
    def eps(self) -> float:
        """The dtype's machine epsilon."""
        return float(np.finfo(self.dtype).eps)


@dataclasses.dataclass(frozen=True)
class Problem:
    """A case in numbers: the operands by name, and a cotangent for the result."""

    case: Case
    operands: dict[str, np.ndarray]
    cotangent: np.ndarray
    size: tuple[int, ...]  # the spatial size: of the image, or of the grid that is made

    @property
    def sizes_xyz(self) -> tuple[int, ...]:
        """The sizes in the order of coordinates."""
        return self.size[::-1]


def _table(**columns) -> list[Case]:
    rows = itertools.product(*columns.values())
    return [Case(**dict(zip(columns, row, strict=True))) for row in rows]


_MANY = (ANYWHERE, FAR, EXACT, NOT_FINITE)
_SAMPLING = {"axes": (1, 2, 3), "mode": MODES, "padding": PADDINGS}
_CORNERS = {"align_corners": (False, True)}
SAMPLE_CASES = [
    *_table(op=("grid_sample",), **_SAMPLING, **_CORNERS, positions=_MANY, dtype=DTYPES),
    *_table(op=("remap",), **_SAMPLING, positions=_MANY, dtype=DTYPES),
    # Exact numbers are the same numbers in float32.
    *_table(op=("grid_sample",), **_SAMPLING, **_CORNERS, positions=(THIN,), dtype=("float64",)),
]
GRID_CASES = [
    *_table(
        op=("affine_grid", "homography_grid", "flow_grid"),
        axes=(1, 2, 3),
        **_CORNERS,
        positions=(ANYWHERE, THIN),
        dtype=DTYPES,
    ),
    *_table(op=("compose_affine", "invert_affine"), axes=(1, 2, 3), dtype=DTYPES),
    *_table(op=("tps_grid",), axes=(1, 2, 3), **_CORNERS, dtype=DTYPES),
]
SPLAT_CASES = _table(op=("splat",), **_SAMPLING, positions=(ANYWHERE, EXACT), dtype=("float64",))
# Every mode and padding meet in the files of tests of these, on many scenes for each program.
_TURNS = [
    (mode, padding, i == 1) for i, (mode, padding) in enumerate(zip(MODES, PADDINGS, strict=True))
]
OBJECT_CASES = [
    *(Case("patch_affine", 2, "float64", *turn) for turn in _TURNS),
    *(Case("crop_and_resize", 2, "float64", mode, padding) for mode, padding, _ in _TURNS),
    *(Case("paste", 2, "float64", mode) for mode in MODES),
]
CASES = SAMPLE_CASES + SPLAT_CASES + OBJECT_CASES + GRID_CASES


def spatial_size(case: Case) -> tuple[int, ...]:
    """Return the spatial size that a case is run at."""
    sizes = _THIN_SIZES if case.positions == THIN else _EXACT_SIZES
    return sizes[case.align_corners][case.axes]


@cache
def problem(case: Case, size: tuple[int, ...] | None = None) -> Problem:
    """Return the numbers of a case, at its own spatial size or at another."""
    rng = np.random.default_rng(zlib.crc32(str(case).encode()))
    size = size or spatial_size(case)
    operands = _OPERANDS[case.op](case, size, rng)
    shape = _result_shape(case, size)
    cotangent = rng.integers(-3, 4, shape) if case.exact else rng.normal(size=shape)
    operands = {name: _frozen(x, case.dtype) for name, x in operands.items()}
    return Problem(case, operands, _frozen(cotangent, case.dtype), size)


def tangents(problem: Problem) -> tuple[np.ndarray, ...]:
    """Return a direction for every operand, without rounding where the case has none."""
    case = problem.case
    rng = np.random.default_rng(1 + zlib.crc32(str(case).encode()))
    shapes = [x.shape for x in problem.operands.values()]
    draw = [rng.integers(-2, 3, s) if case.exact else rng.normal(size=s) for s in shapes]
    return tuple(_frozen(x, case.dtype) for x in draw)


def _frozen(x: np.ndarray, dtype: str) -> np.ndarray:
    x = np.asarray(x, dtype)
    x.flags.writeable = False
    return x


def _result_shape(case: Case, size: tuple[int, ...]) -> tuple[int, ...]:
    if case.samples:
        return (BATCH, CHANNELS, *OUT[case.axes])
    if case.op in ("splat", "patch_affine", "paste"):
        return (BATCH, CHANNELS, *size)
    if case.op == "crop_and_resize":
        return (len(OWNERS), CHANNELS, *PATCH)
    if case.op.endswith("_affine"):
        return (BATCH, case.axes, case.axes + 1)
    return (BATCH, *size, case.axes)


# Operands --------------------------------------------------------------------


def _sample_operands(case: Case, size, rng) -> dict[str, np.ndarray]:
    shape = (BATCH, CHANNELS, *size)
    image = rng.integers(-7, 8, shape) if case.exact else rng.normal(size=shape)
    coordinates = []
    for s in size[::-1]:
        g = _POSITIONS[case.positions](case, s, rng).reshape(BATCH, *OUT[case.axes])
        if case.op == "remap" and not case.exact:
            g = ((g + 1) * s - 1) / 2
        coordinates.append(g)
    name = "positions" if case.op == "remap" else "grid"
    return {"input": image, name: np.stack(coordinates, axis=-1)}


def _splat_operands(case: Case, size, rng) -> dict[str, np.ndarray]:
    shape = (BATCH, CHANNELS, *OUT[case.axes])
    values = rng.integers(-7, 8, shape) if case.exact else rng.normal(size=shape)
    return {"values": values, "grid": _sample_operands(case, size, rng)["grid"]}


def _points(case: Case) -> int:
    return BATCH * int(np.prod(OUT[case.axes]))


def _anywhere(case: Case, size: int, rng) -> np.ndarray:
    return rng.uniform(-1.3, 1.3, _points(case))


def _far(case: Case, size: int, rng) -> np.ndarray:
    return rng.choice([-1, 1], _points(case)) * np.exp(rng.uniform(0, np.log(40), _points(case)))


def _exact(case: Case, size: int, rng) -> np.ndarray:
    """Every half-pixel from two images before to two after; the rest in eighths, and near."""
    kinks = np.arange(-2 * size, 3 * size, 0.5)
    rest = rng.integers(-12, 8 * size + 5, _points(case) - len(kinks)) / 8
    p = rng.permutation(np.concatenate([kinks, rest]))
    if case.op == "remap" or (case.align_corners and size == 1):
        return p
    return 2 * p / (size - 1) - 1 if case.align_corners else (2 * p + 1) / size - 1


def _not_finite(case: Case, size: int, rng) -> np.ndarray:
    # Reflecting a huge number is left to rounding: test_theorems says what is promised there.
    odd = NAMED if case.padding == "reflection" else NAMED + HUGE
    g = _anywhere(case, size, rng)
    return np.where(rng.random(g.shape) < 0.35, rng.choice(odd, g.shape), g)


_POSITIONS = {
    ANYWHERE: _anywhere,
    FAR: _far,
    EXACT: _exact,
    THIN: _exact,
    NOT_FINITE: _not_finite,
}


def _theta(case: Case, size, rng) -> dict[str, np.ndarray]:
    return {"theta": rng.normal(size=(BATCH, case.axes, case.axes + 1))}


def _homography(case: Case, size, rng) -> dict[str, np.ndarray]:
    """Maps whose horizon stays out of the picture; behind it has a test of its own."""
    theta = rng.normal(size=(BATCH, case.axes + 1, case.axes + 1))
    theta[:, -1] = rng.uniform(-0.25, 0.25, theta[:, -1].shape)
    theta[:, -1, -1] = rng.uniform(1, 2, BATCH)
    return {"theta": theta}


def _flow(case: Case, size, rng) -> dict[str, np.ndarray]:
    return {"flow": 3 * rng.normal(size=(BATCH, *size, case.axes))}


def _two_affine(case: Case, size, rng) -> dict[str, np.ndarray]:
    return {"outer": _theta(case, size, rng)["theta"], "inner": _theta(case, size, rng)["theta"]}


def _invertible(case: Case, size, rng) -> dict[str, np.ndarray]:
    theta = _theta(case, size, rng)["theta"]
    theta[..., :-1] += 3 * np.eye(case.axes)
    return {"theta": theta}


def _control_points(case: Case, size, rng) -> dict[str, np.ndarray]:
    """Points of a lattice, shaken: so far apart that the spline's system is well conditioned."""
    lattice = np.stack(np.meshgrid(*[np.linspace(-1, 1, 3)] * case.axes), axis=-1)
    target = lattice.reshape(1, -1, case.axes) + np.zeros((BATCH, 1, 1))
    target = target + rng.uniform(-0.2, 0.2, target.shape)
    return {"target": target, "source": target + 0.3 * rng.normal(size=target.shape)}


def _image(size, rng) -> np.ndarray:
    return rng.normal(size=(BATCH, CHANNELS, *size))


def _real_boxes(rng) -> np.ndarray:
    """Boxes somewhere around the whole ones, one of them flipped."""
    boxes = BOXES + rng.uniform(-0.7, 0.7, BOXES.shape)
    boxes[0, [0, 2]] = boxes[0, [2, 0]]
    return boxes


def _patches_in_boxes(case: Case, size, rng) -> dict[str, np.ndarray]:
    theta = np.eye(2, 3) + 0.4 * rng.normal(size=(len(OWNERS), 2, 3))
    return {"img": _image(size, rng), "theta": theta}


def _boxes_in_images(case: Case, size, rng) -> dict[str, np.ndarray]:
    return {"img": _image(size, rng), "boxes": _real_boxes(rng)}


def _patches_on_images(case: Case, size, rng) -> dict[str, np.ndarray]:
    patches = rng.normal(size=(len(OWNERS), CHANNELS, *PATCH))
    return {"canvas": _image(size, rng), "patches": patches, "boxes": _real_boxes(rng)}


_OPERANDS = {
    "patch_affine": _patches_in_boxes,
    "crop_and_resize": _boxes_in_images,
    "paste": _patches_on_images,
    "tps_grid": _control_points,
    "grid_sample": _sample_operands,
    "remap": _sample_operands,
    "splat": _splat_operands,
    "affine_grid": _theta,
    "homography_grid": _homography,
    "flow_grid": _flow,
    "compose_affine": _two_affine,
    "invert_affine": _invertible,
}
