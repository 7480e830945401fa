"""Recover known warps between two photographs: registration.py [OUTPUT.png].

Two pairs: the astronaut and its own noisy copy; and the motorcycle stereo pair, the right
photograph brought into the left one's view by the measured disparity. One of each pair is
warped by a known map, which registration has to find again from the pictures alone.

Gauss-Newton takes the derivative of every pixel in each of a few parameters: forward mode,
one pass a parameter. Gradient descent takes that of one loss: reverse mode.
"""

import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from skimage import color, data, filters, transform

import jaxwarp

SIZE = (1, 1, 160, 160)
LATTICE = jnp.stack(jnp.meshgrid(*[jnp.linspace(-0.8, 0.8, 4)] * 2), -1).reshape(1, 16, 2)
BEND = jaxwarp.tps_operator(LATTICE, SIZE)
MODELS = {  # the map, its number of parameters, and how large those to be found are
    "affine": (
        lambda p: jaxwarp.affine_grid(jnp.eye(2, 3)[None] + p.reshape(1, 2, 3), SIZE),
        6,
        0.06,
    ),
    "homography": (
        lambda p: jaxwarp.homography_grid(jnp.eye(3).ravel().at[:8].add(p).reshape(1, 3, 3), SIZE),
        8,
        0.06,
    ),
    "tps": (lambda p: BEND(LATTICE + p.reshape(1, 16, 2)), 32, 0.04),
}
warp = partial(jaxwarp.grid_sample, mode="bicubic", padding_mode="border")


def residual(model, p, moving, fixed):
    """Return (pixels,) differences, where the warped picture is inside its frame."""
    seen = jaxwarp.grid_sample(jnp.ones_like(moving), model(p)) > 0.99
    return jnp.where(seen, warp(moving, model(p)) - fixed, 0).ravel()


@partial(jax.jit, static_argnums=0)
def gauss_newton(model, p, *pictures):
    def step(p, _):
        jacobian = jax.jacfwd(partial(residual, model))(p, *pictures)
        return p - jnp.linalg.lstsq(jacobian, residual(model, p, *pictures))[0], None

    return jax.lax.scan(step, p, length=12)[0]


@partial(jax.jit, static_argnums=0)
def gradient_descent(model, p, *pictures):
    optimizer = optax.adam(optax.cosine_decay_schedule(4e-3, 250))

    def step(state, _):
        gradient = jax.grad(lambda p: jnp.mean(residual(model, p, *pictures) ** 2))(state[0])
        updates, moments = optimizer.update(gradient, state[1])
        return (state[0] + updates, moments), None

    return jax.lax.scan(step, (p, optimizer.init(p)), length=250)[0][0]


METHODS = {"Gauss-Newton": gauss_newton, "gradient descent": gradient_descent}


def blur(picture, sigma):
    return jnp.asarray(filters.gaussian(np.asarray(picture)[0, 0], sigma))[None, None]


def register(method, model, p, *pictures):
    for sigma in (4, 2, 1):  # from coarse to fine: blur in pixels
        p = method(model, p, *(blur(x, sigma) for x in pictures))
    return p


def square(picture):
    cut = color.rgb2gray(picture)[:, -min(picture.shape[:2]) :]
    return np.asarray(transform.resize(cut, SIZE[2:], anti_aliasing=True), np.float32)[None, None]


def pairs():
    left, right, disparity = data.stereo_motorcycle()
    known = np.isfinite(disparity)  # where not, the left photograph stands in
    shift = np.stack([-np.where(known, disparity, 0), 0 * known], -1, dtype=np.float32)[None]
    right = jaxwarp.grid_sample(
        jnp.asarray(right / 255, jnp.float32)[None], jaxwarp.flow_grid(shift), channel_axis=-1
    )
    right = np.where(known[..., None], right[0], left / 255)
    return {
        "astronaut": [square(data.astronaut())] * 2,
        "motorcycle": [square(left), square(right)],
    }


def main(output="registration.png"):
    rng, figure = np.random.default_rng(0), Figure(figsize=(13, 4.3), layout="constrained")
    print(f"{'pair':12}{'map':12}{'method':18}{'off by, pixels: before':>22}{'max':>8}{'rms':>8}")
    for row, (pair, (source, other)) in enumerate(pairs().items()):
        panels = {f"{pair}: moving": other}
        for name, (model, count, spread) in MODELS.items():
            zero, truth = (
                np.zeros(count, np.float32),
                np.float32(rng.uniform(-spread, spread, count)),
            )
            fixed = warp(source, model(truth)) + np.float32(0.03 * rng.standard_normal(SIZE))
            found = zero
            for how, method in METHODS.items():
                found = register(method, model, zero, other, fixed)
                off = [
                    jnp.linalg.norm(model(p) - model(truth), axis=-1) * 80 for p in (zero, found)
                ]
                rms = jnp.sqrt(jnp.mean(off[1] ** 2))
                print(
                    f"{pair:12}{name:12}{how:18}{off[0].max():22.2f}{off[1].max():8.3f}{rms:8.3f}"
                )
            panels |= {
                f"{name}: before": other - fixed,
                f"{name}: after": warp(other, model(found)) - fixed,
            }
        for column, (title, x) in enumerate(panels.items()):
            axes = figure.add_subplot(2, len(panels), row * len(panels) + column + 1, title=title)
            cmap, limit = ("coolwarm", 0.5) if column else ("gray", None)
            axes.imshow(x[0, 0], cmap=cmap, vmin=limit and -limit, vmax=limit)
            axes.set_axis_off()
    figure.savefig(output, dpi=110)


if __name__ == "__main__":
    main(*sys.argv[1:])
