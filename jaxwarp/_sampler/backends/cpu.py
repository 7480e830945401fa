"""The CPU backend: native kernels in C++ (`kernels/`), called through XLA's FFI.

They compute all that the primitive can ask for, on XLA's own threads. Where their library was
not built, cannot be loaded, or does not suit this jaxlib, `why_not` says so, and the portable
backend computes instead.
"""

import ctypes
import functools
import math
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxwarp._sampler.spec import SampleSpec, Shaped

_TARGET = "jaxwarp_run"
_LIBRARY = {"win32": "jaxwarp_kernels.dll"}.get(sys.platform, "libjaxwarp_kernels.so")

# The operands' order, and the numbers of the enumerations in kernels/call.h.
_OPERANDS = ("image", "values", "scale", "grid", "window")
_OPS = ("sample", "splat", "correlate")
_MODES = ("nearest", "bilinear", "bicubic")
_PADDINGS = ("zeros", "border", "reflection", "wrap")
_MAX_AXES = 3
# Beyond this the kernels' 32-bit arithmetic on a pixel's index has no room to spare.
_MAX_PIXELS = 2**30


def supports(op: str, operands: Mapping[str, Shaped], spec: SampleSpec) -> bool:
    """Tell whether the kernels are there, and all sizes are numbers that they can count."""
    del op
    sizes = (*spec.spatial, *(size for x in operands.values() for size in x.shape))
    known = all(isinstance(size, int) for size in sizes)
    return known and math.prod(spec.spatial) <= _MAX_PIXELS and why_not() is None


def why_not() -> str | None:
    """Say in one line why the kernels do not run, or None if they do."""
    return _load()[1]


def instruction_sets() -> list[str]:
    """Name those that there are kernels for and this processor has; the first is used."""
    library, reason = _load()
    if library is None:
        raise RuntimeError(reason)
    return _tell(library)


def _tell(library: ctypes.CDLL) -> list[str]:
    tell = library.jaxwarp_instruction_sets
    tell.restype = ctypes.c_char_p
    return tell().decode().split()


def library_path() -> Path | None:
    """Find the library beside this file or, of an editable install, in site-packages."""
    package = sys.modules[__name__.rpartition(".")[0]]
    candidates = (Path(folder) / _LIBRARY for folder in package.__path__)
    return next((path for path in candidates if path.is_file()), None)


@functools.cache
def _load() -> tuple[ctypes.CDLL | None, str | None]:
    """Load and register the kernels; return the library, or the reason why there is none."""
    path = library_path()
    if path is None:
        return None, f"{_LIBRARY} was not built (no C++ compiler when jaxwarp was installed?)"
    try:
        library = ctypes.CDLL(str(path))
        if not _tell(library):
            return None, f"{path.name} has no kernels for this processor (it has no AVX2)"
        handler = jax.ffi.pycapsule(library.jaxwarp_run)
        jax.ffi.register_ffi_target(_TARGET, handler, platform="cpu")
    except Exception as error:  # whatever it is, there is another way to compute
        return None, f"{path.name} cannot be used: {error}".splitlines()[0]
    return library, None


# The operations ---------------------------------------------------------------


def sample(operands: Mapping[str, jax.Array], spec: SampleSpec) -> jax.Array:
    """Gather the neighbours and weigh them: (N, C, *out) or (N, *out, C)."""
    return _call("sample", operands, spec)


def splat(operands: Mapping[str, jax.Array], spec: SampleSpec) -> jax.Array:
    """Add weighed values to the neighbours: (N, C, *spatial) or (N, *spatial, C)."""
    return _call("splat", operands, spec)


def correlate(operands: Mapping[str, jax.Array], spec: SampleSpec) -> jax.Array:
    """Gather the neighbours and dot them with the values: one number a term, (N, *out, M)."""
    return _call("correlate", operands, spec)


def _call(op: str, operands: Mapping[str, jax.Array], spec: SampleSpec) -> jax.Array:
    grid = operands["grid"]
    shape, dtype = spec.result(op, operands)
    source = operands["values" if "values" in operands else "image"]
    channels, points = spec.layout.channels(source.shape), math.prod(grid.shape[1:-1])
    arrays = {
        name: _for_kernels(name, operands[name], grid) for name in _OPERANDS if name in operands
    }
    windows = arrays["window"].shape[1] if "window" in arrays else 0
    one_channel = channels == 1  # both layouts are the same then, and this one is faster
    options = [
        _OPS.index(op),
        _MODES.index(spec.rule.mode),
        len(spec.spatial),
        *_per_axis(_PADDINGS.index(mode) for mode in spec.rule.padding_modes(len(spec.spatial))),
        spec.rule.align_corners,
        spec.rule.normalized,
        spec.layout.channels_last and not one_channel,
    ]
    result = jax.ffi.ffi_call(_TARGET, jax.ShapeDtypeStruct(shape, grid.dtype))(
        *arrays.values(),
        operands=np.int32(sum(1 << i for i, name in enumerate(_OPERANDS) if name in arrays)),
        options=np.array(options, np.int32),
        orders=np.array(spec.orders, np.int32).reshape(-1),
        sizes=np.array(
            [grid.shape[0], channels, points, windows, *_per_axis(spec.spatial)], np.int64
        ),
    )
    return result.astype(dtype)


def _per_axis(values: Iterable[int]) -> list[int]:
    known = list(values)
    return known + [0] * (_MAX_AXES - len(known))


def _for_kernels(name: str, x: jax.Array, grid: jax.Array) -> jax.Array:
    """Bring an operand to the grid's dtype; merge a window's axes, as far as points share it."""
    if name != "window":
        return x.astype(grid.dtype)
    batch, *out, axes, ends = x.shape
    while out and out[-1] == 1:
        out.pop()
    shared = len(out)
    out = list(grid.shape[1 : 1 + shared])
    ones = (1,) * (x.ndim - shared - 3)
    x = jnp.broadcast_to(x, (batch, *out, *ones, axes, ends))
    return x.reshape(batch, math.prod(out), axes, ends)
