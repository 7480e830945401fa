"""Every backend computes what the portable one does, whatever machine is at hand.

The backends for other machines are plain `lax`, which runs anywhere; the native kernels are
called as they are. Each backend's three operations are compared over modes, paddings, layouts,
axes, orders of the derivative, windows and dtypes, at points in, on the edge of and far from the
image, and at coordinates that are no numbers.

All backends compute a case in one program: they share much, which is compiled once.
"""

import dataclasses
import itertools
import os
import subprocess
import sys
import zlib
from functools import cache, partial
from typing import Any

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxwarp
from jaxwarp._layout import Layout
from jaxwarp._sampler import Rule, SampleSpec
from jaxwarp._sampler.backends import BACKENDS, cpu, forced, portable
from jaxwarp._sampler.interpolation import KERNELS
from parity_tests.harness import native_calls, quickly

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


def all_orders(mode, axes):
    """First derivatives along each axis, as the grid's gradient asks for, and higher ones."""
    units = tuple(tuple(int(a == i) for i in range(axes)) for a in range(axes))
    highest = min(KERNELS[mode].degree, 2)
    return (*units, (1,) * axes, (highest, *(0,) * (axes - 1)))


def _plain_cases():
    """Each operation, mode, padding and number of axes; what else there is takes turns."""
    rows = itertools.product(OPERATIONS, MODES, (1, 2, 3), PADDINGS)
    for i, (op, mode, axes, padding) in enumerate(rows):
        derived = mode != "nearest" and (op == "correlate" or i % 3 == 0)
        # Of two axes there are more such cases below.
        window = (
            ("columns", "", "shared", "")[i // 4 % 4] if axes != 2 and padding != "wrap" else ""
        )
        narrow = {1: (2,), 3: (2, 1, 5)}.get(axes) if i % 3 == 1 and not window else None
        yield Case(
            op, mode, axes, padding, bool((i + i // 4) % 2), bool(i // 2 % 2), i % 5 != 0,
            channels=(1, 3, 2, 5, 17, 4)[i % 6], orders=all_orders(mode, axes) if derived else None,
            window=window, size=narrow,
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
            if mode == "bilinear":
                yield Case(op, mode, 2, "zeros", dtype != "float32", dtype=dtype)
        yield Case(op, mode, 2, "reflection", False, channels=0)


CASES = [*_plain_cases(), *_more_cases()]


@cache
def operands(case):
    """Make a case's operands, always the same; in NumPy, where each costs no program of its own."""
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
        return rng.normal(size=shape).astype(jnp.dtype(case.dtype))

    all_of_them = {
        "image": some(spec.spatial),
        "values": some(out),
        "grid": grid.astype(coordinates),
    }
    if case.orders is not None and case.op != "correlate":
        scale = rng.normal(size=(BATCH, *out, len(case.orders)))
        all_of_them["scale"] = scale.astype(coordinates)
    if case.window:
        all_of_them["window"] = _window(case, rng)
    unused = {"sample": "values", "splat": "image", "correlate": "scale"}[case.op]
    return {name: x for name, x in all_of_them.items() if name != unused}


def _window(case, rng):
    """One for all points of an image, one for each, or one for each row or column of points."""
    out = OUT[case.axes]
    ones = (1,) * (len(out) - 1)
    columns = (1, *out[1:]) if ones else out
    shared = {"shared": (1, *ones), "each": out, "rows": (out[0], *ones), "columns": columns}
    shared = shared[case.window]
    size = rng.integers(1, np.array(case.spec.spatial) + 1, (BATCH, *shared, case.axes))
    first = rng.integers(0, np.array(case.spec.spatial) - size + 1)
    return np.stack([first, size], axis=-1).astype(np.int32)


def computed(*calls):
    """Compute calls (op, operands, spec), each with all backends that can, in one program."""
    names = [
        [n for n, form in BACKENDS.items() if form.supports(op, given, spec)]
        for op, given, spec in calls
    ]

    @partial(jax.jit, compiler_options=quickly.options(optimised=False))
    def program(operands):
        return [
            {name: getattr(BACKENDS[name], op)(given, spec) for name in able}
            for (op, _, spec), given, able in zip(calls, operands, names, strict=True)
        ]

    return program([given for _, given, _ in calls])


def assert_same(op, spec, given, results):
    """Compare all results with the portable one, up to the rounding of sums."""
    theirs = results["portable"]
    expected = np.asarray(theirs).astype("float64")
    assert np.isfinite(expected).all()
    largest = np.abs(expected).max(initial=1e-300)
    for name, ours in results.items():
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        # The kernels round positions, too, in their own way.
        bits = given["grid"].dtype if op == "correlate" and name != "cpu" else spec.dtype
        ulps = 2**8 if name == "cpu" else 2**6
        bound = ulps * float(jnp.finfo(bits).eps) * (max(largest, 1) if name == "cpu" else largest)
        ours = np.asarray(ours).astype("float64")
        np.testing.assert_allclose(ours, expected, rtol=0, atol=bound, err_msg=name)


def compare(*calls):
    for (op, given, spec), results in zip(calls, computed(*calls), strict=True):
        assert_same(op, spec, given, results)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_backend_computes_the_same(case):
    compare((case.op, operands(case), case.spec))


@pytest.mark.parametrize("padding", ["reflection", "wrap"])
def test_forms_in_lax_fold_what_is_far_off_to_the_same_place(padding):
    """What it becomes hangs on its last bit, and they all round alike."""
    calls = []
    for op in OPERATIONS:
        case = Case(op, "bilinear", 2, padding, False)
        far = np.where(operands(case)["grid"] > 1, 1e5, operands(case)["grid"])
        calls.append((op, operands(case) | {"grid": far}, case.spec))
    for (op, given, spec), results in zip(calls, computed(*calls), strict=True):
        results.pop("cpu", None)
        assert set(results) == {"portable", "gpu", "tpu"}
        assert_same(op, spec, given, results)


@pytest.mark.parametrize(("batch", "channels"), [(0, 3), (2, 0), (1, 1), (1, 17), (1, 130)])
@pytest.mark.parametrize("op", OPERATIONS)
def test_few_channels_and_many(op, batch, channels):
    cases = [Case(op, "bilinear", 2, "border", last, channels=channels) for last in (False, True)]
    calls = [(op, {k: x[:batch] for k, x in operands(c).items()}, c.spec) for c in cases]
    some = batch > 0 and channels > 0
    fits = {"portable": True, "cpu": NATIVE, "gpu": some, "tpu": some and 4 * channels <= 128}
    for call in calls:
        assert {name: form.supports(*call) for name, form in BACKENDS.items()} == fits
    compare(*calls)


@pytest.mark.parametrize(("batch", "channels"), [(3, 2), (1, 17)])
@pytest.mark.parametrize("size", [(2, 512), (1, 2, 512)])
@pytest.mark.parametrize("mode", MODES)
def test_rows_of_4096_bytes(mode, size, batch, channels):
    """The kernels add to sums with longer rows, and copy them; for one image on several threads."""
    paddings = ("wrap", "zeros", "border")[: len(size)]
    case = Case("splat", mode, len(size), paddings, False, size=size, channels=channels)
    grid, values = (operands(case)[name][:batch] for name in ("grid", "values"))
    many = {"grid": np.concatenate([grid, -grid], 1), "values": np.concatenate([values] * 2, 2)}
    compare((case.op, many, case.spec))


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
    some[name] = some[name].copy()
    pixels = some[name].reshape(-1)
    pixels[::97], pixels[50::211] = np.nan, np.inf
    (results,) = computed((op, some, case.spec))
    expected = np.asarray(results.pop("portable"))
    assert np.isnan(expected).any()
    assert np.isfinite(expected).any()
    assert set(results) == {"gpu", "tpu", *(["cpu"] if NATIVE else [])}
    for result in results.values():
        np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_what_is_outside_is_never_read_and_never_written(mode):
    """NaN pixels beside the window, and NaN values at points outside, go nowhere."""
    grid = np.stack(np.meshgrid(np.linspace(-6, 12, 9), np.linspace(-6, 12, 9)), -1)[None]
    lost = ((grid < -3) | (grid > 9)).any(-1)
    assert lost.any()
    window = np.array([[2, 2], [3, 3]], np.int32).reshape(1, 1, 1, 2, 2)
    calls = []
    for layout in (Layout(False), Layout(True)):
        spec = SampleSpec.plain(Rule(mode, "zeros", False, False), layout, (6, 7), "float64")
        inner = layout.arrange(0, 0, (slice(2, 4), slice(3, 6)))
        image = np.full(layout.arrange(1, 1, spec.spatial), np.nan)
        image[inner] = 1.0
        values = np.where(lost, np.nan, 1.0).reshape(layout.arrange(1, 1, (9, 9)))
        calls.append(("sample", {"image": image, "grid": grid, "window": window}, spec))
        calls.append(("splat", {"values": values, "grid": grid}, spec))
    compare(*((op, jax.tree.map(jnp.asarray, given), spec) for op, given, spec in calls))


def test_a_pixel_with_weight_zero_is_read():
    """As in torch: zero times NaN is NaN, so what is inside counts even without weight."""
    spec = SampleSpec.plain(Rule("bilinear", "zeros", True), Layout(False), (2, 2), "float64")
    image = jnp.asarray([[[[1.0, np.nan], [2.0, 3.0]]]])
    (results,) = computed(("sample", {"image": image, "grid": -jnp.ones((1, 1, 2))}, spec))
    assert {name: bool(np.isnan(x).all()) for name, x in results.items()} == dict.fromkeys(
        ["portable", *(["cpu"] if NATIVE else []), "gpu", "tpu"], True
    )


@pytest.mark.parametrize("op", OPERATIONS)
def test_batches_that_int32_cannot_number_are_left_to_others(op):
    batch, size = 2**16, (2**8, 2**9)
    for layout in (Layout(False), Layout(True)):
        spec = SampleSpec.plain(Rule("bilinear", "zeros", False), layout, size, "float32")
        shapes = {
            "image": layout.arrange(batch, 1, size),
            "values": layout.arrange(batch, 1, (5,)),
            "grid": (batch, 5, 2),
        }
        shapes.pop({"sample": "values", "splat": "image"}.get(op, ""), None)
        given = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
        assert not BACKENDS["gpu"].supports(op, given, spec)


@pytest.mark.parametrize("padding", ["zeros", "border"])
@pytest.mark.parametrize("channels", [2, 3, 7, 16, 31])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("op", OPERATIONS)
def test_channels_are_computed_alike_in_both_layouts(op, mode, channels, padding):
    """The kernels take channels that lie side by side in pieces, but two or three at once."""
    first = Case(op, mode, 2, padding, False, channels=channels)
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


INSTRUCTION_SETS = cpu.instruction_sets() if NATIVE else []


@pytest.mark.skipif(
    len(INSTRUCTION_SETS) < 2, reason="no second instruction set, whose kernels JAX does not call"
)
@hypothesis.settings(native_calls.SETTINGS, max_examples=300, derandomize=True)
@hypothesis.given(native_calls.ANY_CALL)
def test_every_instruction_set_computes_the_same(call):
    """Whoever builds a wheel has the best of their processor tested, and users another."""
    hypothesis.assume(call.window != "bits")  # windows of any size have slopes of any size
    library = cpu._load()[0]
    best, *others = (call.run(library, i) for i in range(len(INSTRUCTION_SETS)))
    slopes = np.array(call.shape[0]) / 2 if call.options["normalized"] else 1.0
    steepest = np.maximum(1.0, np.prod(slopes**call.orders, axis=-1)).max()
    largest = np.max(np.abs(best), initial=1.0, where=np.isfinite(best))
    for other in others:
        allowed = 1000 * np.finfo(best.dtype).eps * steepest * largest
        np.testing.assert_allclose(other, best, rtol=0, atol=allowed)


def test_the_best_instruction_set_comes_first():
    assert sorted(INSTRUCTION_SETS, reverse=True) == INSTRUCTION_SETS


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
            cpu.instruction_sets()
        assert jaxwarp.backend_of("cpu").startswith("portable (")
    finally:
        monkeypatch.undo()
        cpu._load.cache_clear()
