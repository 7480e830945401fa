"""Warp a photograph by an affine map, a homography and a flow: quickstart.py [IMAGE].

Without IMAGE it warps scikit-image's astronaut. Where torch is installed it does the same
there, too. Writes quickstart.png; prints the largest difference and the times.
"""

import sys
import time
from importlib.util import find_spec

import jax
import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageOps
from skimage import data

import jaxwarp
from jaxwarp import interop

HAS_TORCH = find_spec("torch") is not None
AFFINE = [[[0.9, 0.5, 0.1], [-0.5, 0.9, 0.0]]]
HOMOGRAPHY = [[[1.1, 0.2, 0.0], [0.0, 1.4, 0.0], [0.0, 0.5, 1.1]]]


def swirl(height, width):
    """Return a flow in pixels, (1, H, W, 2): a turn about the centre that fades outwards."""
    y, x = np.mgrid[:height, :width] - np.reshape([height - 1, width - 1], (2, 1, 1)) / 2
    turned = (x + 1j * y) * np.exp(2j * np.exp(-4 * np.hypot(x, y) / min(height, width)))
    return np.stack([turned.real - x, turned.imag - y], -1)[None]


def jaxwarp_warps(*arrays):
    x, theta, h, flow = (jax.numpy.asarray(a, jax.numpy.float32) for a in arrays)
    return {
        "affine": lambda: jaxwarp.grid_sample(x, jaxwarp.affine_grid(theta, x.shape)),
        "homography": lambda: jaxwarp.grid_sample(x, jaxwarp.homography_grid(h, x.shape)),
        "flow": lambda: jaxwarp.grid_sample(x, jaxwarp.flow_grid(flow)),
    }


def torch_warps(*arrays):
    """The same in torch, which leaves the grids of the last two to its users."""
    import torch

    x, theta, h, flow = (torch.tensor(a, dtype=torch.float32) for a in arrays)
    F, options = torch.nn.functional, {"align_corners": False}
    identity = F.affine_grid(torch.eye(2, 3)[None], x.shape, **options)
    pixel = 2 / torch.tensor(x.shape[:1:-1])

    def homography_grid():
        points = F.pad(identity, (0, 1), value=1.0) @ h[0].T
        return points[..., :2] / points[..., 2:]

    return {
        "affine": lambda: F.grid_sample(x, F.affine_grid(theta, x.shape, **options), **options),
        "homography": lambda: F.grid_sample(x, homography_grid(), **options),
        "flow": lambda: F.grid_sample(x, identity + flow * pixel, **options),
    }


def measure(calls):
    """Call each in turn; return their pictures and their median warm times in milliseconds."""
    pictures = [np.asarray(call()[0]).transpose(1, 2, 0) for call in calls]
    times = np.empty((20, len(calls)))
    for i, j in np.ndindex(times.shape):
        start = time.perf_counter()
        jax.block_until_ready(calls[j]())
        times[i, j] = 1e3 * (time.perf_counter() - start)
    return pictures, np.median(times, axis=0)


def main():
    picture = Image.open(sys.argv[1]) if sys.argv[1:] else Image.fromarray(data.astronaut())
    photo = interop.from_image(ImageOps.exif_transpose(picture).convert("RGB"))
    inputs = photo, AFFINE, HOMOGRAPHY, swirl(*photo.shape[2:])
    makers = {"jaxwarp": jaxwarp_warps} | ({"torch": torch_warps} if HAS_TORCH else {})
    warps = {library: make(*inputs) for library, make in makers.items()}

    rows = [*warps, "difference x 1e5"] if HAS_TORCH else [*warps]
    figure = Figure(figsize=(10, 3.6 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), 3, squeeze=False, subplot_kw={"xticks": [], "yticks": []})
    for column, name in enumerate(warps["jaxwarp"]):
        pictures, times = measure([calls[name] for calls in warps.values()])
        report = [f"{library} {ms:.2f} ms" for library, ms in zip(warps, times, strict=True)]
        if HAS_TORCH:
            difference = abs(pictures[0] - pictures[1])
            report.append(f"largest difference {difference.max():.1e}")
            pictures.append(1e5 * difference)
        print(f"{name}:", ", ".join(report))
        for axis, row, panel in zip(axes[:, column], rows, pictures, strict=True):
            axis.imshow(panel.clip(0, 1))
            axis.set_title(f"{name}, {row}")
    figure.savefig("quickstart.png", dpi=75)
    print("wrote quickstart.png")


if __name__ == "__main__":
    main()
