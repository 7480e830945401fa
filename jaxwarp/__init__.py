"""Differentiable image warping for JAX: affine grids, grid sampling, thin-plate splines."""

from jaxwarp._grids import (
    affine_grid,
    compose_affine,
    flow_grid,
    homography_grid,
    invert_affine,
)
from jaxwarp._sample import grid_sample, remap, splat

__all__ = [
    "affine_grid",
    "compose_affine",
    "flow_grid",
    "grid_sample",
    "homography_grid",
    "invert_affine",
    "remap",
    "splat",
]
