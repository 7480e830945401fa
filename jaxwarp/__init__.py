"""Differentiable image warping for JAX: affine grids, grid sampling, thin-plate splines."""

from jaxwarp._crops import crop_and_resize
from jaxwarp._grids import (
    affine_grid,
    compose_affine,
    flow_grid,
    homography_grid,
    invert_affine,
)
from jaxwarp._paste import paste
from jaxwarp._patches import patch_affine
from jaxwarp._sample import grid_sample, remap, splat
from jaxwarp._sampler import backend_of
from jaxwarp._tps import tps_apply, tps_fit, tps_grid
from jaxwarp._tps_geometry import bending_energy, tps_invert, tps_jacobian_determinant
from jaxwarp._tps_operator import ThinPlateOperator, tps_operator
from jaxwarp._tps_spline import ThinPlateSpline

__all__ = [
    "ThinPlateOperator",
    "ThinPlateSpline",
    "affine_grid",
    "backend_of",
    "bending_energy",
    "compose_affine",
    "crop_and_resize",
    "flow_grid",
    "grid_sample",
    "homography_grid",
    "invert_affine",
    "paste",
    "patch_affine",
    "remap",
    "splat",
    "tps_apply",
    "tps_fit",
    "tps_grid",
    "tps_invert",
    "tps_jacobian_determinant",
    "tps_operator",
]
