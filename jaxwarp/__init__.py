"""Differentiable image warping for JAX: affine grids, grid sampling, thin-plate splines."""

import importlib as _importlib
import types as _types
import typing as _typing

from jaxwarp._flows import (
    compose_flow,
    flow_jacobian_determinant,
    integrate_velocity,
    invert_flow,
)
from jaxwarp._grids import affine_grid, flow_grid, homography_grid
from jaxwarp._matrices import affine_matrix, compose_affine, invert_affine, theta_from_pixels
from jaxwarp._patches import crop_and_resize, paste, patch_affine
from jaxwarp._sample import grid_sample, remap, splat
from jaxwarp._sampler.backends import backend_of
from jaxwarp._spline.operator import ThinPlateOperator
from jaxwarp._spline.spline import ThinPlateSpline
from jaxwarp._spline_geometry import bending_energy, tps_invert, tps_jacobian_determinant
from jaxwarp._splines import tps_apply, tps_fit, tps_grid, tps_operator
from jaxwarp._warp_flow import warp_flow

if _typing.TYPE_CHECKING:
    from jaxwarp import interop as interop
    from jaxwarp import nn as nn

# The only place that says it: pyproject.toml reads it here. Between two releases it is the next
# one's with ".dev0".
__version__ = "0.1.0.dev0"

__all__ = [
    "ThinPlateOperator",
    "ThinPlateSpline",
    "affine_grid",
    "affine_matrix",
    "backend_of",
    "bending_energy",
    "compose_affine",
    "compose_flow",
    "crop_and_resize",
    "flow_grid",
    "flow_jacobian_determinant",
    "grid_sample",
    "homography_grid",
    "integrate_velocity",
    "invert_affine",
    "invert_flow",
    "paste",
    "patch_affine",
    "remap",
    "splat",
    "theta_from_pixels",
    "tps_apply",
    "tps_fit",
    "tps_grid",
    "tps_invert",
    "tps_jacobian_determinant",
    "tps_operator",
    "warp_flow",
]

# Imported when first asked for: the modules need flax.
_LAZY = ("interop", "nn")


def __getattr__(name: str) -> _types.ModuleType:
    if name in _LAZY:
        return _importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
