"""Calls of the native kernels without JAX, any that can be.

Operands lie in memory of exactly their size, which a sanitizer fences.
"""

import ctypes
import dataclasses
import sys
from typing import Any, ClassVar

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

OPS = ("sample", "splat", "correlate")
MODES = ("nearest", "bilinear", "bicubic")
PADDINGS = ("zeros", "border", "reflection", "wrap")


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
        self.libc = ctypes.CDLL("msvcrt" if sys.platform == "win32" else None)
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


def run(
    library: ctypes.CDLL, options: dict[str, Any], grid: np.ndarray, rng, instruction_set: int = 0
) -> np.ndarray:
    """Make the operands of a call, and call: for the best instruction set, the next best, ..."""
    memory, dtype = Memory(), grid.dtype
    batch, points, axes = grid.shape
    spatial, channels = options["spatial"], options["channels"]
    orders = np.asarray(options["orders"], np.int32).reshape(-1, axes)
    image = rng.normal(size=(batch, channels, *spatial)).astype(dtype)
    values = rng.normal(size=(batch, channels, points)).astype(dtype)
    scale = rng.normal(size=(batch, points, len(orders))).astype(dtype)
    out = np.zeros_like({"sample": values, "splat": image, "correlate": scale}[options["op"]])
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
        memory.hold(out),
    )
    library.jaxwarp_call(
        ctypes.byref(call), ctypes.c_int64(options["threads"]), ctypes.c_int32(instruction_set)
    )
    ctypes.memmove(out.ctypes.data, call.out, out.nbytes)
    memory.free()
    return out


# Any call at all ---------------------------------------------------------------

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
ORDERS = st.one_of(  # of the derivative, for each term along each of three axes
    st.just([(0, 0, 0)]),
    st.lists(st.tuples(*[st.integers(0, 3)] * 3), min_size=1, max_size=3),
)
COORDINATES = st.sampled_from(("near", "bits", "far"))
WINDOWS = st.sampled_from(("none", "within", "bits", "shared"))
# A call takes its time, with up to 600 points of three images, but no more than that.
_LARGE = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example)
SETTINGS = settings(deadline=None, database=None, suppress_health_check=_LARGE)


@dataclasses.dataclass(frozen=True)
class AnyCall:
    """What a call is made of."""

    options: dict[str, Any]
    shape: tuple[list[int], int, int]
    all_orders: list[tuple[int, int, int]]
    coordinates: str
    window: str
    double: bool
    seed: int

    @property
    def orders(self) -> np.ndarray:
        """Along the axes that there are, (terms, axes)."""
        return np.array(self.all_orders)[:, : len(self.shape[0])]

    def run(self, library: ctypes.CDLL, instruction_set: int = 0) -> np.ndarray:
        """Make the operands, and call."""
        rng = np.random.default_rng(self.seed)
        spatial, batch, points = self.shape
        dtype = np.dtype(np.float64 if self.double else np.float32)
        grid = _coordinates(self.coordinates, (batch, points, len(spatial)), dtype, rng)
        windows = _windows(self.window, batch, points, spatial, rng)
        options = self.options | {"spatial": spatial, "orders": self.orders, "window": windows}
        return run(library, options, grid, rng, instruction_set)


ANY_CALL = st.builds(
    AnyCall, CALLS, SHAPES, ORDERS, COORDINATES, WINDOWS, st.booleans(), st.integers(0, 2**32 - 1)
)


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
