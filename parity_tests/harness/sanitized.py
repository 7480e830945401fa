"""Run the native kernels under sanitizers: ``python -m parity_tests.harness.sanitized``.

They are compiled anew so that every read or write out of bounds, every arithmetic overflow and
every float that no integer can hold ends the process. Then they are called without JAX, from a
second process that has the sanitizers loaded first: the awkward positions of the suite's table,
and any bits at all as coordinates and windows. Needs g++.
"""

import ctypes
import itertools
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings

from parity_tests.harness import cases, native_calls

KERNELS = Path(__file__).parents[2] / "jaxwarp" / "_sampler" / "backends" / "kernels"
_LIBRARY = "JAXWARP_SANITIZED"


# What is called ---------------------------------------------------------------


def table() -> None:
    """Sample, splat and correlate at every position of the suite's table."""
    library, rng = ctypes.CDLL(os.environ[_LIBRARY]), np.random.default_rng(0)
    for case in cases.SAMPLE_CASES:
        if not case.samples:
            continue
        problem = cases.problem(case)
        grid = problem.operands["positions" if case.op == "remap" else "grid"]
        grid = grid.reshape(grid.shape[0], -1, case.axes)
        for op, last in itertools.product(native_calls.OPS, (False, True)):
            options = {
                "op": op,
                "mode": case.mode,
                "paddings": (case.padding,) * 3,
                "align_corners": case.align_corners,
                "normalized": case.op != "remap",
                "channels_last": last,
                "spatial": problem.size,
                "channels": 3,
                "orders": np.eye(case.axes) if op == "correlate" else np.zeros(case.axes),
                "scaled": False,
                "window": None,
                "threads": 1,
            }
            native_calls.run(library, options, grid, rng)


@settings(native_calls.SETTINGS, max_examples=2500)
@given(native_calls.ANY_CALL)
def anything(call: native_calls.AnyCall) -> None:
    """Any call at all."""
    call.run(ctypes.CDLL(os.environ[_LIBRARY]))


# Compiling --------------------------------------------------------------------


def compile_kernels(folder: Path) -> Path:
    """Compile the kernels for one instruction set, with sanitizers."""
    import jax

    library = folder / "kernels.so"
    checks = "-fsanitize=address,undefined,float-cast-overflow"
    options = [
        "-std=c++17",
        "-march=native",  # its vectors
        "-O1",
        "-g",
        "-fPIC",
        "-shared",
        "-pthread",
        "-fno-sanitize-recover=all",
    ]
    defines = ["-DJAXWARP_KERNELS=kernels_native", "-DJAXWARP_ONE_INSTRUCTION_SET"]
    sources = [str(KERNELS / name) for name in ("kernels.cc", "dispatch.cc")]
    headers = ["-isystem", jax.ffi.include_dir()]
    command = ["g++", *options, checks, *defines, *headers, *sources, "-o", str(library)]
    subprocess.run(command, check=True)
    return library


def main() -> None:
    """Compile, then call from a process that has the sanitizers loaded first."""
    with tempfile.TemporaryDirectory() as folder:
        library = compile_kernels(Path(folder))
        preload = [
            subprocess.run(
                ["g++", f"-print-file-name={name}"], capture_output=True, text=True, check=True
            ).stdout.strip()
            for name in ("libasan.so", "libubsan.so")
        ]
        environment = os.environ | {
            _LIBRARY: str(library),
            "LD_PRELOAD": " ".join(preload),
            "ASAN_OPTIONS": "detect_leaks=0",  # Python's own
        }
        subprocess.run([sys.executable, "-m", __spec__.name, "call"], env=environment, check=True)
    print("nothing was read or written out of bounds, and no arithmetic was undefined")


if __name__ == "__main__":
    if sys.argv[1:] == ["call"]:
        table()
        anything()
    else:
        main()
