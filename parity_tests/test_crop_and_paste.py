"""crop_and_resize and paste against torch, and against the functions they are named after."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxwarp import crop_and_resize, paste
from parity_tests.harness import patches_torch, reference
from parity_tests.harness.scenes import (
    CHANNELS,
    HEIGHT,
    MODES,
    OBJECTS,
    PADDINGS,
    WIDTH,
    assert_same,
    check_loss_derivatives,
    jax_gradients,
    scene,
    scenes,
    torch_gradients,
)

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

    check_loss_derivatives(both, canvas, patches, boxes)


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
