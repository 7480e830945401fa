"""Every backend computes what the portable one does, whatever machine is at hand.

The backends for other machines are plain `lax`, which runs anywhere; the native kernels are
called as they are. Each backend's three operations are compared over modes, paddings, layouts,
axes, orders of the derivative, windows and dtypes, at points in, on the edge of and far from the
image, and at coordinates that are no numbers.
"""

import dataclasses
import itertools
import os
import subprocess
import sys
import zlib
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxwarp
from jaxwarp._layout import Layout
from jaxwarp._sampler import Rule, SampleSpec
from jaxwarp._sampler.backends import BACKENDS, cpu, forced, portable

OPERATIONS = ("sample", "splat", "correlate")
MODES = ("nearest", "bilinear", "bicubic")
PADDINGS = ("zeros", "border", "reflection", "wrap")
OTHERS = tuple(name for name in BACKENDS if name != "portable")
# As the command of README.md installs it, the suite has the kernels; without a compiler it says
# so once, in test_the_kernels_were_built, and not for every case.
NATIVE = cpu.why_not() is None

SIZES = {1: (9,), 2: (7, 6), 3: (5, 4, 6)}
OUT = {1: (301,), 2: (17, 19), 3: (5, 7, 9)}
BATCH = 3


@dataclasses.dataclass(frozen=True)
class Case:
    """A call of a backend."""

    op: str
    mode: str
    axes: int
    padding: Any
    channels_last: bool
    align_corners: bool = False
    normalized: bool = True
    dtype: str = "float64"
    channels: int = 3
    orders: tuple[tuple[int, ...], ...] | None = None
    window: str = ""
    size: tuple[int, ...] | None = None

    def __str__(self) -> str:
        padding = self.padding if isinstance(self.padding, str) else "+".join(self.padding)
        words = [self.op, self.mode, f"{self.axes}d", padding, "last" * self.channels_last]
        words += ["corners" * self.align_corners, "pixels" * (not self.normalized), self.dtype]
        words += [f"{self.channels}c", str(self.orders or "").replace(" ", ""), self.window]
        words += ["x".join(map(str, self.size or ()))]
        return "-".join(filter(None, words))

    @property
    def spec(self) -> SampleSpec:
        rule = Rule(self.mode, self.padding, self.align_corners, self.normalized)
        size, orders = self.size or SIZES[self.axes], self.orders
        plain = SampleSpec.plain(rule, Layout(self.channels_last), size, self.dtype)
        return plain if orders is None else plain._replace(orders=orders)


def unit_orders(axes):
    """First derivatives along each axis, as the grid's gradient asks for."""
    return tuple(tuple(int(a == i) for i in range(axes)) for a in range(axes))


def _plain_cases():
    """Each operation, mode, padding and number of axes; what else there is takes turns."""
    rows = itertools.product(OPERATIONS, MODES, (1, 2, 3), PADDINGS)
    for i, (op, mode, axes, padding) in enumerate(rows):
        derived = mode != "nearest" and (op == "correlate" or i % 3 == 0)
        yield Case(
            op, mode, axes, padding, bool((i + i // 4) % 2), bool(i // 2 % 2), i % 5 != 0,
            channels=(1, 3, 2, 5, 17, 4)[i % 6], orders=unit_orders(axes) if derived else None,
        )  # fmt: skip


def _more_cases():
    high = {"bilinear": ((1, 1), (0, 0), (1, 0)), "bicubic": ((3, 0), (1, 2), (0, 0))}
    for op, (mode, orders), last in itertools.product(OPERATIONS, high.items(), (False, True)):
        yield Case(op, mode, 2, "border", last, orders=orders)
    for op, mode in itertools.product(OPERATIONS, MODES):
        yield Case(op, mode, 2, ("wrap", "border"), True)
        yield Case(op, mode, 3, ("zeros", "reflection", "wrap"), False, True)
        for window, padding in (("shared", "reflection"), ("each", "zeros"), ("rows", "wrap")):
            yield Case(op, mode, 2, padding, window == "rows", window=window)
        for size in ((1, 1), (1, 5), (2, 3), (3, 2)):  # narrower than a row of neighbours
            yield Case(op, mode, 2, PADDINGS[sum(size) % 4], size[0] == 1, True, size=size)
        for dtype in ("float32", "bfloat16", "float16"):
            yield Case(op, mode, 2, "zeros", dtype == "float32", dtype=dtype)
        yield Case(op, mode, 2, "reflection", False, channels=0)


CASES = [*_plain_cases(), *_more_cases()]


@cache
def operands(case):
    """Make a case's operands, always the same."""
    rng, spec = np.random.default_rng(zlib.crc32(str(case).encode())), case.spec
    out, n = OUT[case.axes], case.axes
    grid = rng.uniform(-1.6, 1.6, (BATCH, *out, n))
    odd = [np.nan, np.inf, -np.inf, 0.0, 1.0, -1.0]
    # Where a huge number is reflected or wrapped to is left to rounding.
    if set(spec.rule.padding_modes(n)) <= {"zeros", "border"}:
        odd += [1e5, -1e30]
    grid = np.where(rng.random(grid.shape) < 0.15, rng.choice(odd, grid.shape), grid)
    grid = grid if case.normalized else (grid + 1) * (np.array(spec.spatial[::-1]) / 2) - 0.5
    coordinates = "float64" if case.dtype == "float64" else "float32"

    def some(spatial):
        shape = spec.layout.arrange(BATCH, case.channels, spatial)
        return jnp.asarray(rng.normal(size=shape)).astype(case.dtype)

    all_of_them = {
        "image": some(spec.spatial),
        "values": some(out),
        "grid": jnp.asarray(grid, coordinates),
    }
    if case.orders is not None and case.op != "correlate":
        scale = rng.normal(size=(BATCH, *out, len(case.orders)))
        all_of_them["scale"] = jnp.asarray(scale, coordinates)
    if case.window:
        all_of_them["window"] = _window(case, rng)
    unused = {"sample": "values", "splat": "image", "correlate": "scale"}[case.op]
    return {name: x for name, x in all_of_them.items() if name != unused}


def _window(case, rng):
    """One for all points of an image, one for each, or one for each row of points."""
    out = OUT[case.axes]
    shared = {"shared": (1, 1), "each": out, "rows": (out[0], 1)}[case.window]
    size = rng.integers(1, np.array(case.spec.spatial) + 1, (BATCH, *shared, case.axes))
    first = rng.integers(0, np.array(case.spec.spatial) - size + 1)
    return jnp.asarray(np.stack([first, size], axis=-1), jnp.int32)


# Code that is generated quickly computes the same sums.
_QUICKLY = {"xla_backend_optimization_level": 0}


def compute(backend, case):
    """Run one operation of a backend."""
    program = jax.jit(lambda x: getattr(backend, case.op)(x, case.spec), compiler_options=_QUICKLY)
    return np.asarray(program(operands(case)).astype("float64"))


@cache
def expected(case):
    return compute(portable, case)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_backend_computes_the_same(case):
    theirs, known = expected(case), operands(case)
    eps = float(jnp.finfo(case.dtype).eps)
    largest = np.max(np.abs(theirs), initial=1.0, where=np.isfinite(theirs))
    for name in OTHERS:
        if not BACKENDS[name].supports(case.op, known, case.spec):
            continue  # then the portable backend computes it
        ours = compute(BACKENDS[name], case)
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2**8 * eps * largest, err_msg=name)


def test_few_calls_are_left_to_the_portable_backend():
    for name in OTHERS:
        left = [c for c in CASES if not BACKENDS[name].supports(c.op, operands(c), c.spec)]
        assert len(left) <= {"cpu": 0 if NATIVE else len(CASES)}.get(name, len(CASES) // 6)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("op", OPERATIONS)
def test_pixels_that_are_no_numbers_stay_where_they_are(op, mode, channels_last):
    """A NaN or infinity that no point reads, or that lands outside, goes nowhere else."""
    case = Case(op, mode, 2, "zeros", channels_last, channels=2)
    some, name = dict(operands(case)), "values" if op == "splat" else "image"
    flat = some[name].reshape(-1)
    flat = flat.at[::97].set(jnp.nan).at[50::211].set(jnp.inf)
    some[name] = flat.reshape(some[name].shape)
    results = [
        np.asarray(jax.jit(lambda x, b=b: getattr(b, op)(x, case.spec))(some))
        for b in (portable, *(BACKENDS[name] for name in OTHERS if name != "cpu" or NATIVE))
    ]
    assert np.isnan(results[0]).any()
    assert np.isfinite(results[0]).any()
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("padding", ["zeros", "border"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("op", OPERATIONS)
def test_colours_are_computed_alike_in_both_layouts(op, mode, padding):
    """The kernels read a pixel's three colours at once if they lie side by side."""
    first = Case(op, mode, 2, padding, False, channels=3)
    some = {name: np.array(x) for name, x in operands(first).items()}
    pixels = some["values" if op == "splat" else "image"].reshape(-1)
    pixels[::97], pixels[50::211] = np.nan, np.inf
    last = {n: np.moveaxis(x, 1, -1) if n in ("image", "values") else x for n, x in some.items()}
    backend = cpu if NATIVE else portable
    ours = jax.jit(lambda x: getattr(backend, op)(x, first.spec))(some)
    spec = dataclasses.replace(first, channels_last=True).spec
    theirs = np.asarray(jax.jit(lambda x: getattr(backend, op)(x, spec))(last))
    theirs = theirs if op == "correlate" else np.moveaxis(theirs, -1, 1)
    np.testing.assert_allclose(theirs, ours, rtol=1e-12, atol=1e-12)


# Which one runs ----------------------------------------------------------------


def test_the_kernels_were_built():
    """A silent fallback would hide an error in compiling them. JAXWARP_PURE=1 expects none."""
    if os.environ.get("JAXWARP_PURE"):
        assert cpu.why_not() is not None
    else:
        assert cpu.why_not() is None, cpu.why_not()


def program_text(f, *args):
    return jax.jit(f).lower(*args).as_text()


def test_a_backend_can_be_forced():
    image, grid = jnp.ones((1, 1, 4, 4)), jnp.zeros((1, 3, 2))
    assert ("jaxwarp_run" in program_text(jaxwarp.grid_sample, image, grid)) == NATIVE
    with forced("portable"):
        assert "jaxwarp_run" not in program_text(jaxwarp.grid_sample, image, grid)
    assert ("jaxwarp_run" in program_text(jaxwarp.grid_sample, image, grid)) == NATIVE


@pytest.mark.parametrize(
    ("setting", "told"),
    [("", "cpu (native kernels"), ("portable", "portable (JAXWARP_BACKEND)"), ("gpu", "gpu (")],
)
def test_the_environment_chooses(setting, told):
    if not NATIVE and not setting:
        told = "portable ("
    code = (
        "import jax, jaxwarp; print(jaxwarp.backend_of());"
        "print(jaxwarp.grid_sample(jax.numpy.ones((1, 1, 2, 2)), jax.numpy.zeros((1, 1, 2))))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"JAXWARP_BACKEND": setting, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.startswith(told)
    assert run.stdout.splitlines()[-1] == "[[[1.]]]"


def test_an_unknown_backend_is_an_error(monkeypatch):
    monkeypatch.setenv("JAXWARP_BACKEND", "abacus")
    with pytest.raises(ValueError, match="JAXWARP_BACKEND must be one of portable, cpu"):
        jaxwarp.backend_of()


def test_a_library_that_cannot_be_loaded_is_told(monkeypatch, tmp_path):
    broken = tmp_path / "libjaxwarp_kernels.so"
    broken.write_bytes(b"no library")
    monkeypatch.setattr(cpu, "library_path", lambda: broken)
    cpu._load.cache_clear()
    try:
        reason = cpu.why_not()
        assert reason is not None
        assert "cannot be used" in reason
        assert "\n" not in reason
        with pytest.raises(RuntimeError, match="cannot be used"):
            cpu.instruction_set()
        assert jaxwarp.backend_of("cpu").startswith("portable (")
    finally:
        monkeypatch.undo()
        cpu._load.cache_clear()
