"""A localisation network that fits its input, and the head that makes it start as the identity."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Float

from jaxwarp import _checks
from jaxwarp.nn._conv_output_size import conv_output_size
from jaxwarp.nn._signature import show_constructor
from jaxwarp.nn._transforms import Transform, make_transform


def identity_head(
    in_features: int, transform: str | Transform, *, rngs: nnx.Rngs, **options: Any
) -> nnx.Linear:
    """Make the last layer of a localisation network: it ignores its input and says identity.

    Its kernel is zero and its bias the family's identity, so whatever comes before, an
    untrained network leaves the image as it is, bit for bit; the kernel still receives a
    gradient.

    Args:
        in_features: Number of features that come in.
        transform: The family of warps, or its name, as for `SpatialTransformer`.
        rngs: As for ``nnx.Linear``.
        **options: Further options of ``nnx.Linear`` (dtype, param_dtype, precision).

    Returns:
        The layer, from (N, in_features) to (N, K).

    Raises:
        ValueError: There is no such family.

    Example:
        >>> from flax import nnx
        >>> identity_head(32, "affine", rngs=nnx.Rngs(0)).bias[...]
        Array([1., 0., 0., 0., 1., 0.], dtype=float32)
    """
    identity = make_transform(transform).identity

    def bias(key: jax.Array, shape: Sequence[int], dtype: DTypeLike) -> jax.Array:
        return jnp.asarray(identity, dtype).reshape(shape)

    zeros = nnx.initializers.zeros_init()
    return nnx.Linear(
        in_features, len(identity), kernel_init=zeros, bias_init=bias, rngs=rngs, **options
    )


@show_constructor
class LocalizationNet(nnx.Module):
    """Look at an image and say how to warp it: a small convolutional network.

    For each entry of ``channels``, a convolution without padding, a max-pooling over 2
    pixels and a relu; then hidden layers with relu, and an `identity_head`. The defaults
    are those of the PyTorch tutorial on spatial transformers. The sizes of the Linear
    layers follow from ``input_shape``.

    Args:
        input_shape: One image's shape, (*spatial, C).
        transform: The family of warps, or its name, as for `SpatialTransformer`.
        channels: Output channels of each convolution.
        kernel_sizes: Window of each convolution.
        hidden: Widths of the hidden Linear layers.
        rngs: Source of the initial weights.
        **options: Further options of every layer (dtype, param_dtype, precision).

    Attributes:
        flattened: The shape (C, *spatial) of the features that are flattened, in torch's
            order: what `jaxwarp.interop.load_state_dict` needs to know of them.
        features: ``nnx.Sequential`` of convolution, pooling, relu, ...
        regressor: ``nnx.Sequential`` of Linear, relu, ..., Linear.

    Raises:
        TypeError: A size is not an integer.
        ValueError: The convolutions do not fit into the image, or their lists differ in
            length; the number of axes is not the family's; there is no such family.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> network = LocalizationNet((28, 28, 1), "affine", rngs=nnx.Rngs(0))
        >>> network(jnp.ones((1, 28, 28, 1)))
        Array([[1., 0., 0., 0., 1., 0.]], dtype=float32)
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        transform: str | Transform = "affine",
        *,
        channels: Sequence[int] = (8, 10),
        kernel_sizes: Sequence[int] = (7, 5),
        hidden: Sequence[int] = (32,),
        rngs: nnx.Rngs,
        **options: Any,
    ):
        shape = _checks.output_size("input_shape", input_shape, (2, 3, 4), "(*spatial, C)")
        transform = make_transform(transform, len(shape) - 1)
        _check_sizes(shape, transform, channels, kernel_sizes)
        self.input_shape = shape
        *spatial, features = shape
        axes = len(spatial)
        convolutions = []
        for width, kernel in zip(channels, kernel_sizes, strict=True):
            convolutions += [
                nnx.Conv(features, width, (kernel,) * axes, padding="VALID", rngs=rngs, **options),
                _halve,
                nnx.relu,
            ]
            spatial = conv_output_size(conv_output_size(spatial, kernel), 2, stride=2)
            features = width
        self.flattened = (features, *spatial)
        features = math.prod(self.flattened)
        layers = []
        for width in hidden:
            layers += [nnx.Linear(features, width, rngs=rngs, **options), nnx.relu]
            features = width
        self.features = nnx.Sequential(*convolutions)
        self.regressor = nnx.Sequential(
            *layers, identity_head(features, transform, rngs=rngs, **options)
        )

    def __call__(self, x: Float[ArrayLike, "N *spatial C"]) -> Float[Array, "N K"]:
        """Return parameters (N, K) for images (N, *spatial, C).

        Raises:
            TypeError: x is not a floating-point array.
            ValueError: x does not have the shape that the network was made for.
        """
        images = _checks.image_array("x", x)
        holds = images.shape[1:] == self.input_shape
        advice = _checks.no_batch("x", images, len(self.input_shape) + 1)
        _checks.shape("x", images, f"(N, *{self.input_shape})", holds, advice)
        features = self.features(images)
        return self.regressor(features.reshape(features.shape[0], -1))


def _halve(x: jax.Array) -> jax.Array:
    window = (2,) * (x.ndim - 2)
    return nnx.max_pool(x, window, strides=window)


def _check_sizes(
    shape: Sequence[int],
    transform: Transform,
    channels: Sequence[int],
    kernel_sizes: Sequence[int],
) -> None:
    if transform.ndim != len(shape) - 1:
        raise ValueError(
            f"input_shape must have {transform.ndim} spatial axes for {transform}, got {shape}"
        )
    if len(channels) != len(kernel_sizes):
        raise ValueError(
            "channels and kernel_sizes must have the same length,"
            f" got {len(channels)} and {len(kernel_sizes)}"
        )
