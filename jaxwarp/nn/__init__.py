"""Flax (nnx) modules: spatial transformers, thin-plate splines, buffers.

The only part of jaxwarp that needs Flax. Every module is channels last unless told
otherwise, and is used from Linen through ``nnx.bridge.to_linen``.
"""

from jaxwarp.nn._buffer import Buffer
from jaxwarp.nn._conv_output_size import conv_output_size
from jaxwarp.nn._localization import LocalizationNet, identity_head
from jaxwarp.nn._spatial_transformer import SpatialTransformer, Warped
from jaxwarp.nn._tps import LearnedTPSGrid, TPSGrid
from jaxwarp.nn._transforms import MatrixTransform, TPSTransform, Transform, make_transform

__all__ = [
    "Buffer",
    "LearnedTPSGrid",
    "LocalizationNet",
    "MatrixTransform",
    "SpatialTransformer",
    "TPSGrid",
    "TPSTransform",
    "Transform",
    "Warped",
    "conv_output_size",
    "identity_head",
    "make_transform",
]
