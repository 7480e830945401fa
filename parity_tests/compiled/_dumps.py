"""Read what compilers leave in a folder: a GPU's PTX, and a TPU's final bundles.

A bundle is what a TPU's core starts in one cycle, so a loop's bundles are the cycles of one
round of it where nothing stalls.
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from parity_tests.compiled._hlo import Instruction, Program, elements_of

_ATOMIC = re.compile(r"\b(?:atom|red)\.([\w.]+)")
_LABEL = re.compile(r"^\s*0x[0-9a-f]+ (?:LB|PF)")
_BUNDLE = re.compile(r"^\s*0x[0-9a-f]+ ")
_INDEX_LOAD = re.compile(r"= sld \[smem:\[%?s\d|= sld \[smem:\[#allocation\d+ \+")
# A part of a kernel with fewer loads is not the loop over its rows.
_FEW_LOADS = 8


def atomics(folder: Path) -> Counter[str]:
    """Count the atomic instructions in the PTX of all kernels: loops, vectors, single numbers."""
    found: Counter[str] = Counter()
    for file in folder.glob("*.ptx"):
        found.update(_kind(name) for name in _ATOMIC.findall(file.read_text()))
    return found


def _kind(name: str) -> str:
    parts = name.split(".")
    vector = next((part for part in parts if re.fullmatch(r"v\d", part)), "")
    return "compare-and-swap" if "cas" in parts else f"{vector or 'single'} add"


def cycles(folder: Path, program: Program, points: int) -> dict[str, float]:
    """Return the bundles a point of all loops over rows: of gathers, and of scatters.

    Args:
        folder: Where the compiler dumped.
        program: The program, to know how often which kernel runs.
        points: How many points a call samples.
    """
    found: dict[str, float] = {}
    for i, times in program.scheduled():
        kind = next((k for k in ("gather", "scatter") if k in program.contents(i)), None)
        rows = max((elements_of(s) for s in program.integer_operands(i)), default=0)
        if kind and rows:
            each = _bundles_a_row(folder, i, rows)
            found[kind] = found.get(kind, 0) + each * rows * times / points
    return found


def _bundles_a_row(folder: Path, i: Instruction, rows: int) -> float:
    text = _bundles(folder, i.name).read_text()
    rounds = re.search(r"iteration_bounds: \((\d+)\)", text)
    in_a_round = rows / int(rounds[1]) if rounds else rows
    return sum(
        bundles * max(1, round(in_a_round / loads)) / in_a_round
        for bundles, loads in _parts(text)
        if loads >= _FEW_LOADS
    )


def _bundles(folder: Path, name: str) -> Path:
    """Find a kernel's final bundles: its own, or those of one that it shares them with."""
    kind = name.partition(".")[0]
    for pattern in (re.escape(name), rf"{re.escape(kind)}(\.[\w.]+)?"):
        full = re.compile(rf"\d+-{pattern}-\d+-final_bundles\.txt")
        for file in sorted(folder.iterdir()):
            if full.fullmatch(file.name):
                return file
    raise FileNotFoundError(f"no final bundles of {name} in {folder}")


def _parts(text: str) -> Iterator[tuple[int, int]]:
    """Yield the bundles and index loads of a kernel's parts, cut where loops begin or end."""
    bundles = loads = 0
    for line in text.splitlines():
        if _LABEL.match(line):
            yield bundles, loads
            bundles = loads = 0
        bundles += bool(_BUNDLE.match(line))
        loads += len(_INDEX_LOAD.findall(line))
    yield bundles, loads
