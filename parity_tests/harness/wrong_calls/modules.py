"""Wrong calls of `jaxwarp.nn`."""

from typing import Any, cast

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxwarp.nn import (
    LearnedTPSGrid,
    LocalizationNet,
    MatrixTransform,
    SpatialTransformer,
    TPSGrid,
    TPSTransform,
    make_transform,
)
from parity_tests.harness.control_points import scattered
from parity_tests.harness.wrong_calls.row import Wrong

X = np.zeros((2, 8, 8, 1), np.float32)
nothing = cast(Any, None)


def _layer(k=6, transform: Any = "affine", dtype: Any = jnp.float32, **options):
    return SpatialTransformer(lambda x: jnp.zeros((x.shape[0], k), dtype), transform, **options)


def _net(shape: Any = (28, 28, 1), transform: Any = "affine", **options):
    return LocalizationNet(shape, transform, rngs=nnx.Rngs(0), **options)


TABLE = [
    Wrong(
        "transform",
        "nn.SpatialTransformer",
        (),
        ValueError,
        ("transform must be one of 'affine'",),
        call=lambda: _layer(transform="afine"),
    ),
    Wrong(
        "not a transform",
        "nn.SpatialTransformer",
        (),
        TypeError,
        ("a name or a Transform, got 3",),
        call=lambda: _layer(transform=3),
    ),
    Wrong(
        "localization",
        "nn.SpatialTransformer",
        (),
        TypeError,
        ("callable", "got NoneType"),
        call=lambda: SpatialTransformer(nothing),
    ),
    Wrong(
        "mode",
        "nn.SpatialTransformer",
        (),
        ValueError,
        ("mode must be one of", "got 'cubic'"),
        call=lambda: _layer(mode="cubic"),
    ),
    Wrong(
        "padding",
        "nn.SpatialTransformer",
        (),
        ValueError,
        ("padding_mode must be one of",),
        call=lambda: _layer(padding_mode="mirror"),
    ),
    Wrong(
        "corners",
        "nn.SpatialTransformer",
        (),
        TypeError,
        ("align_corners must be",),
        call=lambda: _layer(align_corners=cast(Any, 1)),
    ),
    Wrong(
        "channels",
        "nn.SpatialTransformer",
        (),
        ValueError,
        ("channel_axis must be 1 or -1, got 2",),
        call=lambda: _layer(channel_axis=2),
    ),
    Wrong(
        "size",
        "nn.SpatialTransformer",
        (),
        ValueError,
        ("size must be (*spatial)", "2 entries"),
        call=lambda: _layer(size=(4, 4, 4)),
    ),
    Wrong(
        "empty size",
        "nn.SpatialTransformer",
        (),
        ValueError,
        ("size must hold positive integers",),
        call=lambda: _layer(size=(4, 0)),
    ),
    Wrong(
        "float size",
        "nn.SpatialTransformer",
        (),
        TypeError,
        ("size must hold integers",),
        call=lambda: _layer(size=cast(Any, (4.0, 4))),
    ),
    Wrong(
        "head",
        "nn.SpatialTransformer",
        (X,),
        ValueError,
        ("localization(x)", "(2, 6)", "got shape (2, 5)"),
        call=lambda x: _layer(k=5)(x),
    ),
    Wrong(
        "tps head",
        "nn.SpatialTransformer",
        (X,),
        ValueError,
        ("(2, 32) for TPSTransform",),
        call=lambda x: _layer(transform="tps")(x),
    ),
    Wrong(
        "int head",
        "nn.SpatialTransformer",
        (X,),
        TypeError,
        ("localization(x)", "floating"),
        call=lambda x: _layer(dtype=jnp.int32)(x),
    ),
    Wrong(
        "rank",
        "nn.SpatialTransformer",
        (X[0],),
        ValueError,
        ("(N, *spatial, C) with 2 spatial axes",),
        call=lambda x: _layer()(x),
    ),
    Wrong(
        "channels first",
        "nn.SpatialTransformer",
        (X[0],),
        ValueError,
        ("(N, C, *spatial)",),
        call=lambda x: _layer(channel_axis=1)(x),
    ),
    Wrong(
        "int image",
        "nn.SpatialTransformer",
        (X.astype(jnp.uint8),),
        TypeError,
        ("x must have a real floating",),
        call=lambda x: _layer()(x),
    ),
    Wrong(
        "no image",
        "nn.SpatialTransformer",
        (cast(Any, [1.0]),),
        TypeError,
        ("x must be a JAX or NumPy array",),
        call=lambda x: _layer()(x),
    ),
    Wrong(
        "family",
        "nn.MatrixTransform",
        (),
        ValueError,
        ("family must be one of",),
        call=lambda: MatrixTransform("tps"),
    ),
    Wrong(
        "3-D turn",
        "nn.MatrixTransform",
        (),
        ValueError,
        ("ndim", "'similarity', got 3"),
        call=lambda: MatrixTransform("similarity", 3),
    ),
    Wrong(
        "4-D",
        "nn.MatrixTransform",
        (),
        ValueError,
        ("ndim must be in",),
        call=lambda: MatrixTransform("affine", 4),
    ),
    Wrong(
        "lattice",
        "nn.TPSTransform",
        (),
        ValueError,
        ("at least 2 points on each axis",),
        call=lambda: TPSTransform((1, 4)),
    ),
    Wrong(
        "bound",
        "nn.TPSTransform",
        (),
        ValueError,
        ("bound must be positive or None",),
        call=lambda: TPSTransform(bound=0.0),
    ),
    Wrong(
        "small image",
        "nn.LocalizationNet",
        (),
        ValueError,
        ("does not fit",),
        call=lambda: _net((10, 10, 1)),
    ),
    Wrong(
        "net shape",
        "nn.LocalizationNet",
        (),
        ValueError,
        ("input_shape must be (*spatial, C)",),
        call=lambda: _net((28,)),
    ),
    Wrong(
        "net axes",
        "nn.LocalizationNet",
        (),
        ValueError,
        ("2 spatial axes",),
        call=lambda: _net((28, 28, 28, 1), make_transform("tps")),
    ),
    Wrong(
        "net lists",
        "nn.LocalizationNet",
        (),
        ValueError,
        ("same length, got 1 and 2",),
        call=lambda: _net(channels=(8,)),
    ),
    Wrong(
        "net input",
        "nn.LocalizationNet",
        (X,),
        ValueError,
        ("x must be (N, *(28, 28, 1)), got shape",),
        call=lambda x: _net()(x),
    ),
    Wrong(
        "net int",
        "nn.LocalizationNet",
        (X.astype(jnp.int32),),
        TypeError,
        ("x must have a real floating",),
        call=lambda x: _net()(x),
    ),
    Wrong(
        "target",
        "nn.TPSGrid",
        (),
        ValueError,
        ("target must be (T, 2)",),
        call=lambda: TPSGrid(jnp.ones((4, 3)), (4, 4)),
    ),
    Wrong(
        "int target",
        "nn.TPSGrid",
        (),
        TypeError,
        ("target must have",),
        call=lambda: TPSGrid(jnp.ones((4, 2), int), (4, 4)),
    ),
    Wrong(
        "degenerate",
        "nn.TPSGrid",
        (),
        ValueError,
        ("target",),
        call=lambda: TPSGrid(jnp.ones((4, 2)), (4, 4)),
    ),
    Wrong(
        "source",
        "nn.TPSGrid",
        (np.ones((1, 5, 2), np.float32),),
        ValueError,
        ("source",),
        call=lambda x: TPSGrid(scattered(4), (4, 4))(x),
    ),
    Wrong(
        "int source",
        "nn.LearnedTPSGrid",
        (np.ones((1, 4, 2), int),),
        TypeError,
        ("source must have a real floating",),
        call=lambda x: LearnedTPSGrid(scattered(4), (4, 4))(x),
    ),
    Wrong(
        "learned source",
        "nn.LearnedTPSGrid",
        (np.ones((1, 5, 2), np.float32),),
        ValueError,
        ("source",),
        call=lambda x: LearnedTPSGrid(scattered(4), (4, 4))(x),
    ),
    Wrong(
        "name", "nn.make_transform", ("afine",), ValueError, ("transform must be one of", "afine")
    ),
    Wrong("number", "nn.make_transform", (3,), TypeError, ("a name or a Transform, got 3",)),
    Wrong("axes", "nn.make_transform", ("similarity", 3), ValueError, ("ndim", "similarity")),
    Wrong(
        "name",
        "nn.identity_head",
        (4, "afine"),
        ValueError,
        ("transform must be one of", "afine"),
        {"rngs": nnx.Rngs(0)},
    ),
]
