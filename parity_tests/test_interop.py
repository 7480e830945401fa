"""Pictures and torch tensors, there and back."""

from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxwarp import interop

# Images ----------------------------------------------------------------------


@pytest.mark.parametrize("channel_axis", [1, -1])
@pytest.mark.parametrize("shape", [(5, 7, 3), (5, 7, 1), (5, 7)])
def test_an_8_bit_picture_comes_back_unchanged(shape, channel_axis):
    picture = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    batch = interop.from_image(picture, channel_axis=channel_axis)
    channels = shape[2] if len(shape) == 3 else 1
    assert batch.shape == ((1, channels, 5, 7) if channel_axis == 1 else (1, 5, 7, channels))
    assert batch.dtype == jnp.float32
    np.testing.assert_array_equal(batch.min() >= 0, True)
    back = interop.to_image(batch, channel_axis=channel_axis)
    assert back.dtype == jnp.uint8
    np.testing.assert_array_equal(back.reshape(shape), picture)


def test_every_8_bit_level_survives():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(interop.to_image(interop.from_image(levels))[..., 0], levels)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_float_pictures_keep_their_values_and_dtype(dtype):
    picture = jnp.linspace(-3, 3, 24).reshape(2, 4, 3).astype(dtype)
    batch = interop.from_image(picture)
    assert batch.dtype == picture.dtype
    np.testing.assert_array_equal(batch[0, 2, 1, 3], picture[1, 3, 2])
    np.testing.assert_array_equal(interop.to_image(batch, dtype=dtype), picture)


def test_layout_is_torchs():
    picture = np.random.default_rng(0).integers(0, 256, (4, 6, 3)).astype(np.uint8)
    expected = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
    np.testing.assert_array_equal(interop.from_image(picture), expected.numpy())


def test_pillow_pictures_are_welcome():
    from PIL import Image

    picture = np.random.default_rng(0).integers(0, 256, (4, 6, 3)).astype(np.uint8)
    batch = interop.from_image(Image.fromarray(picture))
    np.testing.assert_array_equal(interop.to_image(batch), picture)


def test_out_of_range_pixels_are_clipped():
    batch = jnp.array([-0.5, 0.0, 1.0, 7.0, jnp.inf, -jnp.inf, jnp.nan]).reshape(1, 1, 1, 7)
    assert interop.to_image(batch)[0, :, 0].tolist() == [0, 0, 255, 255, 255, 0, 0]


def test_images_convert_under_jit():
    picture = jnp.arange(24, dtype=jnp.uint8).reshape(2, 4, 3)
    round_trip = jax.jit(lambda p: interop.to_image(interop.from_image(p)))
    np.testing.assert_array_equal(round_trip(picture), picture)


# Tensors ---------------------------------------------------------------------

DTYPES = ["float32", "float16", "bfloat16", "complex64", "int32", "int8", "uint8", "bool"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_tensors_share_their_memory(dtype):
    tensor = torch.arange(64).reshape(4, 16).to(getattr(torch, dtype))
    array = interop.from_torch(tensor, copy=False)
    assert str(array.dtype) == dtype
    assert array.unsafe_buffer_pointer() == tensor.data_ptr()
    np.testing.assert_array_equal(array.astype("complex64"), tensor.to(torch.complex64).numpy())

    back = interop.to_torch(array, copy=False)
    assert back.dtype == tensor.dtype
    assert back.data_ptr() == tensor.data_ptr()


@pytest.mark.parametrize("dtype", ["float64", "int64", "complex128"])
def test_64_bit_tensors(dtype):
    tensor = torch.arange(6).to(getattr(torch, dtype))
    with jax.enable_x64(True):
        wide = interop.from_torch(tensor, copy=False)
        assert str(wide.dtype) == dtype
        assert interop.to_torch(wide).dtype == tensor.dtype
    with jax.enable_x64(False):
        assert interop.from_torch(tensor).dtype == jax.dtypes.canonicalize_dtype(wide.dtype)
        with pytest.raises(ValueError, match=f"torch.{dtype}.*cannot be shared"):
            interop.from_torch(tensor, copy=False)


base = torch.arange(24.0).reshape(2, 3, 4)
VIEWS = {
    "transposed": base.permute(2, 0, 1),
    "channels last": torch.ones(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
    "sliced columns": base[..., 1:3],
    "sliced rows": base[1:],
    "every other": base[:, ::2],
    "expanded": torch.ones(3, 1).expand(3, 5),
    "scalar": torch.tensor(2.5),
    "empty": torch.ones(0, 3),
    "requires grad": torch.ones(3, requires_grad=True),
    "not a leaf": torch.ones(3, requires_grad=True) * 2,
    "parameter": torch.nn.Parameter(torch.ones(3)),
    "negated lazily": torch.view_as_complex(torch.ones(3, 2)).conj().imag,
    "conjugated lazily": torch.tensor([1 + 2j, 3 - 4j]).conj(),
}


@pytest.mark.parametrize("copy", [None, True])
@pytest.mark.parametrize("name", VIEWS)
def test_every_view_has_the_tensors_values(name, copy):
    tensor = VIEWS[name]
    array = interop.from_torch(tensor, copy=copy)
    expected = tensor.detach().resolve_conj().resolve_neg().numpy()
    assert array.shape == expected.shape
    np.testing.assert_array_equal(array, expected)


def test_copies_are_copies():
    tensor = torch.zeros(100)
    shared, copied = interop.from_torch(tensor), interop.from_torch(tensor, copy=True)
    tensor += 1
    assert shared[0] == 1
    assert copied[0] == 0

    array = jnp.zeros(100)
    copied = interop.to_torch(array, copy=True)
    copied += 1
    assert array[0] == 0
    assert interop.to_torch(array)[0] == 0


def test_tensors_that_cannot_be_arrays():
    with pytest.raises(TypeError, match=r"dense torch\.Tensor, got ndarray"):
        interop.from_torch(cast(Any, np.ones(3)))
    with pytest.raises(TypeError, match=r"dense torch\.Tensor, got torch\.sparse_coo"):
        interop.from_torch(torch.eye(3).to_sparse())
    with pytest.raises(ValueError, match=r"strides \(4, 2\) cannot be shared"):
        interop.from_torch(torch.ones(3, 4)[:, ::2], copy=False)
