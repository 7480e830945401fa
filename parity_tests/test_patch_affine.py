"""patch_affine against a loop in torch, and what it promises beyond."""

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
from parity_tests.harness import patches_torch
from parity_tests.harness.scenes import (
    BATCH,
    CHANNELS,
    HEIGHT,
    MODES,
    OBJECTS,
    PADDINGS,
    WIDTH,
    assert_same,
    check_loss_derivatives,
    clipped,
    jax_gradients,
    scene,
    scenes,
    to_xyxy,
    torch_gradients,
)

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

    check_loss_derivatives(f, img, theta)


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
