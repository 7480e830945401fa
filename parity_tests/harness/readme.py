"""Write the tables of README.md from committed results: ``python -m parity_tests.harness.readme``.

The results come from ``python -m pytest --parity-report parity_tests/results/parity-cpu`` and
``python -m parity_tests.benchmark --peers --json parity_tests/results/benchmark-cpu.json``.
"""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from parity_tests.benchmark import _report
from parity_tests.compiled import _report as compiled_report

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
RESULTS = ROOT / "parity_tests" / "results"
CHART = ROOT / "examples" / "images" / "benchmark.png"

Results = dict[str, Any]


# The described devices whose compiled programs are shown, and those for which results are
# committed beside them.
SHOWN = ("h100",)
DEVICES = (*SHOWN, "a100")


def written(text: str, parity: Results, benchmark: Results, *compiled: Results) -> str:
    """Return the text of README.md with its tables made from the results."""
    for name, table in {
        "parity-table": parity_summary(parity),
        "benchmark-table": benchmark_summary(benchmark),
        "compiled-table": compiled_summary(compiled),
    }.items():
        block = re.compile(f"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text, count = block.subn(lambda m, table=table: f"{m[1]}{table}\n{m[2]}", text)
        if count != 1:
            raise ValueError(f"README.md must have one block {name}, got {count}")
    return text


# Parity -----------------------------------------------------------------------

# What is shown of the differences of which precision: a heading, and what it covers.
_COLUMNS = {
    "float64 values": ("float64", r"value"),
    "float64 gradients": ("float64", r"d \w+"),
    "float64 second derivatives": ("float64", r"d2 \w+|J u"),
    "float32 values": ("float32", r"value"),
    "float32 gradients": ("float32", r"d \w+"),
}


def parity_summary(parity: Results) -> str:
    """Return the worst difference of every operation and mode, over paddings and operands."""
    groups: dict[tuple[str, str], list[Results]] = {}
    for row in parity["rows"]:
        groups.setdefault((row["operation"], row["mode"]), []).append(row)
    body = []
    for (operation, mode), rows in groups.items():
        cells = [_worst(rows, *column) for column in _COLUMNS.values()]
        cases = sum(row["cases"] for row in rows)
        body.append([f"`{operation}`", mode.replace("-", ""), str(cases), *cells])
    shares = [w["share_of_tolerance"] for row in parity["rows"] for w in row["worst"].values()]
    cases = sum(row["cases"] for row in parity["rows"])
    versions = parity["versions"]
    intro = (
        f"Worst difference from torch {versions['torch']} in {cases} cases, in ulp; "
        f"jax {versions['jax']}, sampler {versions['sampler']}. "
        f"No difference uses more than {max(shares):.0%} of what is allowed "
        "([all rows and tolerances](parity_tests/results/parity-cpu.md))."
    )
    return f"{intro}\n\n{_markdown(['', 'mode', 'cases', *_COLUMNS], body)}"


def _worst(rows: Iterable[Results], dtype: str, what: str) -> str:
    found = [
        entry["ulp"]
        for row in rows
        if row["dtype"] == dtype
        for name, entry in row["worst"].items()
        if re.fullmatch(what, name)
    ]
    return format(max(found), ".2g") if found else ""


# Benchmark --------------------------------------------------------------------


def benchmark_summary(benchmark: Results) -> str:
    """Return the ratios to torch of the sampling rows, and the means of the other groups."""
    rows: dict[str, dict[str, str]] = {}
    means: dict[str, str] = {}
    heads: list[str] = []
    for direction in ("forward", "forward+backward"):
        group = f"sampling: {direction}"
        summary = benchmark["geometric means of ratios to torch"][group]
        for name in summary:
            head = f"{direction}, {name}"
            heads.append(head)
            means[head] = f"**{summary[name]['mean']:.2f}** (worst {summary[name]['worst']:.1f})"
            for row in benchmark["rows"]:
                if row["group"] == group and name in row["ratio to torch"]:
                    cells = rows.setdefault(row["name"], {})
                    cells[head] = format(row["ratio to torch"][name], ".2f")
    shown = [head for head in heads if "jaxwarp" in head]
    body = [[name, *(cells[head] for head in shown)] for name, cells in rows.items()]
    body.append(["geometric mean", *(means[head] for head in shown)])
    machine = benchmark["machine"]
    intro = (
        f"Time in units of torch's, float32 (below 1 is faster): medians of calls that alternate "
        f"in one process, {machine['CPU']}, threads {machine['threads']}, "
        f"sampler {machine['sampler']}, jax {machine['jax']}, "
        f"torch {machine['torch']}, {machine['date']}."
    )
    tables = [intro, _markdown(["", *(h.replace("jaxwarp ", "") for h in shown)], body)]
    tables.append(_markdown(["", "rows", "geometric mean", "worst"], _means(benchmark)))
    return "\n\n".join(tables)


def _means(benchmark: Results) -> list[list[str]]:
    """Return a line for every other contender and group that torch is in, but for scaling."""
    return [
        [f"{group}: {name}", str(s["rows"]), f"{s['mean']:.2g}", f"{s['worst']:.2g}"]
        for group, summary in benchmark["geometric means of ratios to torch"].items()
        for name, s in summary.items()
        if not group.startswith("scaling")
        if not (group.startswith("sampling") and "jaxwarp" in name)
    ]


def full_benchmark(benchmark: Results) -> str:
    """Return every row as Markdown."""
    groups = dict.fromkeys(row["group"] for row in benchmark["rows"])
    tables = [_report.table(group, benchmark) for group in groups]
    return "\n\n".join(["# Benchmark", _report.machine(benchmark), _report.LEGEND, *tables]) + "\n"


# Compiled ---------------------------------------------------------------------


def compiled_summary(compiled: Sequence[Results]) -> str:
    """Return the sampling rows of what was compiled for each described device."""
    parts = [compiled_report.HEADER]
    for results in compiled:
        rows = [row for row in results["rows"] if row["group"] == "sampling"]
        target = results["target"]
        link = f"[all rows](parity_tests/results/compiled-{target['name']}.md)"
        versions = compiled_report.versions(results)
        legend = compiled_report.LEGEND[target["platform"]]
        parts.append(f"{target['device']}: {versions} ({link}). {legend}")
        parts.append(compiled_report.table(rows, target["platform"], "sampling"))
    return "\n\n".join(parts)


def _markdown(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def read(name: str) -> Results:
    """Read a file of results."""
    return json.loads((RESULTS / name).read_text())


def main() -> None:
    """Write README.md, the benchmark's tables, and its chart."""
    parity, benchmark = read("parity-cpu.json"), read("benchmark-cpu.json")
    compiled = {name: read(f"compiled-{name}.json") for name in DEVICES}
    shown = [compiled[name] for name in SHOWN]
    README.write_text(written(README.read_text(), parity, benchmark, *shown))
    for results in compiled.values():
        path = RESULTS / f"compiled-{results['target']['name']}.md"
        path.write_text(compiled_report.markdown(results))
    (RESULTS / "benchmark-cpu.md").write_text(full_benchmark(benchmark))
    sampling = [row for row in benchmark["rows"] if row["group"].startswith("sampling")]
    _report.draw(CHART, benchmark | {"rows": sampling})


if __name__ == "__main__":
    main()
