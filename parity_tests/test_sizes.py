"""Sizes in either layout, and what is said where the other one seems to be meant."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxwarp
from jaxwarp.nn import LearnedTPSGrid, SpatialTransformer, TPSGrid, TPSTransform

THETA: Any = np.eye(2, 3)[None].repeat(2, 0) + np.random.default_rng(0).normal(0, 0.1, (2, 2, 3))
TILT = np.concatenate([THETA, np.tile([[[0.0, 0.1, 1.0]]], (2, 1, 1))], 1)
TARGET = np.random.default_rng(1).uniform(-1, 1, (2, 5, 2))
SOURCE: Any = TARGET + 0.1
MAKERS = {
    "affine_grid": lambda size, **k: jaxwarp.affine_grid(THETA, size, **k),
    "homography_grid": lambda size, **k: jaxwarp.homography_grid(TILT, size, **k),
    "affine_matrix": lambda size, **k: jaxwarp.affine_matrix(size, angle=30.0, **k),
    "theta_from_pixels": lambda size, **k: jaxwarp.theta_from_pixels(THETA, size, **k),
    "tps_grid": lambda size, **k: jaxwarp.tps_grid(TARGET, SOURCE, size, **k),
    "tps_operator": lambda size, **k: jaxwarp.tps_operator(TARGET, size, **k)(SOURCE),
}
each_maker = pytest.mark.parametrize("name", MAKERS)


@each_maker
def test_a_size_may_be_channels_last(name):
    first = MAKERS[name]((2, 3, 6, 9))
    np.testing.assert_array_equal(MAKERS[name]((2, 6, 9, 3), channel_axis=-1), first)


@each_maker
@pytest.mark.parametrize(
    ("size", "channel_axis", "other"), [((2, 32, 40, 3), 1, -1), ((2, 3, 32, 40), -1, 1)]
)
def test_a_size_meant_the_other_way_does_not_pass_in_silence(name, size, channel_axis, other):
    with pytest.warns(UserWarning, match=f"size is .* pass channel_axis={other}") as said:
        MAKERS[name](size, channel_axis=channel_axis)
    assert said[0].filename == __file__


@each_maker
def test_channel_axis_is_checked(name):
    with pytest.raises(ValueError, match="channel_axis must be 1 or -1, got 2"):
        MAKERS[name]((2, 3, 6, 9), channel_axis=2)


SILENT = [
    ((2, 3, 4, 5), -1),  # small, as tests have it
    ((8, 64, 300, 1), 1),  # a time series of 64 channels
    ((8, 64, 1, 1), 1),
    ((8, 3, 64, 64), 1),
    ((8, 64, 64, 3), -1),
    ((2, 4, 64, 64, 32), -1),  # four frames
    ((2, 16, 20, 20), -1),
]


@pytest.mark.parametrize(("size", "channel_axis"), SILENT, ids=str)
def test_what_may_well_be_meant_is_not_warned_about(size, channel_axis):
    n = len(size) - 2
    theta = np.eye(n, n + 1)[None].repeat(size[0], 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jax.eval_shape(lambda t: jaxwarp.affine_grid(t, size, channel_axis=channel_axis), theta)


def test_images_meant_the_other_way_do_not_pass_in_silence_either():
    nhwc, points = jnp.zeros((1, 20, 24, 3)), jnp.zeros((1, 4, 2))
    for call in (
        lambda: jaxwarp.grid_sample(nhwc, points),
        lambda: jaxwarp.remap(nhwc, points),
        lambda: jaxwarp.warp_flow(nhwc, jnp.zeros((1, 2, 24, 3))),
    ):
        with pytest.warns(UserWarning, match="read as .* 20 channels of 24 x 3 pixels"):
            call()


def test_where_no_batch_is_asked_for_either_kind_of_size_will_do():
    values, grid = jnp.ones((2, 3, 5)), jnp.zeros((2, 5, 2))
    expected = jaxwarp.splat(values, grid, (6, 9))
    np.testing.assert_array_equal(jaxwarp.splat(values, grid, (2, 3, 6, 9)), expected)
    last = jaxwarp.splat(values.mT, grid, (2, 6, 9, 3), channel_axis=-1)
    np.testing.assert_array_equal(jnp.moveaxis(last, -1, 1), expected)
    with pytest.raises(ValueError, match=r"size must have the batch and channels of \(2, 3, 5\)"):
        jaxwarp.splat(values, grid, (2, 4, 6, 9))
    for module in (TPSGrid, LearnedTPSGrid):
        wanted = module(TARGET, (6, 9))(SOURCE)
        np.testing.assert_array_equal(module(TARGET, (2, 6, 9, 3))(SOURCE), wanted)
        whole = module(TARGET, (2, 3, 6, 9), channel_axis=1)
        np.testing.assert_array_equal(whole(SOURCE), wanted)
    signal: Any = np.array([[-1.0], [0.2], [1.0]])
    for size in ((7,), (1, 7, 3)):
        assert TPSGrid(signal, size)(signal[None]).shape == (1, 7, 1)


def test_a_transformer_takes_either_kind_of_size():
    def look(x):
        return jnp.zeros((len(x), 18), x.dtype)

    x = jnp.ones((2, 6, 9, 3))
    for size in ((4, 5), (2, 4, 5, 3)):
        assert SpatialTransformer(look, TPSTransform((3, 3)), size=size)(x).shape == (2, 4, 5, 3)


# Nobody prints an array -------------------------------------------------------

SECRET = 0.12345
# NumPy makes them: what is made while tests are collected, every worker makes.
X: Any = jax.device_put(np.full((1, 2, 4, 5), SECRET))
FLOW: Any = jax.device_put(np.full((1, 2, 4, 5), SECRET))
GRID: Any = jax.device_put(np.full((1, 4, 5, 2), SECRET))
POINTS: Any = jax.device_put(SECRET * np.random.default_rng(0).normal(size=(1, 5, 2)))
WRONG_ORDER = {
    "grid as mode": lambda: jaxwarp.grid_sample(X, GRID, GRID),
    "grid as padding": lambda: jaxwarp.grid_sample(X, GRID, "nearest", GRID),
    "grid as corners": lambda: jaxwarp.grid_sample(X, GRID, align_corners=GRID),
    "grid as channel axis": lambda: jaxwarp.grid_sample(X, GRID, channel_axis=GRID),
    "image as flow": lambda: jaxwarp.flow_grid(X, FLOW),
    "flow as mode": lambda: jaxwarp.warp_flow(X, FLOW, FLOW),
    "size as list of arrays": lambda: jaxwarp.affine_grid(THETA, [X, X, X, X]),
    "size as array": lambda: jaxwarp.affine_grid(THETA, X),
    "swapped": lambda: jaxwarp.affine_grid(X.shape, THETA),
    "theta as corners": lambda: jaxwarp.affine_grid(THETA, (2, 3, 4, 5), THETA),
    "splat size": lambda: jaxwarp.splat(X, GRID, X),
    "size of splines": lambda: jaxwarp.tps_grid(POINTS, POINTS, POINTS),
    "box format": lambda: jaxwarp.patch_affine(X, GRID, GRID, GRID, box_format=GRID),
    "max_box": lambda: jaxwarp.patch_affine(
        X, np.zeros((1, 4), int), THETA[:1], np.zeros(1, int), max_box=[X, X]
    ),
    "angle": lambda: jaxwarp.affine_matrix((3, 3, 4, 5), angle=GRID),
    "transform": lambda: jaxwarp.nn.SpatialTransformer(lambda x: x, X),
    "kernel": lambda: jaxwarp.nn.conv_output_size((4, 5), X),
    "image of ints": lambda: jaxwarp.interop.from_image(np.full((2, 2), 12345)),
    "tensor": lambda: jaxwarp.interop.from_torch(X),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_ORDER)
def test_no_error_prints_what_is_in_an_array(name):
    with pytest.raises((TypeError, ValueError)) as info:
        WRONG_ORDER[name]()
    assert "12345" not in str(info.value)
    assert len(str(info.value)) < 300


# Help ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "opens_with"),
    [
        ("SpatialTransformer", "(localization: "),
        ("LocalizationNet", "(input_shape: "),
        ("TPSGrid", "(target: "),
        ("LearnedTPSGrid", "(target: "),
    ],
)
def test_help_opens_with_the_constructor(module, opens_with):
    import inspect
    import pydoc

    found = getattr(jaxwarp.nn, module)
    # From Python 3.13 on, a long signature has a line for each parameter.
    words = " ".join(pydoc.plain(pydoc.render_doc(found)).replace("|", " ").split())
    assert f"class {module}(" in words
    assert f"{module}{opens_with}" in words.replace("( ", "(")

    class Other(found):
        def __init__(self, other: int):
            self.other = other

    assert str(inspect.signature(Other)) == "(other: int)"
    call = inspect.signature(TPSGrid(TARGET, (3, 4)))
    assert list(call.parameters) == ["source"]
