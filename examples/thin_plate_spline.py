"""Bend a photograph, take it back, see where a bend folds: thin_plate_spline.py [OUTPUT.png].

The spline maps target points (in the result) to source points (in the photograph). A straight
lattice over the photograph appears bent in the result: where, the inverse says, which Newton's
method finds. Where the spline's Jacobian determinant is negative the map has folded over: the
result shows a part of the photograph twice, and has no inverse there.
"""

import sys

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from skimage import data

import jaxwarp


def lattice(per_axis, points_per_line):
    """Return the lines of a square lattice, (1, lines, points, 2)."""
    across, along = np.meshgrid(
        np.linspace(-1, 1, per_axis), np.linspace(-1, 1, points_per_line), indexing="ij"
    )
    vertical = np.stack([across, along], -1)
    return jnp.asarray(np.concatenate([vertical, vertical[..., ::-1]])[None], jnp.float32)


def control_points():
    """Return a lattice of target points, and source points turned about the centre."""
    target = lattice(5, 5)[0, :5].reshape(1, 25, 2)
    x, y = target[..., 0], target[..., 1]
    fade = jnp.cos(jnp.pi / 2 * x) * jnp.cos(jnp.pi / 2 * y)
    turned = fade[..., None] * jnp.stack([0.05 - 0.45 * y, 0.05 + 0.45 * x], -1)
    return target, target + turned


def draw(axis, title, photo, lines=None, points=None):
    """Show a picture with lines and points in normalised coordinates."""
    axis.imshow(np.clip(np.asarray(photo)[0].transpose(1, 2, 0), 0, 1), extent=(-1, 1, 1, -1))
    for line in () if lines is None else np.asarray(lines)[0]:
        axis.plot(*line.T, color="white", linewidth=0.7)
    if points is not None:
        axis.plot(*np.asarray(points)[0].T, "o", color="#ffd400", markersize=3.5)
    axis.set(title=title, xlim=(-1.05, 1.05), ylim=(1.05, -1.05), xticks=[], yticks=[])


def main(output="thin_plate_spline.png"):
    photo = jnp.asarray(data.astronaut().transpose(2, 0, 1)[None] / 255, jnp.float32)
    pixels = jaxwarp.affine_grid(jnp.eye(2, 3)[None], photo.shape)
    straight = lattice(13, 60)
    figure = Figure(figsize=(9, 6.3), layout="constrained")
    axes = figure.subplots(2, 3)

    target, source = control_points()
    spline = jaxwarp.tps_fit(target, source)
    bent = jaxwarp.grid_sample(photo, jaxwarp.tps_grid(target, source, photo.shape))
    back = jaxwarp.tps_invert(spline, pixels)
    swapped = jaxwarp.tps_grid(source, target, photo.shape)
    restored = jaxwarp.grid_sample(bent, back)
    to_pixels = photo.shape[-1] / 2
    for name, grid in {"Newton's inverse": back, "ends swapped": swapped}.items():
        miss = to_pixels * jnp.linalg.norm(jaxwarp.tps_apply(spline, grid) - pixels, axis=-1)
        print(f"{name}: leads back to within {float(miss.max()):.1e} pixels")
    error = 255 * jnp.abs(restored - photo)
    print(f"bent and restored: {float(error.mean()):.2f} of 255 grey levels off on average")
    draw(axes[0, 0], "photograph, source points", photo, straight, source)
    draw(axes[0, 1], "bent, target points", bent, jaxwarp.tps_invert(spline, straight), target)
    draw(axes[0, 2], "bent back by Newton's inverse", restored, straight)

    source = target.at[0, 12].add(jnp.array([0.8, 0.2]))  # the centre, past its neighbour
    bent = jaxwarp.grid_sample(photo, jaxwarp.tps_grid(target, source, photo.shape))
    spline = jaxwarp.tps_fit(target, source)
    area = jaxwarp.tps_jacobian_determinant(spline, pixels)[0]
    print(f"one point pulled too far: {float(jnp.mean(area < 0)):.1%} of the result is folded over")
    read = jaxwarp.tps_apply(spline, straight)
    draw(axes[1, 0], "one point pulled too far", photo, read, source)
    draw(axes[1, 1], "the result; red: folded over", bent, points=target)
    axes[1, 1].contour(*np.moveaxis(np.asarray(pixels[0]), -1, 0), area, [0], colors="red")
    shown = axes[1, 2].imshow(area, cmap="RdBu", vmin=-2, vmax=2, extent=(-1, 1, 1, -1))
    axes[1, 2].set(title="Jacobian determinant", xticks=[], yticks=[])
    figure.colorbar(shown, ax=axes[1, 2], shrink=0.7)
    figure.savefig(output, dpi=150)
    print("wrote", output)


if __name__ == "__main__":
    main(*sys.argv[1:])
