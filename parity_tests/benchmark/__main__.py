"""Measure jaxwarp next to torch: ``python -m parity_tests.benchmark``."""

import argparse
import importlib
import pkgutil
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from parity_tests import benchmark
from parity_tests.benchmark import _machine, _report
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
    add("--chart", type=Path, metavar="FILE", help="draw the ratios to torch (PNG or SVG)")
    add("--jax-platform", choices=("cpu", "gpu", "tpu"), default="cpu")
    add("--torch-device", choices=("cpu", "cuda"), default="cpu")
    return parser.parse_args(arguments)


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """Yield the rows that were asked for; each is made only when the last one is done."""
    for group in options.groups:
        for row in importlib.import_module(f"{benchmark.__name__}.{group}").rows():
            if row.quick or not options.quick:
                yield row


def main(arguments: Sequence[str]) -> None:
    """Measure, print, and write."""
    options = parse(arguments)
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
    measured: list[Measurement] = []
    for row in rows(options):
        _progress(f"{time.perf_counter() - start:4.0f} s, row {len(measured) + 1}: {row.name}")
        measured.append(measure_row(row))
    _progress(f"{time.perf_counter() - start:4.0f} s, {len(measured)} rows\n")
    results = _report.results(machine, bandwidth, measured)
    for group in dict.fromkeys(m.row.group for m in measured):
        print(_report.table(group, results), end="\n\n")
    print(_report.LEGEND, _report.machine(results), sep="\n\n")
    if options.json:
        _report.write_json(options.json, results)
    if options.chart:
        _report.draw(options.chart, results)


def _progress(line: str) -> None:
    """Write over the last progress line, on a terminal; elsewhere write a new one."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{line}")
    else:
        sys.stderr.write(f"{line.rstrip()}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
