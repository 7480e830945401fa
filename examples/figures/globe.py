"""Turn a planet whose map is periodic in longitude but not in latitude, with every padding."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import jaxwarp

SIZE = (90, 180)  # two degrees a pixel
TURN, TILT = 150, 20  # degrees
PADDINGS = ("zeros", "border", "reflection", ("border", "wrap"))
OUTPUT = Path(__file__).parents[1] / "images" / "globe.webp"


def planet():
    """Paint land, sea and ice of a made-up planet on its map, (1, *SIZE, 3)."""
    south, east = (np.pi * (np.arange(n) + 0.5) / SIZE[0] for n in SIZE)
    z, ring = np.cos(south)[:, None], np.sin(south)[:, None]
    place = np.stack(np.broadcast_arrays(ring * np.cos(east), ring * np.sin(east), z))
    random = np.random.default_rng(3)
    # Waves in space, seen on the sphere: whatever they are, they have no seam.
    waves = random.normal(0, 1, (24, 3)) * np.geomspace(2, 9, 24)[:, None]
    phases = random.uniform(0, 2 * np.pi, (24, 1, 1))
    height = (np.cos(np.tensordot(waves, place, 1) + phases).T / np.geomspace(1, 4, 24)).T.sum(0)
    ice = np.abs(z) + 0.02 * height > 0.93
    land = np.where(height[..., None] > 2.2, [0.55, 0.45, 0.3], [0.3, 0.5, 0.22])
    sea = [0.1, 0.25, 0.5] + 0.03 * height[..., None]
    colors = np.where(ice[..., None], 0.95, np.where(height[..., None] > 0.6, land, sea))
    return jnp.asarray(colors[None].clip(0, 1), jnp.float32)


def main():
    chart = planet()
    pixels_east = TURN * SIZE[1] / 360 * jnp.array([1.0, 0.0]) * jnp.ones((1, *SIZE, 2))
    grid = jaxwarp.flow_grid(pixels_east)
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    panels = {"map": chart}
    for padding in PADDINGS:
        out = jaxwarp.grid_sample(chart, grid, "bicubic", padding, channel_axis=-1)
        panels[f"turned by {TURN}°, {padding}"] = out
    axes = figure.subplots(2, 3)
    for axis, (title, image) in zip(axes.flat, panels.items(), strict=False):
        axis.imshow(np.asarray(image[0]).clip(0, 1))
        axis.set_title(title, fontsize=9)
        axis.set(xticks=[], yticks=[])
    draw_globe(axes[1, 2], chart)
    figure.savefig(OUTPUT, dpi=140)
    print("wrote", OUTPUT)


def draw_globe(axis, chart, side=180):
    """Draw the planet as it looks from far away, tilted, with the map's seam in the middle."""
    x, y = np.meshgrid(*[(np.arange(side) + 0.5) / side * 2.1 - 1.05] * 2)
    seen = x**2 + y**2 < 1
    depth = np.sqrt(np.where(seen, 1 - x**2 - y**2, 0))
    tilt = np.deg2rad(TILT)
    north, front = -y * np.cos(tilt) + depth * np.sin(tilt), y * np.sin(tilt) + depth * np.cos(tilt)
    south, east = np.arccos(north.clip(-1, 1)), np.arctan2(x, front)
    position = np.stack([east, south], -1) * SIZE[0] / np.pi - 0.5
    where = jnp.asarray(position[None], jnp.float32)
    globe = jaxwarp.remap(chart, where, padding_mode=("border", "wrap"), channel_axis=-1)
    axis.imshow(np.where(seen[..., None], globe[0] * (0.4 + 0.6 * depth[..., None]), 1).clip(0, 1))
    axis.set_title("the planet, its map's seam in front", fontsize=9)
    axis.set_axis_off()


if __name__ == "__main__":
    main()
