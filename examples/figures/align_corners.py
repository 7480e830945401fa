"""Draw what align_corners means, and what happens when grid and sampler disagree about it."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import jaxwarp

SIZE = 5
COLORS = ["#4477aa", "#66ccee", "#228833", "#ccbb44", "#ee6677"]
OUTPUT = Path(__file__).parents[1] / "images" / "align_corners.svg"


def draw_axis(axis, align_corners):
    """Draw a row of pixels as unit squares, and the normalised coordinate below it."""
    low, high = (0, SIZE - 1) if align_corners else (-0.5, SIZE - 0.5)
    for i, color in enumerate(COLORS):
        axis.add_patch(Rectangle((i - 0.5, -0.5), 1, 1, facecolor=color, alpha=0.6, edgecolor="k"))
        axis.plot(i, 0, "k.", markersize=4)
        axis.text(i, 0.18, f"pixel {i}", ha="center", fontsize=8)
    axis.annotate(
        "",
        (high, -0.75),
        (low, -0.75),
        arrowprops={"arrowstyle": "|-|", "shrinkA": 0, "shrinkB": 0},
    )
    for position, label in ((low, "-1"), ((low + high) / 2, "0"), (high, "1")):
        axis.plot([position, position], [-0.75, 0], "k:", linewidth=1)
        axis.text(position, -1.15, label, ha="center", fontsize=11)
    where = "centres of the outer pixels" if align_corners else "outer edges of the outer pixels"
    axis.set_title(f"align_corners={align_corners}: -1 and 1 are the\n{where}", fontsize=10)
    axis.set(xlim=(-0.8, SIZE - 0.2), ylim=(-1.3, 0.7), aspect="equal")
    axis.axis("off")


def draw_pixels(axis, image):
    """Draw an image's pixels as squares, which stay sharp at every size."""
    axis.pcolormesh(image[0, 0], cmap="gray", vmin=0, vmax=1, edgecolors="face")
    axis.set(xticks=[], yticks=[], aspect="equal")
    axis.invert_yaxis()


def identity_warp(image, grid_says, sampler_says):
    """Warp by the identity, with a grid and a sampler that each have a view of align_corners."""
    grid = jaxwarp.affine_grid(jnp.eye(2, 3)[None], image.shape, grid_says)
    return jaxwarp.grid_sample(image, grid, align_corners=sampler_says)


def main():
    figure = Figure(figsize=(9, 5.4), layout="constrained")
    both = figure.subfigures(2, 1, squeeze=False, height_ratios=[1, 1.4], hspace=0.05)
    top, bottom = both[:, 0]
    for axis, align_corners in zip(top.subplots(1, 2), (False, True), strict=True):
        draw_axis(axis, align_corners)

    board = np.indices((SIZE, SIZE)).sum(0) % 2
    image = jnp.asarray(0.35 + 0.5 * board, jnp.float32)[None, None]
    bottom.suptitle("the identity map, where grid and sampler agree, and where not", fontsize=10)
    axes = bottom.subplots(1, 4)
    draw_pixels(axes[0], image)
    axes[0].set_title("input", fontsize=9)
    for axis, (grid, sampler) in zip(
        axes[1:], ((False, False), (True, False), (False, True)), strict=True
    ):
        out = identity_warp(image, grid, sampler)
        error = float(abs(out - image).max())
        draw_pixels(axis, out)
        axis.set_title(f"grid {grid}, sampler {sampler}\nlargest error {error:.2g}", fontsize=9)
    # Without a date and random names, so that the same drawing is the same file.
    with rc_context({"svg.hashsalt": OUTPUT.stem}):
        figure.savefig(OUTPUT, metadata={"Date": None})
    print("wrote", OUTPUT)


if __name__ == "__main__":
    main()
