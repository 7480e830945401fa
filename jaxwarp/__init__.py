"""Differentiable image warping for JAX: affine grids, grid sampling, thin-plate splines."""

from jaxwarp._grids import (
    affine_grid as affine_grid,
    compose_affine as compose_affine,
    flow_grid as flow_grid,
    homography_grid as homography_grid,
    invert_affine as invert_affine,
)
from jaxwarp._sample import (
    grid_sample as grid_sample,
    remap as remap,
    splat as splat,
)
