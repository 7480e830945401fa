"""The parity table: what was compared, and how far apart the two sides were at worst.

The `parity` fixture compares and takes notes; the notes travel with the test reports, so that
the table is complete when tests run in several processes, too.
"""

import json
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch

import jaxwarp
from parity_tests.harness import compare, torch_side
from parity_tests.harness.cases import Case
from parity_tests.harness.compare import Tolerance

_NOTE = "parity"
_ROW = ("operation", "mode", "padding", "dtype")


class Parity:
    """Compares on behalf of one test, and notes the outcome in its report."""

    def __init__(self, node: pytest.Item) -> None:
        self._node = node

    def same(
        self,
        case: Case,
        what: str,
        ours: Any,
        theirs: Any,
        tolerance: Tolerance,
        eps: float | None = None,
    ) -> None:
        """Fail unless ``ours`` is the same as ``theirs`` (see `compare`); note the difference."""
        eps = case.eps if eps is None else eps
        measured = compare.same(f"{case}: {what}", ours, theirs, tolerance, eps)
        row = (case.op, case.mode, case.padding, case.dtype)
        self._node.user_properties.append((_NOTE, (row, str(case), what, tuple(measured))))


class Table:
    """The pytest plugin that gathers the notes and prints and writes the table."""

    def __init__(self, path: str | None) -> None:
        self.path = path
        self.rows: dict[tuple[str, ...], dict[str, Any]] = {}

    def pytest_report_header(self) -> list[str]:
        """Name the versions and devices."""
        return _header()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take a test's notes."""
        if report.when == "call":
            for name, note in report.user_properties:
                if name == _NOTE and isinstance(note, tuple | list):
                    self._add(*note)

    def _add(self, row: Iterable[str], case: str, what: str, measured: Iterable[float]) -> None:
        entry = self.rows.setdefault(tuple(row), {"cases": set(), "worst": {}})
        entry["cases"].add(case)
        ulp, allowed, share = measured
        worst, its_limit, largest = entry["worst"].get(what, measured)
        if (ulp, -allowed) > (worst, -its_limit):
            worst, its_limit = ulp, allowed
        entry["worst"][what] = (worst, its_limit, max(share, largest))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table, and write it if asked to."""
        if not self.rows:
            return
        terminalreporter.section("parity with torch")
        for line in _header():
            terminalreporter.write_line(line)
        for line in _aligned(self._cells()):
            terminalreporter.write_line(line)
        terminalreporter.write_line(_LEGEND)
        if self.path:
            for file in self.write(Path(self.path)):
                terminalreporter.write_line(f"written: {file}")

    def write(self, path: Path) -> list[Path]:
        """Write the table next to each other as JSON and as Markdown."""
        as_json, as_markdown = path.with_suffix(".json"), path.with_suffix(".md")
        as_json.write_text(json.dumps(self._as_dict(), indent=1) + "\n")
        head, *body = self._cells()
        lines = [head, ["---"] * len(head), *body]
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        intro = "\n".join(f"- {line}" for line in _header())
        as_markdown.write_text(f"# Parity with torch\n\n{intro}\n\n{table}\n\n{_LEGEND}\n")
        return [as_json, as_markdown]

    def _as_dict(self) -> dict[str, Any]:
        rows = []
        for row, entry in sorted(self.rows.items()):
            worst = {
                what: {"ulp": ulp, "tolerance_ulp": allowed, "share_of_tolerance": share}
                for what, (ulp, allowed, share) in sorted(entry["worst"].items())
            }
            labels = dict(zip(_ROW, row, strict=True))
            rows.append(labels | {"cases": len(entry["cases"]), "worst": worst})
        return {"versions": versions(), "legend": _LEGEND, "rows": rows}

    def _cells(self) -> list[list[str]]:
        head = [*_ROW, "cases", "worst difference in ulp (tolerance)", "of tolerance"]
        body = []
        for row, entry in sorted(self.rows.items()):
            parts = [
                f"{what} {ulp:.2g} ({allowed:.2g})"
                for what, (ulp, allowed, _) in sorted(entry["worst"].items())
            ]
            share = max(share for _, _, share in entry["worst"].values())
            body.append([*row, str(len(entry["cases"])), ", ".join(parts), f"{share:.0%}"])
        return [head, *body]


_LEGEND = (
    "One ulp is eps times the largest magnitude that the sum could have reached. In brackets what "
    "is allowed at the worst entry, 0 for equal bit for bit; last, the largest share of what is "
    "allowed, of all entries."
)


def versions() -> dict[str, str]:
    """Return what runs, and on what."""
    device = jax.devices()[0]
    return {
        "jaxwarp": getattr(jaxwarp, "__version__", "source"),
        "jax": f"{jax.__version__} on {device.platform} ({device.device_kind})",
        "torch": f"{torch.__version__} on {torch_side.device_name()}",
        "verified against torch": compare.VERIFIED_TORCH,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def _header() -> list[str]:
    return ["parity: " + ", ".join(f"{name} {version}" for name, version in versions().items())]


def _aligned(table: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    padded = [[c.ljust(w) for c, w in zip(row, widths, strict=True)] for row in table]
    return ["  ".join(row).rstrip() for row in padded]
