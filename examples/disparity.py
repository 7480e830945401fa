"""See the right photograph of a stereo pair from the left: warping, and what is hidden.

    python examples/disparity.py [OUTPUT.png]

A left pixel at x sees what the right photograph holds at x - disparity (measured, in pixels).
`grid_sample` fetches it: backward warping. Where a near thing hides a far one in the right
photograph it fetches the wrong thing, and `splat`, its adjoint, tells where: it carries each
left pixel's disparity over to the right view, the near outweighing the far, and a pixel is
hidden where what arrives there is nearer than itself.
"""

import sys

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from skimage import data

import jaxwarp

TOLERANCE = 1.0  # pixels of disparity by which the nearer thing must be nearer


def stereo_pair():
    """Return left and right (1, 3, H, W) in [0, 1], the disparity (1, 1, H, W) and its mask."""
    left, right, disparity = data.stereo_motorcycle()
    photographs = [
        jnp.asarray(np.moveaxis(x, -1, 0)[None] / 255, jnp.float32) for x in (left, right)
    ]
    known = jnp.asarray(np.isfinite(disparity))[None, None]
    disparity = jnp.asarray(np.where(np.isfinite(disparity), disparity, 0), jnp.float32)
    return *photographs, disparity[None, None], known


def to_right(disparity):
    """Return the grid on which the left view's pixels find themselves in the right one."""
    x = -disparity[:, 0]
    return jaxwarp.flow_grid(jnp.stack([x, jnp.zeros_like(x)], axis=-1))


def seen_from_right(values, disparity, known):
    """Carry values of the left view to the right one by splatting; also say what is covered."""
    nearness = jnp.where(known, jnp.exp(disparity - disparity.max()), 0)
    grid, size = to_right(disparity), values.shape[2:]
    weight = jaxwarp.splat(nearness, grid, size)
    total = jaxwarp.splat(values * nearness, grid, size)
    covered = jaxwarp.splat(known.astype(values.dtype), grid, size) > 0.5
    return jnp.where(weight > 0, total / jnp.where(weight > 0, weight, 1), 0), covered


def visible(disparity, known):
    """Return where a left pixel is also seen from the right: nothing nearer lands on it."""
    grid = to_right(disparity)
    nearest, _ = seen_from_right(disparity, disparity, known)
    there = jaxwarp.grid_sample(nearest, grid)
    inside = jaxwarp.grid_sample(jnp.ones_like(disparity), grid) > 0.99
    return known & inside & (there - disparity < TOLERANCE)


def mean_error(a, b, where):
    """Return the mean absolute difference, in grey levels of 255, where a mask says so."""
    where = jnp.broadcast_to(where, a.shape)
    return float(255 * jnp.sum(jnp.abs(a - b) * where) / jnp.sum(where))


def main(output="disparity.png"):
    left, right, disparity, known = stereo_pair()
    warped = jaxwarp.grid_sample(right, to_right(disparity))
    seen = visible(disparity, known)
    forward, covered = seen_from_right(left, disparity, known)

    print(
        f"pixels with a disparity: {float(known.mean()):.1%}; of these hidden from the right or "
        f"outside: {1 - float(seen.sum() / known.sum()):.1%}"
    )
    print("mean difference from the left photograph, in grey levels of 255")
    print(f"  right photograph as it is        {mean_error(right, left, known):6.2f}")
    print(f"  warped, wherever disparity known {mean_error(warped, left, known):6.2f}")
    print(f"  warped, where seen from both     {mean_error(warped, left, seen):6.2f}")
    print(f"  warped, where found hidden       {mean_error(warped, left, known & ~seen):6.2f}")
    print("mean difference from the right photograph")
    print(f"  left photograph as it is         {mean_error(left, right, covered):6.2f}")
    print(f"  left photograph splatted         {mean_error(forward, right, covered):6.2f}")

    panels = {
        "left": left,
        "right, warped to the left": warped,
        "the same, seen from both only": jnp.where(seen, warped, 0),
        "right": right,
        "left, splatted to the right": jnp.where(covered, forward, 0),
        "difference from the right": jnp.where(covered, jnp.abs(forward - right) * 3, 0),
    }
    figure = Figure(figsize=(12, 5.8), layout="constrained")
    for ax, (title, x) in zip(figure.subplots(2, 3).flat, panels.items(), strict=True):
        ax.imshow(np.clip(np.moveaxis(np.asarray(x)[0], 0, -1), 0, 1))
        ax.set_title(title)
        ax.set_axis_off()
    figure.savefig(output, dpi=115)


if __name__ == "__main__":
    main(*sys.argv[1:])
