"""Random objects in random images, and the comparison of gradients on them."""

import jax
import jax.numpy as jnp
import numpy as np
import torch

MODES = ("nearest", "bilinear", "bicubic")
PADDINGS = ("zeros", "border", "reflection")
BATCH, CHANNELS, HEIGHT, WIDTH, OBJECTS = 3, 2, 9, 12, 8
# What the gradients of one scene may differ by, as a share of the largest: sums in float64.
GRADIENT = 1e-12


def scene(seed, objects=OBJECTS):
    """Return img, boxes (y1, x1, y2, x2), theta and obj_to_img of random objects.

    The boxes are of all kinds: overlapping, touching, reaching over the image, outside of it,
    empty, reversed, of one pixel, as large as the image.
    """
    rng = np.random.default_rng(seed)
    img = rng.normal(size=(BATCH, CHANNELS, HEIGHT, WIDTH))
    theta = np.eye(2, 3) + rng.normal(0, 0.5, (objects, 2, 3))
    first = rng.integers((-3, -3), (HEIGHT, WIDTH), (objects, 2))
    size = rng.integers(-2, (HEIGHT, WIDTH), (objects, 2))
    boxes = np.concatenate([first, first + size], axis=1)
    boxes[0] = 0, 0, HEIGHT, WIDTH
    boxes[1, 2:] = boxes[1, :2] + 1
    boxes[-1, :2] = boxes[-2, 2:]
    return img, boxes, theta, rng.integers(0, BATCH, objects)


def scenes(count):
    return [np.stack(x) for x in zip(*(scene(seed) for seed in range(count)), strict=True)]


def clipped(boxes):
    return np.clip(boxes, 0, [HEIGHT, WIDTH] * 2).tolist()


def to_xyxy(boxes):
    return boxes[..., [1, 0, 3, 2]]


def torch_gradients(f, *operands, cotangent):
    """Return f's value and the gradients of <value, cotangent> in all operands."""
    operands = [torch.tensor(x, requires_grad=True) for x in operands]
    value = f(*operands)
    torch.sum(value * torch.tensor(cotangent)).backward()
    zero = [torch.zeros_like(x) for x in operands]
    grads = [z if x.grad is None else x.grad for x, z in zip(operands, zero, strict=True)]
    return [x.detach().numpy() for x in (value, *grads)]


def jax_gradients(f, *operands, cotangent):
    value, pull = jax.vjp(f, *operands)
    return [value, *pull(jnp.asarray(cotangent))]


def check_loss_derivatives(f, *operands):
    """Compare forward and reverse mode, and their combinations, with finite differences.

    Of a loss, whose derivatives agree to rounding: closer than `harness.differences` asks.
    """
    operands = tuple(map(jnp.asarray, operands))
    rng = np.random.default_rng(0)
    step = tuple(jnp.asarray(rng.normal(size=x.shape)) for x in operands)
    every, tiny = tuple(range(len(operands))), 1e-6

    def loss(*x):
        return jnp.sum(jnp.sin(f(*x)))

    def dot(a, b):
        return sum(jnp.vdot(x, y) for x, y in zip(a, b, strict=True))

    grad = jax.grad(loss, every)

    @jax.jit
    def near(scale):
        moved = [x + scale * s for x, s in zip(operands, step, strict=True)]
        return jax.value_and_grad(loss, every)(*moved)

    (up, grad_up), (down, grad_down) = near(tiny), near(-tiny)
    slope, curve = jax.jit(lambda: jax.jvp(jax.value_and_grad(loss, every), operands, step)[1])()
    np.testing.assert_allclose(slope, (up - down) / (2 * tiny), rtol=1e-6)
    np.testing.assert_allclose(slope, dot(near(0.0)[1], step), rtol=1e-12)
    twice = jax.jit(jax.grad(lambda *x: dot(grad(*x), step), every))(*operands)
    for a, b, u, d in zip(curve, twice, grad_up, grad_down, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-11 * np.abs(b).max())
        np.testing.assert_allclose(a, (u - d) / (2 * tiny), rtol=0, atol=1e-6 * np.abs(b).max())


def assert_same(ours, theirs, names, value=1e-12):
    for name, a, b in zip(names, ours, theirs, strict=True):
        bound = value if name == "value" else GRADIENT * max(1, np.abs(b).max(initial=0))
        np.testing.assert_allclose(a, b, rtol=0, atol=bound, err_msg=name)
