"""Rows of patches: objects warped in their images, next to torch's loop over the objects."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch

import jaxwarp
from parity_tests.benchmark._timing import Program, Row
from parity_tests.harness import patches_torch


class Scene(NamedTuple):
    """Images (N, C, H, W), and objects whose boxes have sides of a quarter of ``side`` up."""

    shape: tuple[int, int, int, int]
    objects: int
    side: int

    def __str__(self) -> str:
        """Describe the scene."""
        size = "x".join(map(str, self.shape))
        return f"{self.objects} objects of up to {self.side} pixels in {size}"


SCENES = (Scene((1, 3, 64, 64), 10, 32), Scene((8, 3, 512, 512), 64, 128))
ORDERS = ("sequential", "layered")


def rows() -> Iterator[Row]:
    """Yield both scenes in both orders, with max_box and (the small one) without."""
    for direction in ("forward", "forward+backward"):
        for scene in SCENES:
            for order in ORDERS:
                yield row(scene, direction, order, (scene.side, scene.side))
        yield row(SCENES[0], direction, ORDERS[0], None)


def row(scene: Scene, direction: str, order: str, max_box: tuple[int, int] | None) -> Row:
    """Make a scene's row in one direction."""
    img, boxes, theta, obj_to_img = _operands(scene)
    warp = partial(jaxwarp.patch_affine, box_format="yxyx", max_box=max_box, order=order)
    loop = partial(_loop, img, boxes.tolist(), theta, obj_to_img.tolist(), order)
    f, theirs = _forward(warp), loop
    if direction != "forward":
        f, theirs = _with_gradients(warp), partial(loop, gradients=True)
    program = Program(f, *map(jnp.asarray, (img, boxes, theta, obj_to_img)))
    name = f"{scene}, {order}" + ("" if max_box else ", no max_box")
    note = "torch: a loop over the objects, out of place"
    return Row(f"patches: {direction}", name, {"torch": theirs, "jaxwarp": program}, note)


def _operands(scene: Scene) -> tuple[np.ndarray, ...]:
    random = np.random.default_rng(0)
    batch, _, *spatial = scene.shape
    size = random.integers(scene.side // 4, scene.side + 1, (scene.objects, 2))
    first = random.integers(0, np.array(spatial) - size + 1)
    theta = np.eye(2, 3) + random.normal(0, 0.2, (scene.objects, 2, 3))
    return (
        random.standard_normal(scene.shape, dtype=np.float32),
        np.concatenate([first, first + size], axis=1).astype(np.int32),
        theta.astype(np.float32),
        random.integers(0, batch, scene.objects).astype(np.int32),
    )


def _forward(warp: Callable[..., jax.Array]) -> Callable[..., object]:
    # A function of its own for each row, or jit would give one the program of another.
    return lambda *operands: warp(*operands)


def _with_gradients(warp: Callable[..., jax.Array]) -> Callable[..., object]:
    def loss(*operands: jax.Array) -> jax.Array:
        return jnp.sum(warp(*operands) ** 2)

    return jax.value_and_grad(loss, (0, 2))


def _loop(
    img: np.ndarray,
    boxes: list[list[int]],
    theta: np.ndarray,
    obj_to_img: list[int],
    order: str,
    gradients: bool = False,
) -> object:
    tensors = [torch.from_numpy(x).requires_grad_(gradients) for x in (img, theta)]
    out = patches_torch.patch_affine(tensors[0], boxes, tensors[1], obj_to_img, order=order)
    if not gradients:
        return out
    loss = (out**2).sum()
    return loss, *torch.autograd.grad(loss, tensors)
