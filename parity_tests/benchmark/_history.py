"""What a version's benchmark measured, kept to be compared with: has something become slower?

Ratios to torch are kept, not times: torch was measured in the same minute on the same cores, so
most of what differs between two days cancels.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import geometric_mean
from typing import Any, Self

import jaxwarp
from parity_tests.benchmark._report import Results, aligned

FOLDER = Path(__file__).parents[1] / "results" / "history"

# Two processes lay out their memory differently and share the machine with others, which alone
# moves a ratio. How much was measured on code that stayed as it was: dm_pix, keras, kornia and
# map_coordinates in the four whole runs of 2026-11-21 (in the history of benchmark-cpu.json). Of
# their 194 ratios to torch, from one run to the next, half moved by less than 5 %, a tenth by more
# than 26 % and 9 by more than 50 %. Over the five or seven rows of a group that largely cancels:
# of 34 geometric means none moved by more than 15.5 %.
_MARGIN = 0.5
_MARGIN_OF_MEANS = 0.16
_ROWS_FOR_A_MEAN = 5
# What both sides of a comparison should agree on.
_CONDITIONS = ("CPU", "threads", "JAX device", "sampler", "torch device", "jax", "jaxlib", "torch")


@dataclass(frozen=True)
class Ratio:
    """A time in units of torch's: the median, and what half of the turns were between."""

    low: float
    median: float
    high: float


@dataclass(frozen=True)
class Entry:
    """What is kept of one run.

    Attributes:
        version: The version of jaxwarp that was measured.
        machine: What it was measured on, and with.
        ratios: The ratio of each (group, row, contender).
    """

    version: str
    machine: dict[str, str]
    ratios: dict[tuple[str, str, str], Ratio]

    @classmethod
    def of(cls, results: Results) -> Self:
        """Take from a run's results what is kept; jaxwarp's own contenders only."""
        ratios = {
            (row["group"], row["name"], contender): _ratio(row, contender)
            for row in results["rows"]
            for contender in row["ratio to torch"]
            if contender.startswith("jaxwarp")
        }
        machine = results["machine"]
        return cls(machine.get("jaxwarp", jaxwarp.__version__), machine, ratios)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `write` wrote."""
        kept = json.loads(path.read_text())
        ratios = {
            (group, row, contender): Ratio(*numbers)
            for group, rows in kept["ratios to torch"].items()
            for row, contenders in rows.items()
            for contender, numbers in contenders.items()
        }
        return cls(kept["version"], kept["machine"], ratios)

    def write(self, path: Path) -> None:
        """Write it with every ratio on a line, as low, median and high."""
        groups: dict[str, dict[str, dict[str, list[float]]]] = {}
        for (group, row, contender), r in self.ratios.items():
            numbers = [float(f"{x:.4g}") for x in (r.low, r.median, r.high)]
            groups.setdefault(group, {}).setdefault(row, {})[contender] = numbers
        kept = {"version": self.version, "machine": self.machine, "ratios to torch": groups}
        lines = re.sub(
            r"\[\s+([^\]]*?)\s+\]",
            lambda numbers: f"[{' '.join(numbers[1].split())}]",
            json.dumps(kept, indent=1),
        )
        path.parent.mkdir(exist_ok=True)
        path.write_text(lines + "\n")


def _ratio(row: dict[str, Any], contender: str) -> Ratio:
    median = row["ratio to torch"][contender]
    # Results of before quartiles were measured have none.
    low, high = row.get("quartiles of the ratio", {}).get(contender, (median, median))
    return Ratio(low, median, high)


def versions() -> list[str]:
    """Name the versions that are kept, as they are sorted by their numbers."""
    names = (path.stem for path in FOLDER.glob("*.json"))
    return sorted(names, key=lambda name: [int(n) for n in re.findall(r"\d+", name)])


def path_of(version: str) -> Path:
    """Where a version's entry is: a release in the making, "1.2.3.dev0", has that of "1.2.3"."""
    return FOLDER / f"{version.partition('.dev')[0]}.json"


# The comparison ---------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """One ratio, then and now."""

    group: str
    row: str
    contender: str
    then: Ratio
    now: Ratio

    @property
    def factor(self) -> float:
        """How many times as long it takes now, torch's time being the unit."""
        return self.now.median / self.then.median

    @property
    def verdict(self) -> str:
        """Say whether it is slower or faster beyond noise, or nothing."""
        if self.factor > 1 + _MARGIN and self.now.low > self.then.high:
            return "slower"
        if self.factor < 1 / (1 + _MARGIN) and self.now.high < self.then.low:
            return "faster"
        return ""


def changes(then: Entry, now: Entry) -> list[Change]:
    """Compare the ratios that both have, in the order in which they were measured now."""
    return [
        Change(*key, then.ratios[key], ratio)
        for key, ratio in now.ratios.items()
        if key in then.ratios
    ]


@dataclass(frozen=True)
class Mean:
    """The geometric mean of a contender's factors over a group's rows."""

    group: str
    contender: str
    factor: float
    rows: int

    @property
    def verdict(self) -> str:
        """Say whether it is slower or faster beyond noise, or nothing."""
        if self.rows < _ROWS_FOR_A_MEAN:
            return ""
        if self.factor > 1 + _MARGIN_OF_MEANS:
            return "slower"
        return "faster" if self.factor < 1 / (1 + _MARGIN_OF_MEANS) else ""


def means(found: Iterable[Change]) -> list[Mean]:
    """Return the mean of each group and contender, in their order."""
    factors: dict[tuple[str, str], list[float]] = {}
    for change in found:
        factors.setdefault((change.group, change.contender), []).append(change.factor)
    return [Mean(*key, geometric_mean(x), len(x)) for key, x in factors.items()]


def slower(found: Sequence[Change]) -> list[str]:
    """Name what became slower beyond noise: single rows, and groups as a whole."""
    rows = [f"{c.group}: {c.row}, {c.contender}" for c in found if c.verdict == "slower"]
    groups = [
        f"{m.group}: all {m.rows} rows, {m.contender}"
        for m in means(found)
        if m.verdict == "slower"
    ]
    return rows + groups


def report(then: Entry, now: Entry) -> str:
    """Lay the comparison out: every ratio then and now, and what cannot be compared."""
    found = changes(then, now)
    tables = [
        _table(group, list(rows), then.version)
        for group, rows in groupby(found, lambda change: change.group)
    ]
    return "\n\n".join([*tables, LEGEND, *_caveats(then, now)])


LEGEND = (
    "In units of torch's time, measured in the same run. slower, faster: a row by more than "
    f"{_MARGIN:.0%} and with the middle halves of all turns apart, a mean of {_ROWS_FOR_A_MEAN} or "
    f"more rows by more than {_MARGIN_OF_MEANS:.0%}."
)


def _table(group: str, found: list[Change], version: str) -> str:
    head = [group, version, "now", "now / then", ""]
    body = [
        [
            f"{change.row}, {change.contender}",
            f"{change.then.median:.2f}",
            f"{change.now.median:.2f}",
            f"{change.factor:.2f}",
            change.verdict,
        ]
        for change in found
    ]
    feet = [
        [f"geometric mean, {mean.contender}", "", "", f"{mean.factor:.2f}", mean.verdict]
        for mean in means(found)
    ]
    return aligned([head, *body, *feet])


def _caveats(then: Entry, now: Entry) -> list[str]:
    differ = [
        f"{name}: {then.machine.get(name, '?')} then, {now.machine.get(name, '?')} now"
        for name in _CONDITIONS
        if then.machine.get(name) != now.machine.get(name)
    ]
    missing = [f"{', '.join(key)}" for key in then.ratios if key not in now.ratios]
    caveats = []
    if differ:
        caveats.append("Not measured under the same conditions. " + "; ".join(differ) + ".")
    if missing:
        caveats.append(f"Not measured now: {len(missing)} ratios of {then.version}.")
    return caveats
