"""Run the native kernels under sanitizers: ``python -m parity_tests.harness.sanitized``.

They are compiled anew so that every read or write out of bounds, every arithmetic overflow and
every float that no integer can hold ends the process. Then they are called without JAX, from a
second process that has the sanitizers loaded first, with operands in memory of exactly their
size: the awkward positions of the suite's table, and any bits at all as coordinates and windows.
Needs g++.
"""

import ctypes
import itertools
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from parity_tests.harness import cases

KERNELS = Path(__file__).parents[2] / "jaxwarp" / "_sampler" / "backends" / "kernels"
OPS = ("sample", "splat", "correlate")
MODES = ("nearest", "bilinear", "bicubic")
PADDINGS = ("zeros", "border", "reflection", "wrap")
_LIBRARY = "JAXWARP_SANITIZED"


class Call(ctypes.Structure):
    """The struct of kernels/call.h."""

    _fields_: ClassVar = [
        *((name, ctypes.c_int32) for name in ("op", "mode", "axes", "terms")),
        ("padding", ctypes.c_int32 * 3),
        *((n, ctypes.c_int32) for n in ("align_corners", "normalized", "channels_last", "double")),
        ("orders", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("batch", "channels", "points", "windows")),
        ("spatial", ctypes.c_int64 * 3),
        *((n, ctypes.c_void_p) for n in ("image", "values", "scale", "grid", "window", "out")),
    ]


class Memory:
    """Copies of arrays, each in an allocation of its own, which a sanitizer fences."""

    def __init__(self) -> None:
        self.libc = ctypes.CDLL(None)
        self.libc.malloc.restype = ctypes.c_void_p
        self.libc.malloc.argtypes = [ctypes.c_size_t]
        self.libc.free.argtypes = [ctypes.c_void_p]
        self.blocks: list[int] = []

    def hold(self, x: np.ndarray) -> int:
        """Return the address of a copy."""
        x = np.ascontiguousarray(x)
        block = self.libc.malloc(x.nbytes)
        ctypes.memmove(block, x.ctypes.data, x.nbytes)
        self.blocks.append(block)
        return block

    def free(self) -> None:
        """Give all of it back."""
        for block in self.blocks:
            self.libc.free(block)


def run(library: ctypes.CDLL, options: dict[str, Any], grid: np.ndarray, rng) -> None:
    """Make the operands of a call, and call."""
    memory, dtype = Memory(), grid.dtype
    batch, points, axes = grid.shape
    spatial, channels = options["spatial"], options["channels"]
    orders = np.asarray(options["orders"], np.int32).reshape(-1, axes)
    image = rng.normal(size=(batch, channels, *spatial)).astype(dtype)
    values = rng.normal(size=(batch, channels, points)).astype(dtype)
    scale = rng.normal(size=(batch, points, len(orders))).astype(dtype)
    out = {"sample": values, "splat": image, "correlate": scale}[options["op"]]
    given = {"sample": (image, None), "splat": (None, values), "correlate": (image, values)}
    read, added = given[options["op"]]
    scaled = options["op"] != "correlate" and (options["scaled"] or len(orders) > 1)
    window = options["window"]
    padded = (*spatial, *(0,) * (3 - axes))
    call = Call(
        OPS.index(options["op"]),
        MODES.index(options["mode"]),
        axes,
        len(orders),
        (ctypes.c_int32 * 3)(*(PADDINGS.index(p) for p in options["paddings"])),
        options["align_corners"],
        options["normalized"],
        options["channels_last"] and channels != 1,
        dtype == np.float64,
        memory.hold(orders),
        batch,
        channels,
        points,
        0 if window is None else window.shape[1],
        (ctypes.c_int64 * 3)(*padded),
        None if read is None else memory.hold(read),
        None if added is None else memory.hold(added),
        memory.hold(scale) if scaled else None,
        memory.hold(grid),
        None if window is None else memory.hold(window),
        memory.hold(np.zeros_like(out)),
    )
    library.jaxwarp_call(ctypes.byref(call), ctypes.c_int64(options["threads"]))
    memory.free()


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
        for op, last in itertools.product(OPS, (False, True)):
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
            run(library, options, grid, rng)


CALLS = st.fixed_dictionaries(
    {
        "op": st.sampled_from(OPS),
        "mode": st.sampled_from(MODES),
        "paddings": st.tuples(*[st.sampled_from(PADDINGS)] * 3),
        "align_corners": st.booleans(),
        "normalized": st.booleans(),
        "channels_last": st.booleans(),
        "channels": st.sampled_from((0, 1, 2, 3, 4, 5, 7, 16, 17, 33)),
        "scaled": st.booleans(),
        "threads": st.integers(1, 5),
    }
)
SHAPES = st.tuples(
    st.one_of(  # pixels; in float64 a row of 512 is one that sums are not added up in
        st.lists(st.integers(1, 9), min_size=1, max_size=3),
        st.lists(st.integers(1, 2), min_size=1, max_size=2).map(lambda rows: [*rows, 512]),
    ),
    st.integers(1, 3),  # images
    st.sampled_from((0, 1, 2, 15, 16, 17, 255, 256, 257, 600)),  # points
)
COORDINATES = st.sampled_from(("near", "bits", "far"))
WINDOWS = st.sampled_from(("none", "within", "bits", "shared"))
SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example)


@settings(max_examples=2500, deadline=None, database=None, suppress_health_check=SLOW)
@given(CALLS, SHAPES, COORDINATES, WINDOWS, st.booleans(), st.integers(0, 2**32 - 1))
def anything(options, shape, coordinates, window, double, seed) -> None:
    """Any call at all."""
    library, rng = ctypes.CDLL(os.environ[_LIBRARY]), np.random.default_rng(seed)
    spatial, batch, points = shape
    axes, dtype = len(spatial), np.float64 if double else np.float32
    terms = int(rng.integers(1, 4))
    orders = rng.integers(0, 4, (terms, axes)) if rng.random() < 0.5 else np.zeros((1, axes))
    grid = _coordinates(coordinates, (batch, points, axes), np.dtype(dtype), rng)
    windows = _windows(window, batch, points, spatial, rng)
    run(library, options | {"spatial": spatial, "orders": orders, "window": windows}, grid, rng)


def _coordinates(kind: str, shape: tuple[int, ...], dtype: np.dtype, rng) -> np.ndarray:
    if kind == "bits":
        return np.frombuffer(rng.bytes(int(np.prod(shape)) * dtype.itemsize), dtype).reshape(shape)
    grid = rng.uniform(-2, 2, shape).astype(dtype)
    if kind == "far":
        odd = [np.nan, np.inf, -np.inf, 1e30, -1e30, 2.0**31, -(2.0**31), 2.0**63, 1e9, 0.0, 1.0]
        grid = np.where(rng.random(shape) < 0.5, rng.choice(odd, shape), grid).astype(dtype)
    return grid


def _windows(kind: str, batch: int, points: int, spatial: list[int], rng) -> np.ndarray | None:
    if kind == "none" or points == 0:
        return None
    count = 1 if kind == "shared" else points
    shape = (batch, count, len(spatial), 2)
    if kind == "bits":
        return rng.integers(-(2**31), 2**31, shape, dtype=np.int64).astype(np.int32)
    sizes = np.array(spatial)
    size = rng.integers(1, sizes + 1, shape[:-1])
    return np.stack([rng.integers(0, sizes - size + 1), size], -1).astype(np.int32)


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
