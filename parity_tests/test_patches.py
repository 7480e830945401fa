"""Patches: against loops over objects in torch, and against formulas of their own in NumPy."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax import export
from jax.sharding import Mesh, PartitionSpec

from jaxwarp import crop_and_resize, paste, patch_affine
from parity_tests.harness import patches_torch, reference

MODES = ("nearest", "bilinear", "bicubic")
PADDINGS = ("zeros", "border", "reflection")
BATCH, CHANNELS, HEIGHT, WIDTH, OBJECTS = 3, 2, 9, 12, 8
# What the gradients of one scene may differ by, as a share of the largest: sums in float64.
GRADIENT = 1e-12


def scene(seed, objects=OBJECTS):
    """Return img, boxes (y1, x1, y2, x2), theta and obj_to_img of random objects.

    The boxes are of all kinds: overlapping, touching, reaching over the image, outside of it,
    empty, reversed, of one pixel, as large as the image.
    """
    rng = np.random.default_rng(seed)
    img = rng.normal(size=(BATCH, CHANNELS, HEIGHT, WIDTH))
    theta = np.eye(2, 3) + rng.normal(0, 0.5, (objects, 2, 3))
    first = rng.integers((-3, -3), (HEIGHT, WIDTH), (objects, 2))
    size = rng.integers(-2, (HEIGHT, WIDTH), (objects, 2))
    boxes = np.concatenate([first, first + size], axis=1)
    boxes[0] = 0, 0, HEIGHT, WIDTH
    boxes[1, 2:] = boxes[1, :2] + 1
    boxes[-1, :2] = boxes[-2, 2:]
    return img, boxes, theta, rng.integers(0, BATCH, objects)


def clipped(boxes):
    return np.clip(boxes, 0, [HEIGHT, WIDTH] * 2).tolist()


def to_xyxy(boxes):
    return boxes[..., [1, 0, 3, 2]]


def torch_gradients(f, *operands, cotangent):
    """Return f's value and the gradients of <value, cotangent> in all operands."""
    operands = [torch.tensor(x, requires_grad=True) for x in operands]
    value = f(*operands)
    torch.sum(value * torch.tensor(cotangent)).backward()
    zero = [torch.zeros_like(x) for x in operands]
    grads = [z if x.grad is None else x.grad for x, z in zip(operands, zero, strict=True)]
    return [x.detach().numpy() for x in (value, *grads)]


def jax_gradients(f, *operands, cotangent):
    value, pull = jax.vjp(f, *operands)
    return [value, *pull(jnp.asarray(cotangent))]


def check_derivatives(f, *operands):
    """Compare forward and reverse mode, and their combinations, with finite differences."""
    operands = tuple(map(jnp.asarray, operands))
    rng = np.random.default_rng(0)
    step = tuple(jnp.asarray(rng.normal(size=x.shape)) for x in operands)
    every, tiny = tuple(range(len(operands))), 1e-6

    def loss(*x):
        return jnp.sum(jnp.sin(f(*x)))

    def dot(a, b):
        return sum(jnp.vdot(x, y) for x, y in zip(a, b, strict=True))

    grad = jax.grad(loss, every)

    @jax.jit
    def near(scale):
        moved = [x + scale * s for x, s in zip(operands, step, strict=True)]
        return jax.value_and_grad(loss, every)(*moved)

    (up, grad_up), (down, grad_down) = near(tiny), near(-tiny)
    slope, curve = jax.jit(lambda: jax.jvp(jax.value_and_grad(loss, every), operands, step)[1])()
    np.testing.assert_allclose(slope, (up - down) / (2 * tiny), rtol=1e-6)
    np.testing.assert_allclose(slope, dot(near(0.0)[1], step), rtol=1e-12)
    twice = jax.jit(jax.grad(lambda *x: dot(grad(*x), step), every))(*operands)
    for a, b, u, d in zip(curve, twice, grad_up, grad_down, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-11 * np.abs(b).max())
        np.testing.assert_allclose(a, (u - d) / (2 * tiny), rtol=0, atol=1e-6 * np.abs(b).max())


def assert_same(ours, theirs, names, value=1e-12):
    for name, a, b in zip(names, ours, theirs, strict=True):
        bound = value if name == "value" else GRADIENT * max(1, np.abs(b).max(initial=0))
        np.testing.assert_allclose(a, b, rtol=0, atol=bound, err_msg=name)


# patch_affine: parity ---------------------------------------------------------

CONFIGURATIONS = [
    # The other choices in turn, so that each meets each mode and each padding.
    (mode, padding, corners, ("sequential", "layered")[i % 2], ("xyxy", "yxyx")[i // 2 % 2])
    for i, (corners, mode, padding) in enumerate(itertools.product((0, 1), MODES, PADDINGS))
]


@pytest.mark.parametrize(("mode", "padding", "corners", "order", "box_format"), CONFIGURATIONS)
def test_patch_affine_is_the_loop(mode, padding, corners, order, box_format):
    options = {"mode": mode, "padding_mode": padding, "align_corners": bool(corners)}
    last = bool(corners) == (order == "layered")

    traces = []

    @jax.jit
    def ours(img, boxes, theta, obj_to_img, cotangent):
        traces.append(1)

        def f(img, theta):
            if last:
                img = jnp.moveaxis(img, 1, -1)
            layout = {"channel_axis": -1 if last else 1, "box_format": box_format, "order": order}
            out = patch_affine(img, boxes, theta, obj_to_img, **layout, **options)
            return jnp.moveaxis(out, -1, 1) if last else out

        return jax_gradients(f, img, theta, cotangent=cotangent)

    for seed in range(16):
        img, boxes, theta, obj_to_img = scene(seed)
        cotangent = np.random.default_rng(seed).normal(size=img.shape)
        loop = partial(
            patches_torch.patch_affine, obj_to_img=obj_to_img.tolist(), order=order, **options
        )
        theirs = torch_gradients(
            lambda img, theta, loop=loop, boxes=boxes: loop(img, clipped(boxes), theta),
            img,
            theta,
            cotangent=cotangent,
        )
        given = boxes if box_format == "yxyx" else to_xyxy(boxes)
        mine = ours(img, given, theta, obj_to_img, cotangent)
        assert_same(mine, theirs, ("value", "img", "theta"))
    assert len(traces) == 1


def test_patch_affine_in_float32_is_the_loop():
    img, boxes, theta, obj_to_img = scene(7)
    img, theta = img.astype(np.float32), theta.astype(np.float32)
    ours = patch_affine(img, to_xyxy(boxes), theta.reshape(-1, 6), obj_to_img)
    tensors = torch.tensor(img), clipped(boxes), torch.tensor(theta)
    theirs = patches_torch.patch_affine(*tensors, obj_to_img.tolist())
    assert ours.dtype == jnp.float32
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=2e-5)


@pytest.mark.parametrize("align_corners", [False, True])
def test_patch_affine_of_exact_maps_moves_pixels(align_corners):
    """A mirror and a quarter turn, by NumPy's own, bit for bit."""
    img = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
    boxes = np.array([[0, 0, 4, 8], [2, 2, 6, 6]])  # x1, y1, x2, y2
    mirror, turn = [[-1, 0, 0], [0, 1, 0]], [[0, 1, 0], [-1, 0, 0]]
    theta = np.array([mirror, turn], np.float32)
    expected = img.copy()
    expected[1, :, :, 0:4] = expected[1, :, :, 3::-1]
    # Its output (x, y) reads the input at (y, -x): a quarter turn clockwise on the screen.
    expected[1, :, 2:6, 2:6] = np.rot90(expected[1, :, 2:6, 2:6], k=-1, axes=(1, 2))
    out = patch_affine(img, boxes, theta, np.array([1, 1]), align_corners=align_corners)
    np.testing.assert_allclose(out, expected, rtol=0, atol=0 if not align_corners else 1e-6)


def test_patch_affine_without_objects_returns_the_images():
    img = jnp.asarray(scene(0)[0])
    nothing = np.zeros((0, 4), np.int32), jnp.zeros((0, 6)), np.zeros(0, np.int32)
    np.testing.assert_array_equal(patch_affine(img, *nothing), img)
    np.testing.assert_array_equal(jax.jit(patch_affine)(img, *nothing), img)
    (slope,) = jax.grad(lambda img: patch_affine(img, *nothing).sum(), argnums=(0,))(img)
    np.testing.assert_array_equal(slope, 1)


def test_patch_affine_with_bfloat16_images_computes_in_float32():
    img, boxes, theta, obj_to_img = scene(3)
    img = jnp.asarray(img, jnp.bfloat16)
    out = patch_affine(img, boxes, jnp.asarray(theta, jnp.float32), obj_to_img, order="layered")
    wide = patch_affine(img.astype(jnp.float32), boxes, theta, obj_to_img, order="layered")
    assert out.dtype == jnp.bfloat16
    error = np.abs(out.astype(jnp.float32) - wide)
    assert error.max() <= 2.0**-8 * np.abs(wide).max()  # one rounding


def test_known_boxes_and_traced_boxes_give_the_same():
    img, boxes, theta, obj_to_img = scene(5)
    boxes = np.minimum(boxes, boxes[:, [0, 1, 0, 1]] + 4)  # so that the window is smaller
    f = partial(patch_affine, box_format="yxyx")
    known = jax.jit(lambda img, theta: f(img, boxes, theta, obj_to_img))(img, theta)
    traced = jax.jit(f)(img, boxes, theta, obj_to_img)
    np.testing.assert_allclose(known, traced, rtol=0, atol=1e-14)


# patch_affine: transformations ------------------------------------------------


def scenes(count):
    return [np.stack(x) for x in zip(*(scene(seed) for seed in range(count)), strict=True)]


@pytest.mark.parametrize(
    ("shared", "order"), [((), "sequential"), ((0,), "sequential"), ((1, 3), "layered")], ids=str
)
def test_vmap_is_a_loop(shared, order):
    """With operands of its own for each scene, and with some that scenes share."""
    batches = scenes(3)
    f = partial(patch_affine, box_format="yxyx", order=order)
    axes = [None if i in shared else 0 for i in range(4)]
    operands = [x[0] if i in shared else x for i, x in enumerate(batches)]

    def loss(img, boxes, theta, obj_to_img):
        return jnp.sum(f(img, boxes, theta, obj_to_img) ** 2)

    each = jax.jit(jax.vmap(jax.value_and_grad(loss, (0, 2)), axes))(*operands)
    one = jax.jit(jax.value_and_grad(loss, (0, 2)))
    for k in range(3):
        alone = one(*(x if i in shared else x[k] for i, x in enumerate(operands)))
        for a, b in zip(jax.tree.leaves(each), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(a[k], b, rtol=1e-12, atol=1e-12)


def test_grad_of_vmap_is_the_sum_of_grads():
    img, boxes, theta, obj_to_img = scenes(3)
    f = partial(patch_affine, box_format="yxyx")

    def loss(img, theta):
        return jnp.sum(jax.vmap(f)(img, boxes, theta, obj_to_img) ** 2)

    def alone(img, boxes, theta, obj_to_img):
        return jnp.sum(f(img, boxes, theta, obj_to_img) ** 2)

    together = jax.jit(jax.grad(loss, (0, 1)))(img, theta)
    one = jax.jit(jax.grad(alone, (0, 2)))
    for k in range(3):
        apart = one(img[k], boxes[k], theta[k], obj_to_img[k])
        for a, b in zip(together, apart, strict=True):
            np.testing.assert_allclose(a[k], b, rtol=1e-12, atol=1e-12)


def test_derivatives_of_patch_affine_of_first_and_second_order():
    img, boxes, theta, obj_to_img = scene(2, objects=4)

    def f(img, theta):
        return patch_affine(img, boxes, theta, obj_to_img, box_format="yxyx")

    check_derivatives(f, img, theta)


def test_shard_map_with_objects_that_all_devices_share():
    img, boxes, theta, obj_to_img = scene(2)
    mesh = Mesh(np.array(jax.devices()[:1]), ("devices",))
    over, everywhere = PartitionSpec("devices"), PartitionSpec()
    f = partial(patch_affine, box_format="yxyx")
    sharded = jax.shard_map(
        f, mesh=mesh, in_specs=(over, everywhere, everywhere, everywhere), out_specs=over
    )

    def grads(f):
        def loss(img, theta):
            return jnp.sum(f(img, boxes, theta, obj_to_img) ** 2)

        return jax.jit(jax.value_and_grad(loss, (0, 1)))(img, theta)

    for a, b in zip(jax.tree.leaves(grads(sharded)), jax.tree.leaves(grads(f)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_export_for_every_platform():
    operands = [jnp.asarray(x) for x in scene(1)]
    f = jax.jit(partial(patch_affine, box_format="yxyx", max_box=(12, 12)))
    exported = export.export(f, platforms=("cpu", "cuda", "rocm", "tpu"))(*operands)
    loaded = export.deserialize(exported.serialize(vjp_order=1))
    np.testing.assert_allclose(loaded.call(*operands), f(*operands), rtol=0, atol=1e-14)
    grad = jax.jit(
        jax.grad(lambda t: jnp.sum(loaded.call(operands[0], operands[1], t, operands[3])))
    )
    ours = jax.jit(jax.grad(lambda t: jnp.sum(f(operands[0], operands[1], t, operands[3]))))
    np.testing.assert_allclose(grad(operands[2]), ours(operands[2]), rtol=0, atol=1e-12)


# patch_affine: objects that do nothing, boxes that are too large ---------------------------


def test_objects_that_are_not_valid_do_nothing():
    img, boxes, theta, obj_to_img = scene(4)
    valid = np.arange(OBJECTS) % 3 != 0
    f = jax.jit(partial(patch_affine, box_format="yxyx"))
    expected = f(img, boxes[valid], theta[valid], obj_to_img[valid])
    # What they hold is of no interest, either.
    boxes[~valid], theta[~valid], obj_to_img[~valid] = 10**6, np.nan, -7
    for g in (f, partial(patch_affine, box_format="yxyx")):
        out = g(img, boxes, theta, obj_to_img, valid=valid)
        np.testing.assert_allclose(out, expected, rtol=0, atol=1e-14)

    def loss(img, theta):
        return jnp.sum(f(img, boxes, theta, obj_to_img, valid=valid))

    slopes = jax.grad(loss, (0, 1))(img, theta)
    assert all(np.isfinite(slope).all() for slope in slopes)
    assert not np.asarray(slopes[1])[~valid].any()


def test_an_index_out_of_range_is_an_error_or_under_a_trace_an_object_that_does_nothing():
    img, boxes, theta, obj_to_img = scene(6)
    patches, floats = np.ones((OBJECTS, CHANNELS, 4, 4)), boxes + 0.25
    floats[:, 2:] = floats[:, :2] + 3
    others = np.arange(OBJECTS) != 3
    calls = (
        lambda n, v: patch_affine(img, boxes, theta, n, valid=v),
        lambda n, v: crop_and_resize(img, floats, n, (2, 3), valid=v),
        lambda n, v: paste(img, patches, floats, n, valid=v),
    )
    for call in calls:
        traced = jax.jit(call)
        expected = traced(obj_to_img, others)
        for wrong in (-1, -BATCH, BATCH, 2**31 - 1, -(2**31)):
            obj_to_img[3] = wrong
            with pytest.raises(ValueError, match=rf"obj_to_img must index 3 .* got {wrong}"):
                call(obj_to_img, None)
            everything = np.ones(OBJECTS, bool)
            np.testing.assert_array_equal(traced(obj_to_img, everything), expected)
        known = call(obj_to_img, others)
        np.testing.assert_allclose(known, expected, rtol=0, atol=1e-14)


def test_max_box_does_not_change_what_fits():
    img, _, theta, obj_to_img = scene(8)
    rng = np.random.default_rng(8)
    first = rng.integers((-3, -3), (HEIGHT, WIDTH), (OBJECTS, 2))
    boxes = np.concatenate([first, first + rng.integers(1, (4, 6), (OBJECTS, 2))], axis=1)
    f = partial(patch_affine, box_format="yxyx")
    whole = jax.jit(f)(img, boxes, theta, obj_to_img)
    for bound in ((3, 5), [100, 5]):
        bounded = jax.jit(partial(f, max_box=bound))(img, boxes, theta, obj_to_img)
        np.testing.assert_allclose(bounded, whole, rtol=0, atol=1e-14)


@pytest.mark.parametrize("order", ["sequential", "layered"])
def test_a_box_larger_than_max_box_is_an_error_or_under_a_trace_nan(order):
    """Object 1 is too large; 0 and 2 read from it, 3 does not."""
    img, _, theta, _ = scene(9, objects=4)
    boxes = np.array([[0, 0, 3, 3], [2, 2, 8, 5], [6, 4, 9, 7], [0, 8, 3, 11]])
    obj_to_img = np.zeros(4, np.int32)
    f = partial(patch_affine, box_format="yxyx", max_box=(4, 4), order=order)
    with pytest.raises(ValueError, match=r"max_box must be .*got \(4, 4\) for a box of \(6, 3\)"):
        f(img, boxes, theta, obj_to_img)
    others = np.arange(4) != 1
    assert np.isfinite(f(img, boxes, theta, obj_to_img, valid=others)).all()

    theta[0] = theta[2] = [[0.5, 0, 0.5], [0, 0.5, 0.5]]  # both read the corner they share
    theta[2, :, 2] = -0.5
    out = np.asarray(jax.jit(f)(img, boxes, theta, obj_to_img))
    assert np.isnan(out[0, :, 2:8, 2:5]).all()
    assert np.isnan(out[0, :, 0:3, 0:3]).any()
    assert np.isnan(out[0, :, 6:9, 4:7]).any()
    away = f(img, boxes[3:], theta[3:], obj_to_img[3:])
    np.testing.assert_array_equal(out[0, :, :3, 7:], away[0, :, :3, 7:])
    np.testing.assert_array_equal(out[1:], img[1:])


def test_memory_is_a_few_images():
    """64 objects on 8 images of 512 by 512: the whole loop works in place."""
    operands = [
        jax.ShapeDtypeStruct(shape, dtype)
        for shape, dtype in (
            ((8, 3, 512, 512), jnp.float32),
            ((64, 4), jnp.int32),
            ((64, 6), jnp.float32),
            ((64,), jnp.int32),
        )
    ]
    images = 8 * 3 * 512 * 512 * 4

    def loss(order, img, boxes, theta, obj_to_img):
        return jnp.sum(patch_affine(img, boxes, theta, obj_to_img, max_box=(128, 128), order=order))

    for f, bound in (
        (partial(loss, "sequential"), 1.25),
        (jax.grad(partial(loss, "sequential"), (0, 2)), 2),
        (jax.grad(partial(loss, "layered"), (0, 2)), 4),
    ):
        stats = jax.jit(f).lower(*operands).compile().memory_analysis()
        assert stats is not None
        assert stats.temp_size_in_bytes <= bound * images


# crop_and_resize --------------------------------------------------------------


def float_boxes(seed, objects=OBJECTS):
    """Return boxes (x1, y1, x2, y2): inside, reaching over the image, reversed."""
    rng = np.random.default_rng(seed)
    first = rng.uniform((-4, -4), (WIDTH, HEIGHT), (objects, 2))
    extent = rng.uniform(0.3, 9, (objects, 2)) * rng.choice([-1, 1], (objects, 2), p=[0.3, 0.7])
    return np.concatenate([first, first + extent], axis=1)


@pytest.mark.parametrize(("mode", "padding"), [*itertools.product(MODES, PADDINGS)])
def test_crop_and_resize_is_grid_sample_with_the_crops_map(mode, padding):
    size, options = (5, 7), {"mode": mode, "padding_mode": padding}

    @jax.jit
    def ours(img, boxes, obj_to_img, cotangent):
        def f(img, boxes):
            return crop_and_resize(img, boxes, obj_to_img, size, **options)

        return jax_gradients(f, img, boxes, cotangent=cotangent)

    @jax.jit
    def channels_last(img, boxes, obj_to_img):
        moved = jnp.moveaxis(img, 1, -1)
        crops = crop_and_resize(moved, boxes, obj_to_img, size, channel_axis=-1, **options)
        return jnp.moveaxis(crops, -1, 1)

    for seed in range(8):
        img, _, _, obj_to_img = scene(seed)
        boxes = float_boxes(seed)
        cotangent = np.random.default_rng(seed).normal(size=(OBJECTS, CHANNELS, *size))
        theirs = torch_gradients(
            lambda img, boxes, n=obj_to_img: patches_torch.crop_and_resize(
                img, boxes, n, size, **options
            ),
            img,
            boxes,
            cotangent=cotangent,
        )
        mine = ours(img, boxes, obj_to_img, cotangent)
        assert_same(mine, theirs, ("value", "img", "boxes"))
        last = channels_last(img, boxes, obj_to_img)
        np.testing.assert_allclose(last, mine[0], rtol=0, atol=1e-14)


def test_crops_of_whole_pixels_are_slices_and_reversed_boxes_flip():
    img = scene(0)[0]
    boxes = np.array([[2, 1, 6, 4], [6, 1, 2, 4], [2, 4, 6, 1], [6, 4, 2, 1]])
    crops = crop_and_resize(img, boxes, np.full(4, 2), (3, 4))
    cut = img[2, :, 1:4, 2:6]
    expected = [cut, cut[:, :, ::-1], cut[:, ::-1], cut[:, ::-1, ::-1]]
    np.testing.assert_allclose(crops, np.stack(expected), rtol=0, atol=1e-14)


def test_a_crop_of_no_size_repeats_one_sample_and_has_a_gradient():
    img = scene(0)[0]
    box = np.array([[4.75, 3.25, 4.75, 3.25]])
    crop = crop_and_resize(img, box, np.array([1]), (3, 4))
    where = np.full((1, 3, 4, 2), (4.25, 2.75))
    expected = reference.remap(img[1:2], where, np.ones_like(crop), "bilinear", "zeros").value
    np.testing.assert_allclose(crop, expected, rtol=0, atol=1e-14)

    def loss(box):
        return jnp.sum(crop_and_resize(img, box, np.array([1]), (3, 4)) ** 2)

    loss, grad = jax.jit(loss), jax.jit(jax.grad(loss))
    for i, slope in enumerate(grad(box)[0]):
        step = 1e-6 * np.eye(4)[i]
        np.testing.assert_allclose(slope, (loss(box + step) - loss(box - step)) / 2e-6, rtol=1e-6)
    for bad in (np.nan, np.inf, 1e300):
        assert np.isfinite(grad(np.array([[bad, 3.25, 4.75, 3.25]]))).all()


def roi_align(img, boxes, obj_to_img, size, ratio):
    """Do what torchvision's roi_align does with aligned=True, by its description."""
    out = np.zeros((len(boxes), img.shape[1], *size))
    for k, c, i, j in np.ndindex(out.shape):
        x1, y1, x2, y2 = boxes[k] - 0.5
        step_y, step_x = (y2 - y1) / size[0], (x2 - x1) / size[1]
        for a, b in np.ndindex(ratio, ratio):
            y = y1 + i * step_y + (a + 0.5) * step_y / ratio
            x = x1 + j * step_x + (b + 0.5) * step_x / ratio
            out[k, c, i, j] += _roi_sample(img[obj_to_img[k], c], y, x) / ratio**2
    return out


def _roi_sample(plane, y, x):
    height, width = plane.shape
    if y < -1 or y > height or x < -1 or x > width:
        return 0.0
    (top, bottom, ty), (left, right, tx) = _roi_taps(y, height), _roi_taps(x, width)
    upper = plane[top, left] * (1 - tx) + plane[top, right] * tx
    lower = plane[bottom, left] * (1 - tx) + plane[bottom, right] * tx
    return upper * (1 - ty) + lower * ty


def _roi_taps(p, size):
    p = max(p, 0.0)
    low = int(p)
    return (size - 1, size - 1, 0.0) if low >= size - 1 else (low, low + 1, p - low)


@pytest.mark.parametrize("ratio", [1, 2])
def test_crop_and_resize_is_roi_align(ratio):
    """Its samples within half a pixel outside count as on the edge: a border of one pixel."""
    rng = np.random.default_rng(0)
    img, _, _, obj_to_img = scene(0)
    low = rng.uniform(0.5, 4, (OBJECTS, 2))
    boxes = np.concatenate([low, low + rng.uniform(0.5, (7.5, 4.5), (OBJECTS, 2))], axis=1)
    fine = crop_and_resize(img, boxes, obj_to_img, (3 * ratio, 4 * ratio))
    ours = fine.reshape(OBJECTS, CHANNELS, 3, ratio, 4, ratio).mean(axis=(3, 5))
    theirs = roi_align(img, boxes, obj_to_img, (3, 4), ratio)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)
    over = boxes - [0.5, 0.5, 0, 0]
    ours = crop_and_resize(img, over, obj_to_img, (3, 4), padding_mode="border")
    theirs = roi_align(img, over, obj_to_img, (3, 4), 1)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)


def tf_crop_and_resize(img, boxes, obj_to_img, size):
    """Do what tf.image.crop_and_resize does, by its description; boxes are y1, x1, y2, x2."""
    height, width = img.shape[2:]
    out = np.zeros((len(boxes), img.shape[1], *size))
    for k, c, i, j in np.ndindex(out.shape):
        y1, x1, y2, x2 = boxes[k]
        y = y1 * (height - 1) + i * (y2 - y1) * (height - 1) / (size[0] - 1)
        x = x1 * (width - 1) + j * (x2 - x1) * (width - 1) / (size[1] - 1)
        if 0 <= y <= height - 1 and 0 <= x <= width - 1:
            plane = img[obj_to_img[k], c]
            top, bottom, left, right = (int(f(p)) for p in (y, x) for f in (np.floor, np.ceil))
            upper = plane[top, left] + (plane[top, right] - plane[top, left]) * (x - left)
            lower = plane[bottom, left] + (plane[bottom, right] - plane[bottom, left]) * (x - left)
            out[k, c, i, j] = upper + (lower - upper) * (y - top)
    return out


def test_crop_and_resize_is_tfs_with_boxes_converted_as_documented():
    rng = np.random.default_rng(0)
    img, _, _, obj_to_img = scene(0)
    boxes = rng.uniform(0, 1, (OBJECTS, 4))  # some of them reversed
    size, lengths = np.array([4, 5]), np.array([HEIGHT, WIDTH]) - 1
    first, last = boxes[:, :2], boxes[:, 2:]
    step = (last - first) * lengths / (size - 1)
    begin = first * lengths + (1 - step) / 2
    ours = np.concatenate([begin, begin + step * size], axis=1)[:, [1, 0, 3, 2]]
    crops = crop_and_resize(img, ours, obj_to_img, (4, 5))
    theirs = tf_crop_and_resize(img, boxes, obj_to_img, (4, 5))
    np.testing.assert_allclose(crops, theirs, rtol=0, atol=1e-12)


# paste ------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("max_box", [None, (9, 9)], ids=str)
def test_paste_is_the_loop(mode, max_box):
    last = max_box is None

    @jax.jit
    def ours(canvas, patches, boxes, obj_to_img, cotangent):
        def f(canvas, patches, boxes):
            if last:
                canvas, patches = (jnp.moveaxis(x, 1, -1) for x in (canvas, patches))
            options = {"mode": mode, "max_box": max_box, "channel_axis": -1 if last else 1}
            out = paste(canvas, patches, boxes, obj_to_img, **options)
            return jnp.moveaxis(out, -1, 1) if last else out

        return jax_gradients(f, canvas, patches, boxes, cotangent=cotangent)

    for seed in range(8):
        canvas, _, _, obj_to_img = scene(seed)
        boxes, rng = float_boxes(seed), np.random.default_rng(seed)
        patches = rng.normal(size=(OBJECTS, CHANNELS, 4, 3))
        cotangent = rng.normal(size=canvas.shape)
        theirs = torch_gradients(
            lambda canvas, patches, boxes, n=obj_to_img: patches_torch.paste(
                canvas, patches, boxes, n.tolist(), mode=mode
            ),
            canvas,
            patches,
            boxes,
            cotangent=cotangent,
        )
        mine = ours(canvas, patches, boxes, obj_to_img, cotangent)
        assert_same(mine, theirs, ("value", "canvas", "patches", "boxes"))


def test_pasting_on_whole_pixels_assigns_them():
    canvas = scene(0)[0]
    patches = np.random.default_rng(1).normal(size=(3, CHANNELS, 3, 4))
    boxes = np.array([[2, 1, 6, 4], [8, 5, 4, 2], [9, 7, 13, 10]])  # plain, flipped, overhanging
    expected = canvas.copy()
    expected[1, :, 1:4, 2:6] = patches[0]
    expected[1, :, 2:5, 4:8] = patches[1, :, ::-1, ::-1]
    expected[1, :, 7:9, 9:12] = patches[2, :, :2, :3]
    for f in (paste, jax.jit(paste)):
        out = f(canvas, patches, boxes, np.array([1, 1, 1]))
        np.testing.assert_allclose(out, expected, rtol=0, atol=1e-14)


def test_what_was_cropped_is_pasted_back():
    img = scene(0)[0]
    boxes, obj_to_img = np.array([[1, 2, 6, 8], [11, 9, 3, 0]]), np.array([0, 2])
    for box, n in zip(boxes, obj_to_img, strict=True):
        size = tuple(np.abs(box[3:1:-1] - box[1::-1]))
        crop = crop_and_resize(img, box[None], n[None], size)
        out = paste(jnp.zeros_like(img), crop, box[None], n[None])
        x1, x2, y1, y2 = *sorted(box[::2]), *sorted(box[1::2])
        expected = np.zeros_like(img)
        expected[n, :, y1:y2, x1:x2] = img[n, :, y1:y2, x1:x2]
        np.testing.assert_allclose(out, expected, rtol=0, atol=1e-14)


def test_paste_is_detectron2s_paste_masks_in_image():
    """Each mask on a black image of its own, by that function's formula for the grid."""
    rng = np.random.default_rng(0)
    masks, boxes = rng.uniform(size=(OBJECTS, 1, 5, 6)), float_boxes(3)
    y1, x1, y2, x2 = (boxes[:, i, None] for i in (1, 0, 3, 2))
    y = (np.arange(HEIGHT)[None] + 0.5 - y1) / (y2 - y1) * 2 - 1
    x = (np.arange(WIDTH)[None] + 0.5 - x1) / (x2 - x1) * 2 - 1
    shape = (OBJECTS, HEIGHT, WIDTH)
    grid = np.stack([np.broadcast_to(x[:, None], shape), np.broadcast_to(y[:, :, None], shape)], -1)
    none = np.zeros((OBJECTS, 1, HEIGHT, WIDTH))
    expected = reference.grid_sample(masks, grid, none, "bilinear", "zeros", False).value
    ours = paste(none, masks, boxes, np.arange(OBJECTS))
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-12)


def test_a_box_without_extent_pastes_nothing_and_has_no_gradient():
    canvas, patches = scene(0)[0], np.ones((2, CHANNELS, 4, 4))
    some, obj_to_img = (2.5, 2.5, 7.5, 6.5), np.array([1, 1])
    f = jax.jit(lambda canvas, patches, boxes: paste(canvas, patches, boxes, obj_to_img))
    grad = jax.jit(jax.grad(lambda *x: jnp.sum(f(*x) ** 2), (0, 1, 2)))
    alone = paste(canvas, patches[1:], np.array([some]), obj_to_img[1:])
    for nothing in ((4.5, 2, 4.5, 6), (4, 3, 8, 3), (4, 2, np.nan, 6), (-np.inf, 2, np.inf, 6)):
        boxes = np.array([nothing, some])
        np.testing.assert_allclose(f(canvas, patches, boxes), alone, rtol=0, atol=1e-14)
        slopes = grad(canvas, patches, boxes)
        assert all(np.isfinite(slope).all() for slope in slopes)
        assert not np.asarray(slopes[2][0]).any()
        assert np.asarray(slopes[2][1]).all()


def test_derivatives_of_crops_and_pastes_of_first_and_second_order():
    canvas, _, _, obj_to_img = scene(0, objects=3)
    boxes = float_boxes(0, objects=3)
    patches = np.random.default_rng(0).normal(size=(3, CHANNELS, 4, 3))

    def both(canvas, patches, boxes):
        pasted = paste(canvas, patches, boxes, obj_to_img)
        return crop_and_resize(pasted, boxes, obj_to_img, (3, 4))

    check_derivatives(both, canvas, patches, boxes)


def test_vmap_of_crops_and_pastes_is_a_loop():
    canvas, _, _, obj_to_img = scenes(3)
    boxes = np.stack([float_boxes(seed) for seed in range(3)])
    patches = np.random.default_rng(0).normal(size=(OBJECTS, CHANNELS, 4, 3))  # shared

    def loss(canvas, boxes, obj_to_img):
        pasted = paste(canvas, patches, boxes, obj_to_img)
        return jnp.sum(crop_and_resize(pasted, boxes, obj_to_img, (3, 4)) ** 2)

    each = jax.jit(jax.vmap(jax.value_and_grad(loss, (0, 1))))(canvas, boxes, obj_to_img)
    one = jax.jit(jax.value_and_grad(loss, (0, 1)))
    for k in range(3):
        alone = one(canvas[k], boxes[k], obj_to_img[k])
        for a, b in zip(jax.tree.leaves(each), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(a[k], b, rtol=1e-12, atol=1e-12)


def test_a_pasted_box_larger_than_max_box_is_an_error_or_under_a_trace_nan():
    canvas, patches = scene(0)[0], np.ones((2, CHANNELS, 4, 4))
    boxes, obj_to_img = np.array([(1.0, 1.0, 4.0, 8.0), (6.0, 2.0, 9.0, 5.0)]), np.array([0, 0])
    f = partial(paste, max_box=(4, 4))
    with pytest.raises(ValueError, match=r"max_box must be .* for a box of \(7\.0, 3\.0\)"):
        f(canvas, patches, boxes, obj_to_img)
    out = np.asarray(jax.jit(f)(canvas, patches, boxes, obj_to_img))
    assert np.isnan(out[0, :, 1:8, 1:4]).all()
    alone = f(canvas, patches[1:], boxes[1:], obj_to_img[1:])
    np.testing.assert_allclose(out[0, :, :, 6:], alone[0, :, :, 6:], rtol=0, atol=1e-14)
    np.testing.assert_array_equal(out[1:], canvas[1:])


def test_crops_and_pastes_without_objects():
    img, none = scene(0)[0], (np.zeros((0, 4)), np.zeros(0, np.int32))
    assert crop_and_resize(img, *none, (3, 4)).shape == (0, CHANNELS, 3, 4)
    np.testing.assert_array_equal(paste(img, np.zeros((0, CHANNELS, 2, 2)), *none), img)


# Bad input --------------------------------------------------------------------

IMG, BOXES, THETA = np.zeros((2, 3, 8, 8)), np.array([[0, 0, 4, 4]] * 5), np.zeros((5, 6))
INDEX, PATCHES = np.zeros(5, int), np.zeros((5, 3, 4, 4))


def test_integers_that_do_not_fit_into_32_bits_are_not_wrapped():
    img = np.ones((1, 1, 4, 4))
    far = 2**40
    boxes = np.array([[-far, -far, far, far], [far, 0, far + 2, 4]])
    theta = np.zeros((2, 6))  # every pixel reads the centre
    blank = np.tile([0.0, 0, 5, 0, 0, 5], (2, 1))  # every pixel reads the outside
    both = np.zeros(2, np.int64)
    assert (np.asarray(patch_affine(img, boxes, theta, both)) == 1).all()
    assert not np.asarray(patch_affine(img, boxes, blank, both)).any()
    unsigned = np.array([[0, 0, 255, 255]], np.uint8)
    assert not np.asarray(patch_affine(img, unsigned, blank[:1], both[:1].astype(np.uint8))).any()
    with pytest.raises(ValueError, match="obj_to_img must index"):
        patch_affine(img, boxes, theta, both + far)
