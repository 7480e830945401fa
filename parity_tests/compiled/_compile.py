"""Compile programs for a described device, and gather what can be read of each."""

import multiprocessing
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, SingleDeviceSharding

from parity_tests.compiled import _dumps, _hlo
from parity_tests.compiled._programs import DEVICES, Program, programs
from parity_tests.compiled._targets import TARGETS, Target, prepare

Row = dict[str, Any]


def compile_rows(name: str, only: str) -> list[Row]:
    """Compile the programs whose text matches, for the target of that name: a row for each."""
    target, rows = TARGETS[name], []
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as apart:
        found = apart.submit(_bundles, name, only) if target.platform == "tpu" else None
        prepare(target)
        for program in _chosen(only):
            with tempfile.TemporaryDirectory() as folder:
                rows.append(_compiled(program, target, Path(folder)))
            sys.stderr.write(f"{program}\n")
        each = found.result() if found else [{}] * len(rows)
    return [row | {"bundles a point": b} for row, b in zip(rows, each, strict=True)]


def _compiled(program: Program, target: Target, folder: Path) -> Row:
    """Compile one program, and gather what can be read of it; a GPU's code is left in a folder."""
    start, on_gpu = time.process_time(), target.platform == "cuda"
    executable = _compile(program, target, {"xla_dump_to": str(folder)} if on_gpu else {})
    seconds = time.process_time() - start
    read = _hlo.parse(executable.as_text() or "")
    memory: Any = executable.memory_analysis()
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
        "compile CPU seconds": round(seconds, 1),
    }


def _bundles(name: str, only: str) -> list[dict[str, float]]:
    """Return the bundles a point of a TPU's programs, nothing for those that sample no points.

    Its compiler leaves them in a folder, of all programs of a process or of none, and takes
    longer for it. So this is for a process of its own.
    """
    target = TARGETS[name]
    with tempfile.TemporaryDirectory() as dump:
        prepare(target, dump)
        return [_cycles(p, target, Path(dump)) if p.points else {} for p in _chosen(only)]


def _cycles(program: Program, target: Target, folder: Path) -> dict[str, float]:
    for file in folder.iterdir():
        file.unlink()
    read = _hlo.parse(_compile(program, target).as_text() or "")
    return _dumps.cycles(folder, read, program.points)


def _chosen(only: str) -> list[Program]:
    return [program for program in programs() if re.search(only, str(program))]


def _compile(
    program: Program, target: Target, options: dict[str, str | bool] | None = None
) -> jax.stages.Compiled:
    lowered = jax.jit(program.f).lower(*_placed(program, target))
    return lowered.compile(compiler_options=options)


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
