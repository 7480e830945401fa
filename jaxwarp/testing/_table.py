"""The parity table: what was compared, and how far apart the two sides were at worst.

The `parity` fixture takes notes, which travel with the test reports, so that the table is
complete when tests run in several processes, too.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pytest

from jaxwarp.testing._measure import Measured, Tolerance, same
from jaxwarp.testing._report import Report, aligned, two_digits

_NOTE = "parity"
LEGEND = (
    "d x: the gradient of x; J u: the derivative in a direction u, forward; d2 x: the gradient of "
    "a derivative. One ulp is eps times the largest magnitude that the sum could have reached. In "
    "brackets what is allowed at the worst entry, 0 for equal bit for bit; last, the largest share "
    "of what is allowed, of all entries."
)


class Parity:
    """Takes notes of comparisons for the parity table, on behalf of one test."""

    def __init__(self, node: pytest.Item) -> None:
        self._node = node

    def collect(self, report: Report) -> Report:
        """Take a report of `assert_parity` or `assert_module_parity` into the table.

        Args:
            report: What one of the two returned.

        Returns:
            The same report.

        Example, as a test::

            def test_silu(parity):
                parity.collect(assert_parity(jax.nn.silu, torch.nn.functional.silu, x))
        """
        for row in report.rows:
            labels = {"operation": report.name, "dtype": row.dtype}
            self.note(labels, self._node.nodeid, row.what, row.measured)
        return report

    def same(
        self,
        labels: Mapping[str, str],
        case: str,
        what: str,
        ours: npt.ArrayLike,
        theirs: npt.ArrayLike,
        tolerance: Tolerance,
        eps: float,
    ) -> None:
        """Fail unless two arrays are the same (see `jaxwarp.testing.same`); note the difference.

        Args:
            labels: The columns that say which row of the table this belongs to.
            case: Which of the row's cases it is.
            what: What is compared.
            ours: Array.
            theirs: Array.
            tolerance: See `same`.
            eps: See `same`.

        Raises:
            AssertionError: They differ.
        """
        self.note(labels, case, what, same(f"{case}: {what}", ours, theirs, tolerance, eps))

    def note(self, labels: Mapping[str, str], case: str, what: str, measured: Measured) -> None:
        """Note one difference that was measured elsewhere."""
        note = (list(labels.items()), case, what, tuple(measured))
        self._node.user_properties.append((_NOTE, note))


class Table:
    """The pytest plugin that gathers the notes and prints and writes the table."""

    def __init__(self, path: str | None, facts: Callable[[], dict[str, str]]) -> None:
        self.path, self.facts = path, facts
        self.rows: dict[tuple[tuple[str, str], ...], dict[str, Any]] = {}

    def pytest_report_header(self) -> list[str]:
        """Name the versions and devices."""
        return self._header()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take a test's notes."""
        if report.when == "call":
            for name, note in report.user_properties:
                if name == _NOTE and isinstance(note, tuple | list):
                    self._add(*note)

    def _add(
        self, labels: Iterable[Iterable[str]], case: str, what: str, measured: Iterable[float]
    ) -> None:
        row = tuple((name, value) for name, value in labels)
        entry = self.rows.setdefault(row, {"cases": set(), "worst": {}})
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
        for line in [*self._header(), *aligned(self._cells()), LEGEND]:
            terminalreporter.write_line(line)
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
        intro = "\n".join(f"- {line}" for line in self._header())
        as_markdown.write_text(f"# Parity with torch\n\n{intro}\n\n{table}\n\n{LEGEND}\n")
        return [as_json, as_markdown]

    def _header(self) -> list[str]:
        return ["parity: " + ", ".join(f"{name} {fact}" for name, fact in self.facts().items())]

    def _labels(self) -> list[str]:
        names = dict.fromkeys(name for row in self.rows for name, _ in row)
        return [*(n for n in names if n != "dtype"), *(["dtype"] if "dtype" in names else [])]

    def _sorted(self) -> list[tuple[dict[str, str], dict[str, Any]]]:
        """Return every row's labels, "-" where it has none, and what it holds."""
        names = self._labels()
        rows = [
            ({name: dict(row).get(name, "-") for name in names}, entry)
            for row, entry in self.rows.items()
        ]
        return sorted(rows, key=lambda row: tuple(row[0].values()))

    def _as_dict(self) -> dict[str, Any]:
        rows = []
        for labels, entry in self._sorted():
            worst = {
                what: {"ulp": ulp, "tolerance_ulp": allowed, "share_of_tolerance": share}
                for what, (ulp, allowed, share) in sorted(entry["worst"].items())
            }
            rows.append(labels | {"cases": len(entry["cases"]), "worst": worst})
        return {"versions": self.facts(), "legend": LEGEND, "rows": rows}

    def _cells(self) -> list[list[str]]:
        head = [*self._labels(), "cases", "worst difference in ulp (tolerance)", "of tolerance"]
        body = []
        for labels, entry in self._sorted():
            parts = [
                f"{what} {two_digits(ulp)} ({two_digits(allowed)})"
                for what, (ulp, allowed, _) in sorted(entry["worst"].items())
            ]
            share = max(share for _, _, share in entry["worst"].values())
            cells = [*labels.values(), str(len(entry["cases"])), ", ".join(parts), f"{share:.0%}"]
            body.append(cells)
        return [head, *body]
