"""The loops over objects that the patch functions replace, in torch.

Written out of place, so that torch can differentiate them.
"""

import torch
from torch.nn import functional as F

from parity_tests.harness import torch_operations


def patch_affine(
    img,
    boxes,
    theta,
    obj_to_img,
    *,
    order="sequential",
    mode="bilinear",
    padding_mode="zeros",
    align_corners=False,
):
    """Transform one patch after the other.

    Args:
        img: (N, C, H, W).
        boxes: K lists of integers (r1, c1, r2, c2), rows first and within the image.
        theta: (K, 2, 3).
        obj_to_img: K integers.
        order: "sequential", or "layered" to read every patch from the original image.
        mode: As for torch's grid_sample, like the other two.
        padding_mode: See mode.
        align_corners: See mode.
    """
    out = img
    for (r1, c1, r2, c2), matrix, n in zip(boxes, theta, obj_to_img, strict=True):
        source = out if order == "sequential" else img
        patch = source[n : n + 1, :, r1:r2, c1:c2]
        if 0 in patch.shape:  # an error in the original loop
            continue
        grid = torch_operations.affine_grid(matrix[None], patch.shape[2:], align_corners)
        warped = F.grid_sample(patch, grid, mode, padding_mode, align_corners)
        out = out.clone()
        out[n, :, r1:r2, c1:c2] = warped[0]
    return out


def crop_and_resize(img, boxes, obj_to_img, size, *, mode="bilinear", padding_mode="zeros"):
    """Crop by the crop's affine map, on a copy of the image for each box.

    Args:
        img: (N, C, H, W).
        boxes: (K, 4), x1, y1, x2, y2.
        obj_to_img: K integers.
        size: Height and width of a crop.
        mode: As for torch's grid_sample, like padding_mode.
        padding_mode: See mode.
    """
    height, width = img.shape[2:]
    x1, y1, x2, y2 = boxes.unbind(1)
    zero = torch.zeros_like(x1)
    theta = torch.stack(
        [
            torch.stack([(x2 - x1) / width, zero, (x1 + x2) / width - 1], 1),
            torch.stack([zero, (y2 - y1) / height, (y1 + y2) / height - 1], 1),
        ],
        dim=1,
    )
    images = img[torch.as_tensor(obj_to_img)]
    grid = F.affine_grid(theta, [*images.shape[:2], *size], align_corners=False)
    return F.grid_sample(images, grid, mode, padding_mode, align_corners=False)


def paste(canvas, patches, boxes, obj_to_img, *, mode="bilinear"):
    """Paste by the inverse of the crop's map on the whole canvas, with a patch of ones as alpha.

    Args:
        canvas: (N, C, H, W).
        patches: (K, C, h, w).
        boxes: (K, 4), x1, y1, x2, y2.
        obj_to_img: K integers.
        mode: As for torch's grid_sample.
    """
    height, width = canvas.shape[2:]
    columns, rows = (torch.arange(n, dtype=boxes.dtype) + 0.5 for n in (width, height))
    out = canvas
    for patch, (x1, y1, x2, y2), n in zip(patches, boxes, obj_to_img, strict=True):
        x = (2 * columns - x1 - x2) / (x2 - x1)
        y = (2 * rows - y1 - y2) / (y2 - y1)
        grid = torch.stack([x.expand(height, width), y[:, None].expand(height, width)], -1)
        opaque = torch.cat([patch, torch.ones_like(patch[:1])])
        sampled = F.grid_sample(opaque[None], grid[None], mode, "zeros", align_corners=False)[0]
        color, alpha = sampled[:-1], sampled[-1:]
        blended = color + (1 - alpha) * out[n]
        out = out.clone()
        out[n] = blended
    return out
