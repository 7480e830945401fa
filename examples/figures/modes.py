"""Draw every interpolation mode with every padding mode, on a grid that goes far outside."""

from itertools import product
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from skimage import data, transform

import jaxwarp

MODES = ("nearest", "bilinear", "bicubic")
PADDINGS = ("zeros", "border", "reflection", "wrap")
OUTPUT = Path(__file__).parents[1] / "images" / "modes.webp"


def main():
    face = data.astronaut()[0:200, 120:320]
    small = np.asarray(transform.resize(face, (20, 20), anti_aliasing=True))
    image = jnp.asarray(small.transpose(2, 0, 1)[None], jnp.float32)
    zoom = jnp.array([[[2.2, 0.4, 0.0], [-0.4, 2.2, 0.0]]])
    grid = jaxwarp.affine_grid(zoom, (1, 3, 220, 220))

    figure = Figure(figsize=(10.0, 8.0), layout="constrained")
    axes = figure.subplots(len(MODES), len(PADDINGS))
    for axis, (mode, padding) in zip(axes.flat, product(MODES, PADDINGS), strict=True):
        out = jaxwarp.grid_sample(image, grid, mode, padding)
        axis.imshow(np.asarray(out[0]).transpose(1, 2, 0).clip(0, 1))
        axis.set_title(f"{mode}, {padding}", fontsize=9)
        axis.set(xticks=[], yticks=[])
    figure.savefig(OUTPUT, dpi=115)
    print("wrote", OUTPUT)


if __name__ == "__main__":
    main()
