"""Measure jaxwarp next to torch: ``python -m parity_tests.benchmark``."""

import argparse
import importlib
import json
import pkgutil
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from parity_tests import benchmark
from parity_tests.benchmark import _history, _machine, _report
from parity_tests.benchmark._timing import Measurement, Row, measure

# The group that is asked about most comes first.
_FIRST = "sampling"


def groups() -> list[str]:
    """Name the modules that yield rows."""
    names = [m.name for m in pkgutil.iter_modules(benchmark.__path__) if m.name[0] != "_"]
    return sorted(names, key=lambda name: (name != _FIRST, name))


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("python -m parity_tests.benchmark", description=__doc__)
    add = parser.add_argument
    add(
        "--groups",
        nargs="+",
        choices=groups(),
        default=groups(),
        metavar="GROUP",
        help=f"measure these only: {', '.join(groups())}",
    )
    add("--quick", action="store_true", help="fewer rows, measured less often; under a minute")
    add("--peers", action="store_true", help="measure other JAX libraries that are installed, too")
    add("--json", type=Path, metavar="FILE", help="write the results")
    add("--results", type=Path, metavar="FILE", help="take what --json wrote; measure nothing")
    add("--keep", action="store_true", help="keep the ratios to torch as this version's")
    add(
        "--against",
        choices=_history.versions(),
        metavar="VERSION",
        help=f"fail if a ratio is slower than that version's: {', '.join(_history.versions())}",
    )
    add("--chart", type=Path, metavar="FILE", help="draw the ratios to torch (PNG or SVG)")
    add("--jax-platform", choices=("cpu", "gpu", "tpu"), default="cpu")
    add("--torch-device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args(arguments)
    if options.keep and (options.quick or options.groups != groups()):
        parser.error("--keep keeps a whole run: it goes with neither --quick nor --groups")
    return options


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """Yield the rows that were asked for; each is made only when the last one is done."""
    for group in options.groups:
        for row in importlib.import_module(f"{benchmark.__name__}.{group}").rows():
            if row.quick or not options.quick:
                yield row


def main(arguments: Sequence[str]) -> None:
    """Measure, print, and write."""
    options = parse(arguments)
    results = json.loads(options.results.read_text()) if options.results else measured(options)
    for group in dict.fromkeys(row["group"] for row in results["rows"]):
        print(_report.table(group, results), end="\n\n")
    print(_report.LEGEND, _report.machine(results), sep="\n\n")
    if options.json:
        _report.write_json(options.json, results)
    if options.chart:
        _report.draw(options.chart, results)
    if options.keep:
        entry = _history.Entry.of(results)
        entry.write(_history.path_of(entry.version))
    if options.against:
        compare(_history.Entry.read(_history.path_of(options.against)), results)


def measured(options: argparse.Namespace) -> _report.Results:
    """Measure what was asked for."""
    _machine.choose(options.jax_platform, options.torch_device)
    if _machine.load() > 0.5 * _machine.cores():
        # It shows: torch's threads wait for each other, so a busy core costs it more.
        _progress(f"this machine is busy (load {_machine.load():.1f}): the ratios will be wrong\n")
    start = time.perf_counter()
    seconds, rounds = (0.3, 1) if options.quick else (2.0, 3)
    measure_row = partial(
        measure,
        seconds=seconds,
        rounds=rounds,
        peers=options.peers,
        pipelined=options.jax_platform != "cpu",
    )
    machine, bandwidth = _machine.describe(), _machine.copy_bandwidth()
    done: list[Measurement] = []
    for row in rows(options):
        _progress(f"{time.perf_counter() - start:4.0f} s, row {len(done) + 1}: {row.name}")
        done.append(measure_row(row))
    _progress(f"{time.perf_counter() - start:4.0f} s, {len(done)} rows\n")
    return _report.results(machine, bandwidth, done)


def compare(then: _history.Entry, results: _report.Results) -> None:
    """Print the ratios then and now; end the process with an error if some became slower."""
    now = _history.Entry.of(results)
    print("", f"Against {then.version}", _history.report(then, now), sep="\n\n")
    if slower := _history.slower(_history.changes(then, now)):
        raise SystemExit("\n".join([f"slower than {then.version}:", *slower]))


def _progress(line: str) -> None:
    """Write over the last progress line, on a terminal; elsewhere write a new one."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{line}")
    else:
        sys.stderr.write(f"{line.rstrip()}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
