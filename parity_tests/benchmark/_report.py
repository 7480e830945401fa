"""What comes out of a benchmark: a table to read, a JSON file, and a bar chart."""

import json
import math
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from parity_tests.benchmark._timing import Measurement

Results = dict[str, Any]


def results(machine: dict[str, str], bandwidth: float, measured: Sequence[Measurement]) -> Results:
    """Gather everything that is worth keeping, ready for JSON."""
    return {
        "machine": machine | {"copy bandwidth": f"{bandwidth / 1e9:.1f} GB/s"},
        "geometric means of ratios to torch": {
            group: _summary(list(rows)) for group, rows in groupby(measured, lambda m: m.row.group)
        },
        "rows": [_row(m, bandwidth) for m in measured],
    }


def _row(m: Measurement, bandwidth: float) -> dict[str, Any]:
    moved = m.row.bytes_moved
    return {
        "group": m.row.group,
        "name": m.row.name,
        "note": m.row.note,
        "ms": m.ms,
        "fastest ms": m.fastest_ms,
        "ratio to torch": m.ratios,
        "quartiles of the ratio": m.ratio_quartiles,
        "calls": m.calls,
        "temporary bytes": m.temp_bytes,
        "ns per value": {k: 1e6 * ms / m.row.values for k, ms in m.ms.items()}
        if m.row.values
        else {},
        "bytes-moved floor ms": None if moved is None else 1e3 * moved / bandwidth,
    }


def _summary(measured: Sequence[Measurement]) -> dict[str, dict[str, float]]:
    """Return each contender's geometric mean and worst ratio, over the rows that it is in."""
    names = dict.fromkeys(name for m in measured for name in m.ratios)
    ratios = {name: [m.ratios[name] for m in measured if name in m.ratios] for name in names}
    return {
        name: {"mean": math.exp(sum(map(math.log, r)) / len(r)), "worst": max(r), "rows": len(r)}
        for name, r in ratios.items()
    }


# The table --------------------------------------------------------------------


def table(group: str, results: Results) -> str:
    """Lay out one group's rows as an aligned Markdown table, with its geometric means."""
    rows = [row for row in results["rows"] if row["group"] == group]
    names = list(dict.fromkeys(name for row in rows for name in row["ms"]))
    means = results["geometric means of ratios to torch"][group]
    head = [group, *(_heading(name, name in means) for name in names), *_extras([], rows)]
    body = [
        [row["name"], *(_time(row, name) for name in names), *_extras([row], rows)] for row in rows
    ]
    if means and len(rows) > 1:
        summaries = (means.get(name) for name in names)
        cells = (f"{_ratio(s['mean'])} ({_ratio(s['worst'])})" if s else "" for s in summaries)
        body.append(["geometric mean (worst)", *cells, *[""] * len(_extras([], rows))])
    notes = dict.fromkeys(row["note"] for row in rows if row["note"])
    return "\n".join([aligned([head, *body]), *(f"\n{note}" for note in notes)])


def _heading(name: str, has_ratio: bool) -> str:
    return f"{name}, ms (of torch)" if has_ratio else f"{name}, ms"


def _time(row: dict[str, Any], name: str) -> str:
    if name not in row["ms"]:
        return ""
    ratio = row["ratio to torch"].get(name)
    ms = row["ms"][name]
    return format(ms, ".3g" if ms < 100 else ".0f") + (
        "" if ratio is None else f" ({_ratio(ratio)})"
    )


def _ratio(x: float) -> str:
    return format(x, ".2f" if x >= 0.1 else ".1g")


def _extras(row: list[dict[str, Any]], rows: list[dict[str, Any]]) -> list[str]:
    """Return the other columns' headings, or one row's cells; a column nobody fills is left out."""
    columns = {
        "temp MB": lambda r: _number(r["temporary bytes"].get("jaxwarp"), 1e-6, ".1f"),
        "ns/value": lambda r: _number(r["ns per value"].get("jaxwarp"), 1, ".2f"),
        "floor, ms": lambda r: _number(r["bytes-moved floor ms"], 1, ".2g"),
    }
    filled = {head: cell for head, cell in columns.items() if any(map(cell, rows))}
    return [cell(row[0]) if row else head for head, cell in filled.items()]


def _number(x: float | None, factor: float, spec: str) -> str:
    return "" if x is None else format(x * factor, spec)


def aligned(lines: Iterable[Sequence[str]]) -> str:
    """Lay out a heading and lines as a Markdown table with straight columns."""
    lines = list(lines)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    padded = (
        [cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines
    )
    return "\n".join("| " + " | ".join(line) + " |" for line in padded)


def machine(results: Results) -> str:
    """Describe the machine in one paragraph."""
    return ", ".join(f"{name}: {value}" for name, value in results["machine"].items())


LEGEND = (
    "Medians of calls that alternate in one process; in brackets the time in units of torch's "
    "(below 1 is faster). temp MB: what jaxwarp's program allocates beside operands and results. "
    "ns/value: jaxwarp's time over the result's entries. floor: reading every operand and writing "
    "every result once, at the bandwidth of a plain copy."
)


# Files ------------------------------------------------------------------------


def write_json(path: Path, results: Results) -> None:
    """Write the results, with no more digits than they have."""
    path.write_text(json.dumps(_rounded(results), indent=1) + "\n")


def _rounded(x: Any) -> object:
    if isinstance(x, dict):
        return {k: _rounded(v) for k, v in x.items()}
    if isinstance(x, list):
        return [_rounded(v) for v in x]
    return float(f"{x:.4g}") if isinstance(x, float) else x


def draw(path: Path, results: Results) -> None:
    """Draw every ratio to torch as a bar, one panel for each group that has any."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    panels: dict[str, list[dict[str, Any]]] = {}
    for row in results["rows"]:
        if row["ratio to torch"]:
            panels.setdefault(row["group"], []).append(row)
    if not panels:
        raise SystemExit("--chart: none of these rows has torch in it")
    drawn = [row for rows in panels.values() for row in rows]
    names = list(dict.fromkeys(name for row in drawn for name in row["ratio to torch"]))
    heights = [len(rows) for rows in panels.values()]
    figure = Figure(figsize=(9, 0.8 + sum(0.25 + 0.13 * h * max(3, len(names)) for h in heights)))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(len(panels), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
    for axis, (group, rows) in zip(axes, panels.items(), strict=True):
        _panel(axis, group, rows, names)
    largest = max(ratio for row in drawn for ratio in row["ratio to torch"].values())
    axes[0].set_xlim(0, max(2.0, 1.1 * largest))
    axes[0].legend(loc="lower right", fontsize=8)
    axes[-1].set_xlabel("time in units of torch's (left of the line is faster)")
    figure.suptitle(_caption(results), fontsize=8)
    # Without a date and random names, so that the same results are the same file.
    metadata = {"Date": None} if path.suffix == ".svg" else None
    with rc_context({"svg.hashsalt": "benchmark"}):
        figure.savefig(path, dpi=100, metadata=metadata)


def _panel(axis: Any, group: str, rows: list[dict[str, Any]], names: list[str]) -> None:
    thickness = 0.8 / len(names)
    for i, name in enumerate(names):
        at = [y + (i - (len(names) - 1) / 2) * thickness for y in range(len(rows))]
        ratios = [row["ratio to torch"].get(name, math.nan) for row in rows]
        axis.barh(at, ratios, thickness, left=0, label=name, color=f"C{i}")
    axis.axvline(1, color="black", linewidth=0.8)
    axis.set_xscale("symlog", linthresh=1)
    ticks = [0, 0.25, 0.5, 0.75, 1, 1.5, 2, 4, 8, 16, 32]
    axis.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axis.minorticks_off()
    axis.set_yticks(range(len(rows)), [row["name"] for row in rows], fontsize=7)
    axis.invert_yaxis()
    axis.set_title(group, fontsize=9, loc="left")


def _caption(results: Results) -> str:
    m = results["machine"]
    on = f"{m['CPU']} ({m['threads']})" if m["torch device"] == "CPU" else m["torch device"]
    return f"jax {m['jax']} and torch {m['torch']} on {on}, {m['date']}"
