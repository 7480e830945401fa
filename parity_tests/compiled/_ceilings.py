"""What the compiled programs may not exceed, by target: asserted in CI.

A ceiling is there for what a change of ours could spoil. It holds for the versions that the
job pins; other compilers fuse differently.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

Row = dict[str, Any]


class Ceiling(NamedTuple):
    """Bounds on the rows whose text matches, "name, contender, direction"."""

    rows: str
    launches: float = float("inf")
    megabytes: float = float("inf")
    gather: float = float("inf")
    scatter: float = float("inf")
    compile_seconds: float = float("inf")
    temporary_megabytes: float = float("inf")


_VALUES: dict[str, Callable[[Row], float]] = {
    "launches": lambda r: r["launches"],
    "megabytes": lambda r: r["bytes"] / 1e6,
    "gather": lambda r: r["bundles a point"].get("gather", 0),
    "scatter": lambda r: r["bundles a point"].get("scatter", 0),
    "compile_seconds": lambda r: r["compile CPU seconds"],
    "temporary_megabytes": lambda r: r["temporary bytes"] / 1e6,
}
_FLOATS = "jaxwarp( channels last)?"
_GPU = (
    Ceiling(rf"\d+x\d+x\d+x\d+ \w+, {_FLOATS}, forward", launches=3),
    Ceiling(rf"2x4x32x48x48 bilinear, {_FLOATS}, forward", launches=4),
    Ceiling("8x3x256x256 bilinear, jaxwarp, forward", megabytes=55),
    Ceiling(r"8x3x256x256 bilinear, jaxwarp, forward\+backward", 10, 330),
    Ceiling("8x3x256x256 bilinear, jaxwarp channels last, forward", megabytes=55),
    Ceiling(r"8x3x256x256 bilinear, jaxwarp channels last, forward\+backward", 9, 280),
    Ceiling(rf"4x64x64x64 bilinear, {_FLOATS}, forward", megabytes=23),
    Ceiling(rf"4x64x64x64 bilinear, {_FLOATS}, forward\+backward", 12, 130),
    Ceiling(rf"2x4x32x48x48 bilinear, {_FLOATS}, forward\+backward", launches=14),
    Ceiling(rf"4x3x128x128 bicubic, {_FLOATS}, forward\+backward", launches=24),
)
_TPU = (
    Ceiling(rf"8x3x256x256 \w+, {_FLOATS}, forward(\+backward)?", temporary_megabytes=30),
    # A carry, or what each turn keeps, with channels filled up to 128 would be above this.
    Ceiling(rf"patch_affine, 64 .*, {_FLOATS}, forward(\+backward)?", temporary_megabytes=60),
    Ceiling(rf"patch_affine, 16 .*, {_FLOATS}, forward(\+backward)?", temporary_megabytes=500),
    Ceiling(rf"paste, .*, {_FLOATS}, forward(\+backward)?", temporary_megabytes=60),
    Ceiling(r"8x3x256x256 bilinear, jaxwarp, forward", gather=2.5),
    Ceiling(r"8x3x256x256 bilinear, jaxwarp, forward\+backward", scatter=11),
    Ceiling(rf"2x4x32x48x48 bilinear, {_FLOATS}, forward\+backward", compile_seconds=20),
    Ceiling(rf"4x3x128x128 bicubic, {_FLOATS}, forward\+backward", compile_seconds=20),
)
CEILINGS = {"h100": _GPU, "v5e": _TPU}


def exceeded(target: str, rows: list[Row]) -> Iterator[str]:
    """Say of every row what is above its ceiling, or what it must not hold."""
    for row in rows:
        text = f"{row['name']}, {row['contender']}, {row['direction']}"
        for ceiling in CEILINGS.get(target, ()):
            if matches(ceiling, text):
                yield from _above(text, row, ceiling)
        if row["contender"].startswith("jaxwarp"):
            yield from _forbidden(target, text, row)


def matches(ceiling: Ceiling, text: str) -> bool:
    """Tell whether a ceiling is for a row."""
    return re.fullmatch(ceiling.rows, text) is not None


def _above(text: str, row: Row, ceiling: Ceiling) -> Iterator[str]:
    for name, value in _VALUES.items():
        bound = getattr(ceiling, name)
        if value(row) > bound:
            yield f"{text}: {name} {value(row):.3g}, at most {bound:g}"


def _forbidden(target: str, text: str, row: Row) -> Iterator[str]:
    if target == "h100" and row["atomics"].get("compare-and-swap"):
        yield f"{text}: a compare-and-swap loop"
    collectives, spread = row["collectives"], row["group"] == "placement"
    allowed = {"all-reduce": 1} if "rows" in text and "backward" in text else {}
    if spread and any(count > allowed.get(name, 0) for name, count in collectives.items()):
        yield f"{text}: {collectives}, at most {allowed or 'none'}"
