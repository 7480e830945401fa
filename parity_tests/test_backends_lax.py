"""The forms for GPUs and TPUs beside the portable one, on whatever machine this is.

They are plain `lax`, so they compute the same anywhere; only the rounding of their sums may
differ. Everything is in float64 but where dtypes are the question.
"""

import itertools
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxwarp._layout import Layout
from jaxwarp._sampler import SampleSpec, checked_rule
from jaxwarp._sampler.backends import gpu, portable, tpu
from jaxwarp._sampler.interpolation import KERNELS

_LINEAR = checked_rule("bilinear", "zeros", False, True)
BACKENDS = {"gpu": gpu, "tpu": tpu}
OPERATIONS = ("sample", "splat", "correlate")
LAYOUTS = (Layout(False), Layout(True))
MODES = ("nearest", "bilinear", "bicubic")
PADDINGS = ("zeros", "border", "reflection", "wrap")
# Of each number of axes: one longer than any block, and one that is shorter than most.
SIZES = {1: ((9,), (2,)), 2: ((5, 6), (1, 3)), 3: ((3, 5, 4), (2, 1, 5))}
POINTS = (2, 3)


@pytest.fixture(autouse=True)
def uncompiled():
    """Compute step by step: most of these sums are computed once, and compiling takes seconds."""
    with jax.disable_jit():
        yield


def operands(spec, op, seed=0, batch=2, channels=3, windows=False):
    """Make what an operation takes; points lie in, on the rim of, and far outside the image."""
    draw, axes = np.random.default_rng(seed), len(spec.spatial)
    dtype = np.float64 if spec.dtype == np.float64 else np.float32
    grid = draw.uniform(-1.6, 1.6, (batch, *POINTS, axes))
    if not spec.rule.normalized:
        grid *= 4
    # Folded back from very far off, what a position becomes hangs on its last bit.
    far = 1e30 if spec.rule.padding_mode in ("zeros", "border") else 1e5
    grid[:, 0, :2] = draw.choice([-1.0, 0.0, 1.0, far, np.nan, -np.inf], (batch, 2, axes))
    made = {
        "image": draw.standard_normal(spec.layout.arrange(batch, channels, spec.spatial)),
        "values": draw.standard_normal(spec.layout.arrange(batch, channels, POINTS)),
        "scale": draw.standard_normal((batch, *POINTS, len(spec.orders))),
    }
    wanted = {"sample": ("image", "scale"), "splat": ("values", "scale")}
    names = wanted.get(op, ("image", "values"))
    cast = {"scale": dtype, "image": spec.dtype, "values": spec.dtype}
    result = {name: jnp.asarray(made[name], cast[name]) for name in names}
    if not any(map(any, spec.orders)) and seed % 2:
        result.pop("scale", None)
    if windows:
        first = [draw.integers(0, n, (batch, 1, POINTS[1])) for n in spec.spatial]
        size = [draw.integers(1, n - f + 1) for n, f in zip(spec.spatial, first, strict=True)]
        window = np.stack([np.stack(first, -1), np.stack(size, -1)], -1)
        result["window"] = jnp.asarray(window, jnp.int32)
    return result | {"grid": jnp.asarray(grid, dtype)}


def assert_equal(backend, op, given, spec):
    if not backend.supports(op, given, spec):
        assert "window" in given
        assert "wrap" in spec.rule.padding_modes(len(spec.spatial))
        return
    ours, theirs = getattr(backend, op)(given, spec), getattr(portable, op)(given, spec)
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert np.isfinite(theirs).all()
    largest = np.abs(theirs).max(initial=1e-300)
    bits = spec.dtype if op != "correlate" else given["grid"].dtype
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=64 * jnp.finfo(bits).eps * largest)


def orders_of(axes, degree):
    """Plain sampling; and all first derivatives with a mixed one, where the mode has any."""
    zero = (0,) * axes
    yield (zero,)
    if degree:
        steps = [tuple(int(a == axis) for a in range(axes)) for axis in range(axes)]
        yield (*steps, (1,) * axes, (min(degree, 2), *zero[1:]))


@pytest.mark.parametrize("axes", SIZES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_rule(backend, mode, axes):
    """Every padding and operation, with layouts, frames, orders, sizes and windows drawn for it."""
    draw = random.Random(f"{mode} {axes}")
    choices = list(itertools.product(PADDINGS, OPERATIONS))
    # Of three axes each takes a second or more: some of them are drawn.
    for seed, (padding, op) in enumerate(draw.sample(choices, {1: 8, 2: 12, 3: 4}[axes])):
        rule = checked_rule(mode, padding, *draw.choice(_FRAMES))
        orders = draw.choice(list(orders_of(axes, KERNELS[mode].degree)))
        size, layout = draw.choice(SIZES[axes]), draw.choice(LAYOUTS)
        spec = SampleSpec(rule, layout, size, np.dtype(np.float64), orders)
        given = operands(spec, op, seed, windows=draw.random() < 0.4)
        assert_equal(BACKENDS[backend], op, given, spec)


_FRAMES = ((False, True), (True, True), (False, False))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("op", OPERATIONS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_dtype(backend, op, dtype):
    for layout in LAYOUTS:
        spec = SampleSpec.plain(_LINEAR, layout, (5, 6), dtype)
        assert_equal(BACKENDS[backend], op, operands(spec, op), spec)


@pytest.mark.parametrize(("batch", "channels"), [(0, 3), (2, 0), (1, 1), (1, 17), (1, 130)])
@pytest.mark.parametrize("op", OPERATIONS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_few_channels_and_many(backend, op, batch, channels):
    for layout in LAYOUTS:
        rule = checked_rule("bilinear", "border", False, True)
        spec = SampleSpec.plain(rule, layout, (5, 6), np.float64)
        given = operands(spec, op, batch=batch, channels=channels)
        fits = batch > 0 and channels > 0 and (backend == "gpu" or 4 * channels <= 128)
        assert BACKENDS[backend].supports(op, given, spec) == fits
        if fits:
            assert_equal(BACKENDS[backend], op, given, spec)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_outside_is_never_read_and_never_written(backend, mode):
    """NaN pixels beside the window, and NaN values at points outside, go nowhere."""
    rule = checked_rule(mode, "zeros", False, False)
    for layout in LAYOUTS:
        spec = SampleSpec.plain(rule, layout, (6, 7), np.float64)
        inner = layout.arrange(1, 1, (slice(2, 4), slice(3, 6)))
        image = np.full(layout.arrange(1, 1, spec.spatial), np.nan)
        image[tuple(s if isinstance(s, slice) else slice(None) for s in inner)] = 1.0
        grid = np.stack(np.meshgrid(np.linspace(-6, 12, 9), np.linspace(-6, 12, 9)), -1)[None]
        window = np.array([[2, 2], [3, 3]], np.int32).reshape(1, 1, 1, 2, 2)
        given = {"image": image, "grid": grid, "window": window}
        given = {name: jnp.asarray(x) for name, x in given.items()}
        assert_equal(BACKENDS[backend], "sample", given, spec)
        lost = ((grid < -3) | (grid > 9)).any(-1)
        assert lost.any()
        values = np.where(lost, np.nan, 1.0).reshape(layout.arrange(1, 1, (9, 9)))
        given = {"values": jnp.asarray(values), "grid": jnp.asarray(grid)}
        assert_equal(BACKENDS[backend], "splat", given, spec)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_pixel_with_weight_zero_is_read(backend):
    """As in torch: zero times NaN is NaN, so what is inside counts even without weight."""
    spec = SampleSpec.plain(
        checked_rule("bilinear", "zeros", True, True), LAYOUTS[0], (2, 2), "float64"
    )
    image = jnp.asarray([[[[1.0, np.nan], [2.0, 3.0]]]])
    out = BACKENDS[backend].sample({"image": image, "grid": -jnp.ones((1, 1, 2))}, spec)
    assert np.isnan(out).all()


def test_batches_that_int32_cannot_number_are_left_to_others():
    batch, size = 2**16, (2**8, 2**9)
    for layout, op in itertools.product(LAYOUTS, OPERATIONS):
        spec = SampleSpec.plain(_LINEAR, layout, size, "float32")
        shapes = {
            "image": layout.arrange(batch, 1, size),
            "values": layout.arrange(batch, 1, (5,)),
            "grid": (batch, 5, 2),
        }
        shapes.pop({"sample": "values", "splat": "image"}.get(op, ""), None)
        given = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
        assert not gpu.supports(op, given, spec)
