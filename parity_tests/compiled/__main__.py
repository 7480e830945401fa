"""Compile for a GPU or TPU that need not be there, and read what comes out.

Nothing is run: what is printed are facts about programs, not a measured speed.
"""

import argparse
import datetime
import importlib.metadata
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, SingleDeviceSharding

from parity_tests.compiled import _ceilings, _dumps, _hlo, _report
from parity_tests.compiled._programs import DEVICES, Program, programs
from parity_tests.compiled._targets import TARGETS, Target, prepare


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("python -m parity_tests.compiled", description=__doc__)
    add = parser.add_argument
    add("--for", dest="target", choices=TARGETS, required=True, help="the device to compile for")
    add("--only", default="", metavar="REGEX", help="the rows whose name matches, only")
    add("--json", type=Path, metavar="FILE", help="write the results")
    add("--md", type=Path, metavar="FILE", help="write the tables")
    add("--check", action="store_true", help="fail where a row is above its ceiling")
    return parser.parse_args(arguments)


def compiled(program: Program, target: Target, folder: Path) -> _report.Results:
    """Compile one program, and gather what can be read of it."""
    start, on_gpu = time.process_time(), target.platform == "cuda"
    lowered = jax.jit(program.f).lower(*_placed(program, target))
    options: dict[str, str | bool] = {"xla_dump_to": str(folder)} if on_gpu else {}
    executable = lowered.compile(compiler_options=options)
    seconds = time.process_time() - start
    read = _hlo.parse(executable.as_text() or "")
    memory: Any = executable.memory_analysis()
    points = 0 if on_gpu else program.points
    return {
        "group": program.group,
        "name": program.name,
        "contender": program.contender,
        "direction": program.direction,
        "launches": read.launches(),
        "bytes": read.bytes_moved(),
        "temporary bytes": memory.temp_size_in_bytes,
        "atomics": dict(_dumps.atomics(folder)),
        "collectives": dict(read.collectives()),
        "bundles a point": _dumps.cycles(folder, read, points) if points else {},
        "compile CPU seconds": round(seconds, 1),
    }


def _placed(program: Program, target: Target) -> Iterator[jax.ShapeDtypeStruct]:
    """Yield the arguments, on one described device or over several."""
    if program.specs:
        mesh = Mesh(np.asarray(target.devices(DEVICES)), ("d",))
        shardings = [NamedSharding(mesh, spec) for spec in program.specs]
    else:
        one = SingleDeviceSharding(target.devices(1)[0])
        shardings = [one] * len(program.arguments)
    for argument, sharding in zip(program.arguments, shardings, strict=True):
        yield jax.ShapeDtypeStruct(argument.shape, argument.dtype, sharding=sharding)


def versions(target: Target) -> dict[str, str]:
    """Name the versions of what compiles, and when it did."""
    names = ("jax", "jaxlib", *target.packages)
    found = {name: importlib.metadata.version(name) for name in names}
    return found | {"python": platform.python_version(), "on": datetime.date.today().isoformat()}


def main(arguments: Sequence[str]) -> int:
    """Compile, print and write; return 1 if a ceiling is exceeded that was to be checked."""
    options = parse(arguments)
    target, rows = TARGETS[options.target], []
    folder = Path(tempfile.mkdtemp())
    prepare(target, str(folder))
    for program in programs():
        if re.search(options.only, str(program)):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            rows.append(compiled(program, target, folder))
            sys.stderr.write(f"{program}\n")
    shutil.rmtree(folder, ignore_errors=True)
    described = {"name": options.target, "platform": target.platform, "device": target.description}
    results = {"target": described, "versions": versions(target), "rows": rows}
    print(_report.markdown(results))
    if options.json:
        options.json.write_text(_report.to_json(results))
    if options.md:
        options.md.write_text(_report.markdown(results))
    wrong = list(_ceilings.exceeded(options.target, rows)) if options.check else []
    print(*wrong, sep="\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
