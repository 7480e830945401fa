"""The operations in torch: its own functions, composed where it has none.

Torch has no 1-D sampling and no 3-D bicubic. Both follow from its 2-D kernel by theorems that
involve no approximation: a second axis of one pixel, read at its centre, changes nothing; and
a 3-D sample is a 1-D sample along z of the 2-D samples of all slices. Objects in images are in
`patches_torch`.
"""

import warnings

import torch
import torch.nn.functional as F


def grid_sample(image, grid, mode, padding_mode, align_corners):
    """torch.nn.functional.grid_sample for 1 to 3 axes, every mode, any number of output axes."""
    batch, out, n = grid.shape[0], grid.shape[1:-1], grid.shape[-1]
    options = (mode, padding_mode, align_corners)
    if n == 1:
        sampled = _along_one_axis(image, grid.reshape(batch, -1, 1), options)
    elif n == 3 and mode == "bicubic":
        sampled = _slice_by_slice(image, grid.reshape(batch, -1, 3), options)
    elif len(out) == n:
        return F.grid_sample(image, grid, *options)
    else:
        sampled = F.grid_sample(image, grid.reshape(batch, -1, *(1,) * (n - 1), n), *options)
    return sampled.reshape(*image.shape[:2], *out)


def _along_one_axis(line, x, options):
    points = torch.stack([x, torch.zeros_like(x)], dim=-1)
    return F.grid_sample(line[:, :, None], points[..., 0, :][:, :, None], *options)


def _slice_by_slice(volume, grid, options):
    batch, channels, depth, *plane = volume.shape
    count = grid.shape[1]
    slices = volume.reshape(batch, channels * depth, *plane)
    sampled = F.grid_sample(slices, grid[:, :, None, :2], *options)
    lines = sampled.reshape(batch, channels, depth, count).permute(0, 3, 1, 2)
    lines = lines.reshape(batch * count, channels, depth)
    z = grid[..., 2].reshape(batch * count, 1, 1)
    sampled = _along_one_axis(lines, z, options).reshape(batch, count, channels)
    return sampled.permute(0, 2, 1)


def remap(image, positions, mode, padding_mode):
    """The same at pixel positions, by way of normalised ones."""
    sizes = torch.tensor(image.shape[:1:-1], dtype=positions.dtype, device=positions.device)
    return grid_sample(image, (2 * positions + 1) / sizes - 1, mode, padding_mode, False)


def splat(values, grid, size, mode, padding_mode, align_corners):
    """The gradient of the sampled image, under the cotangent ``values``."""
    image = torch.zeros(*values.shape[:2], *size, dtype=values.dtype, device=values.device)
    sampled = grid_sample(image.requires_grad_(), grid, mode, padding_mode, align_corners)
    return torch.autograd.grad(sampled, image, values, create_graph=True)[0]


def affine_grid(theta, size, align_corners):
    """torch.nn.functional.affine_grid; one axis is the first of two."""
    if theta.shape[1] != 1:
        with warnings.catch_warnings():
            # That an axis of one pixel has meant something else before torch 1.3.
            warnings.filterwarnings("ignore", "Since version 1.3.0, affine_grid behavior")
            return F.affine_grid(theta, [theta.shape[0], 1, *size], align_corners)
    row = torch.stack([theta[..., 0], torch.zeros_like(theta[..., 0]), theta[..., 1]], dim=-1)
    two = torch.cat([row, torch.zeros_like(row)], dim=1)
    return affine_grid(two, [1, *size], align_corners)[:, 0, :, :1]


def homography_grid(theta, size, align_corners):
    """The projective map of torch's identity grid."""
    batch, n = theta.shape[0], len(size)
    centers = affine_grid(_identity(batch, n, theta), size, align_corners)
    ones = torch.ones_like(centers[..., :1])
    mapped = torch.einsum("nij,n...j->n...i", theta, torch.cat([centers, ones], dim=-1))
    return mapped[..., :-1] / mapped[..., -1:]


def flow_grid(flow, align_corners):
    """Torch's identity grid plus the flow in units of it."""
    size = flow.shape[1:-1]
    centers = affine_grid(_identity(flow.shape[0], len(size), flow), size, align_corners)
    extent = torch.tensor(size[::-1], dtype=flow.dtype, device=flow.device)
    pixels = (extent - 1 if align_corners else extent) / 2
    return centers + torch.where(pixels > 0, flow / pixels.clamp(min=0.25), 0)


def tps_grid(target, source, size, align_corners):
    """The spline's system, solved for source itself, and the spline at torch's identity grid."""
    batch, _, n = target.shape
    affine = torch.cat([torch.ones_like(target[..., :1]), target], dim=-1)
    none = torch.zeros(batch, n + 1, n + 1, dtype=target.dtype, device=target.device)
    top = torch.cat([_tps_kernel(target, target), affine], dim=2)
    bottom = torch.cat([affine.transpose(1, 2), none], dim=2)
    right = torch.cat([source, none[..., :n]], dim=1)
    weights = torch.linalg.solve(torch.cat([top, bottom], dim=1), right)
    centers = affine_grid(_identity(batch, n, target), size, align_corners).reshape(batch, -1, n)
    row = torch.cat([_tps_kernel(centers, target), torch.ones_like(centers[..., :1]), centers], 2)
    return (row @ weights).reshape(batch, *size, n)


def _tps_kernel(points, knots):
    squared = ((points[:, :, None] - knots[:, None]) ** 2).sum(-1)
    apart = squared > 0
    s = torch.where(apart, squared, 1)
    of_squared = {1: s**1.5, 2: 0.5 * s * s.log(), 3: -s.sqrt()}[knots.shape[-1]]
    return torch.where(apart, of_squared, 0)


def _identity(batch, n, like):
    eye = torch.eye(n, n + 1, dtype=like.dtype, device=like.device)
    return eye.expand(batch, n, n + 1)


def compose_affine(outer, inner):
    """The product of homogeneous matrices."""
    return (_homogeneous(outer) @ _homogeneous(inner))[:, :-1]


def invert_affine(theta):
    """The inverse of the homogeneous matrix."""
    return torch.linalg.inv(_homogeneous(theta))[:, :-1]


def _homogeneous(theta):
    last = torch.zeros_like(theta[:, :1])
    last[..., -1] = 1
    return torch.cat([theta, last], dim=1)
