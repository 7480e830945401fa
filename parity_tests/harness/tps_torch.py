"""The thin-plate spline as a torch module: the formulation that jaxwarp.tps_grid comes from."""

import torch
from torch import nn

from parity_tests.harness import torch_operations


class ThinPlateSplineGrid(nn.Module):
    """Control points before the warp in, sampling grid out.

    Made from the control points after the warp ``cpt`` (N, T, 2) and the size (H, W) of the
    feature map::

        [W; A] = [[R_cpt, H_cpt], [H_cpt^T, 0]]^-1 [cps; 0]          grid = [R_gpt, H_gpt] [W; A]

    The inverse and the base sampler [R_gpt, H_gpt] are buffers. They stay attached to
    ``cpt``, so that its gradient can be asked for.
    """

    inverse: torch.Tensor
    base_sampler: torch.Tensor

    def __init__(self, cpt: torch.Tensor, size: tuple[int, int], align_corners: bool) -> None:
        super().__init__()
        batch, count, _ = cpt.shape
        self.size = size
        gpt = torch_operations.affine_grid(
            torch.eye(2, 3, dtype=cpt.dtype).expand(batch, 2, 3), size, align_corners
        ).reshape(batch, -1, 2)
        affine = self.affine(cpt)
        corner = torch.zeros(batch, 3, 3, dtype=cpt.dtype)
        top = torch.cat([self.calc_R_mat(cpt, cpt), affine], dim=2)
        bottom = torch.cat([affine.transpose(1, 2), corner], dim=2)
        inverse = torch.linalg.inv(torch.cat([top, bottom], dim=1))
        self.register_buffer("inverse", inverse[:, :, :count])
        base_sampler = torch.cat([self.calc_R_mat(gpt, cpt), self.affine(gpt)], dim=2)
        self.register_buffer("base_sampler", base_sampler)

    @staticmethod
    def calc_R_mat(points: torch.Tensor, cpt: torch.Tensor) -> torch.Tensor:
        """Return r^2 log r between points (N, P, 2) and control points (N, T, 2)."""
        squared = ((points[:, :, None] - cpt[:, None]) ** 2).sum(-1)
        apart = squared > 0
        return torch.where(apart, 0.5 * squared * torch.where(apart, squared, 1).log(), 0)

    @staticmethod
    def affine(points: torch.Tensor) -> torch.Tensor:
        """Return the rows (1, x, y)."""
        return torch.cat([torch.ones_like(points[..., :1]), points], dim=-1)

    def forward(self, cps: torch.Tensor) -> torch.Tensor:
        """Return the grid (N, H, W, 2) for control points before the warp (N, T, 2)."""
        grid = self.base_sampler @ (self.inverse @ cps)
        return grid.reshape(cps.shape[0], *self.size, 2)
