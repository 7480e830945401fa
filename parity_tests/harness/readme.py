"""Write the tables of documents from committed results: ``python -m parity_tests.harness.readme``.

README.md has a small one for each question, the site's page of results has their rows.

The results come from ``python -m pytest --parity-report parity_tests/results/parity-cpu`` and
``python -m parity_tests.benchmark --peers --json parity_tests/results/benchmark-cpu.json``.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from parity_tests.benchmark import _report
from parity_tests.compiled import _report as compiled_report

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGE = ROOT / "examples" / "project" / "results.md"
RESULTS = ROOT / "parity_tests" / "results"
CHART = ROOT / "examples" / "images" / "benchmark.svg"

Results = dict[str, Any]


# The described devices whose compiled programs are shown, and those for which results are
# committed beside them.
SHOWN = ("h100",)
DEVICES = (*SHOWN, "a100", "v5e")


def written(
    document: Path, parity: Results, benchmark: Results, compiled: Sequence[Results]
) -> str:
    """Return the text of a document with its tables made from the results."""
    tables = {
        README: {
            "parity-table": parity_summary(parity),
            "benchmark-table": benchmark_summary(benchmark),
        },
        PAGE: {
            "parity-rows": parity_rows(parity),
            "benchmark-rows": benchmark_rows(benchmark),
            "compiled-rows": compiled_rows(compiled),
        },
    }[document]
    text = document.read_text()
    for name, table in tables.items():
        block = re.compile(f"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text, count = block.subn(lambda m, table=table: f"{m[1]}{table}\n{m[2]}", text)
        if count != 1:
            raise ValueError(f"{document.name} must have one block {name}, got {count}")
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


# The same, for those who only want to know how large it is.
_FEW_COLUMNS = {name: _COLUMNS[name] for name in _COLUMNS if "second" not in name}


def parity_summary(parity: Results) -> str:
    """Return the worst difference of every operation, over modes, paddings and operands."""
    groups = _grouped(parity["rows"], lambda row: f"`{row['operation']}`")
    body = [[name, *_parity_cells(rows, _FEW_COLUMNS)] for name, rows in groups.items()]
    shares = [w["share_of_tolerance"] for row in parity["rows"] for w in row["worst"].values()]
    cases = sum(row["cases"] for row in parity["rows"])
    return (
        f"Worst difference from torch {parity['versions']['torch']} in {cases} cases, in "
        f"units in the last place (ulp). None uses more than {max(shares):.0%} of what is allowed: "
        "[by mode and padding](examples/project/results.md#parity).\n\n"
        f"{_markdown(['', 'cases', *_FEW_COLUMNS], body)}"
    )


def parity_rows(parity: Results) -> str:
    """Return the worst difference of every operation and mode, over paddings and operands."""
    groups = _grouped(parity["rows"], lambda row: (row["operation"], row["mode"]))
    body = [
        [f"`{operation}`", mode.replace("-", ""), *_parity_cells(rows, _COLUMNS)]
        for (operation, mode), rows in groups.items()
    ]
    versions = parity["versions"]
    intro = (
        f"Worst difference from torch {versions['torch']}, in ulp; jax {versions['jax']}, "
        f"sampler {versions['sampler']}. Paddings, operands and tolerances one by one are in "
        "[the report](../../parity_tests/results/parity-cpu.md)."
    )
    return f"{intro}\n\n{_markdown(['', 'mode', 'cases', *_COLUMNS], body)}"


def _grouped(rows: Iterable[Results], key: Callable[[Results], Any]) -> dict[Any, list[Results]]:
    groups: dict[Any, list[Results]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def _parity_cells(rows: Sequence[Results], columns: dict[str, tuple[str, str]]) -> list[str]:
    cases = sum(row["cases"] for row in rows)
    return [str(cases), *(_worst(rows, *column) for column in columns.values())]


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


# How contenders are called where there is room for few words.
_LAYOUTS = {"jaxwarp": "channels first", "jaxwarp channels last": "channels last"}


def benchmark_summary(benchmark: Results) -> str:
    """Return the means over the sampling rows, and the worst of them."""
    body = []
    for direction in ("forward", "forward+backward"):
        summary = benchmark["geometric means of ratios to torch"][f"sampling: {direction}"]
        body.append([direction, *(_mean_and_worst(summary[name]) for name in _LAYOUTS)])
    rows = summary["jaxwarp"]["rows"]
    intro = (
        f"Time in units of torch's, float32, on a CPU (below 1 is faster): the geometric mean of "
        f"{rows} sizes, modes and paddings, and the worst of them: "
        "[all rows](examples/project/results.md#benchmark)."
    )
    return f"{intro}\n\n{_markdown(['', *_LAYOUTS.values()], body)}"


def _mean_and_worst(summary: Results) -> str:
    return f"**{summary['mean']:.2f}** (worst {summary['worst']:.1f})"


def benchmark_rows(benchmark: Results) -> str:
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
            means[head] = _mean_and_worst(summary[name])
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


def compiled_rows(compiled: Sequence[Results]) -> str:
    """Return the sampling rows of what was compiled for each described device."""
    parts = [compiled_report.HEADER]
    for results in compiled:
        rows = [row for row in results["rows"] if row["group"] == "sampling"]
        target = results["target"]
        link = f"[all rows](../../parity_tests/results/compiled-{target['name']}.md)"
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
    """Write README.md, the page of results, the benchmark's tables, and its chart."""
    parity, benchmark = read("parity-cpu.json"), read("benchmark-cpu.json")
    compiled = {name: read(f"compiled-{name}.json") for name in DEVICES}
    shown = [compiled[name] for name in SHOWN]
    for document in (README, PAGE):
        document.write_text(written(document, parity, benchmark, shown))
    for results in compiled.values():
        path = RESULTS / f"compiled-{results['target']['name']}.md"
        path.write_text(compiled_report.markdown(results))
    (RESULTS / "benchmark-cpu.md").write_text(full_benchmark(benchmark))
    sampling = [row for row in benchmark["rows"] if row["group"].startswith("sampling")]
    _report.draw(CHART, benchmark | {"rows": sampling})


if __name__ == "__main__":
    main()
