"""What comes out: a table to read, and a JSON file."""

import json
from collections.abc import Sequence
from typing import Any

Results = dict[str, Any]

HEADER = (
    "Nothing was run, on a GPU, a TPU or anything else: this is what compilers make of the "
    "programs for a described device. It says what a program does, not how fast it is."
)
LEGEND = {
    "cuda": (
        "launches: kernels and library calls of one call, loops times their rounds. MB: what "
        "they read and write; what is gathered counts once for every read. temp MB: memory "
        "beside operands and results. atomics: instructions in the kernels' code."
    ),
    "tpu": (
        "gather, scatter: bundles a sampled point in the loops over rows, the cycles that they "
        "take where nothing stalls; sorting is not in them. temp MB: memory beside operands and "
        "results."
    ),
}
# Where no device's memory is meant: what a column of the table shows of a row.
_COLUMNS: dict[str, dict[str, Any]] = {
    "cuda": {
        "launches": lambda r: str(r["launches"]),
        "MB": lambda r: _number(r["bytes"] / 1e6),
        "temp MB": lambda r: _number(r["temporary bytes"] / 1e6),
        "atomics": lambda r: _counts(r["atomics"]),
        "collectives": lambda r: _counts(r["collectives"]),
    },
    "tpu": {
        "gather": lambda r: _number(r["bundles a point"].get("gather")),
        "scatter": lambda r: _number(r["bundles a point"].get("scatter")),
        "temp MB": lambda r: _number(r["temporary bytes"] / 1e6),
        "collectives": lambda r: _counts(r["collectives"]),
        "compiled in s": lambda r: _number(r["compile CPU seconds"]),
    },
}


def markdown(results: Results) -> str:
    """Lay out all rows, one table for each group, under the header and the versions."""
    parts = [f"# Compiled, not run: {results['target']['device']}", HEADER, versions(results)]
    parts.append(LEGEND[results["target"]["platform"]])
    for group in dict.fromkeys(row["group"] for row in results["rows"]):
        rows = [row for row in results["rows"] if row["group"] == group]
        parts.append(table(rows, results["target"]["platform"], group))
    return "\n\n".join(parts) + "\n"


def versions(results: Results) -> str:
    """Name what compiled, and when."""
    return ", ".join(f"{name} {version}" for name, version in results["versions"].items())


def table(rows: Sequence[Results], platform: str, heading: str) -> str:
    """Lay out rows as an aligned Markdown table."""
    columns = _COLUMNS[platform]
    lines = [[heading, "", *columns]]
    for row in rows:
        what = f"{row['name']}, {row['direction']}"
        lines.append([what, row["contender"], *(show(row) for show in columns.values())])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    )


def _number(x: float | None) -> str:
    if x is None:
        return ""
    return format(x, ".0f" if x >= 100 else ".3g")


def _counts(found: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(found.items())) or "none"


def to_json(results: Results) -> str:
    """Write the results as text."""
    return json.dumps(results, indent=1) + "\n"
