"""Rows of code that users brought along, as the guide moves it: torch's original, and ours."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from parity_tests import test_guide
from parity_tests.benchmark._timing import Program, Row

ATTENTION, PATCHES = "Deformable DETR's attention", "The forum's patches"
# A feature pyramid as detectors have it, and what the forum's question was asked for.
LEVELS, HEADS, CHANNELS, QUERIES, POINTS = ((40, 40), (20, 20), (10, 10), (5, 5)), 8, 32, 300, 4
BOXES, SIDE = 10, 64


def rows() -> Iterator[Row]:
    """Yield both moves, with the gradients of all operands."""
    rng = np.random.default_rng(0)
    yield row(ATTENTION, "attend", {"levels": LEVELS}, *_pyramid(rng))
    corner, size = rng.integers(0, SIDE // 2, (2, BOXES, 2))
    objects = {
        "boxes": np.concatenate([corner, corner + np.maximum(size, SIDE // 8)], 1),
        "image_of": np.zeros(BOXES, int),
    }
    image = rng.random((1, 3, SIDE, SIDE), dtype=np.float32)
    theta = np.eye(2, 3) + rng.uniform(-0.2, 0.2, (BOXES, 2, 3))
    yield row(PATCHES, "warp_objects", objects, image, theta.astype(np.float32))


def row(title: str, function: str, names: dict[str, Any], *operands: np.ndarray) -> Row:
    """Make the row of a function that both columns of a section define."""
    theirs, ours = (_function(title, function, names, column) for column in (1, 2))
    program = Program(
        jax.value_and_grad(lambda *x: (ours(*x) ** 2).sum(), tuple(range(len(operands)))),
        *map(jnp.asarray, operands),
    )
    contenders = {"torch": lambda: _with_gradients(theirs, operands), "jaxwarp": program}
    return Row("moves: forward+backward", title, contenders)


def _pyramid(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    count = sum(h * w for h, w in LEVELS)
    points = (2, QUERIES, HEADS, len(LEVELS), POINTS)
    value = rng.normal(size=(2, count, HEADS, CHANNELS))
    where, weight = rng.uniform(-0.1, 1.1, (*points, 2)), rng.random(points)
    return tuple(x.astype(np.float32) for x in (value, where, weight))


def _function(title: str, name: str, names: dict[str, Any], column: int) -> Callable[..., Any]:
    space: dict[str, Any] = {"__name__": title}
    for step in test_guide.SECTIONS[title]:
        exec(compile(step[column] or step[3], title, "exec"), space)
    space.update(names)
    return space[name]


def _with_gradients(f: Callable[..., torch.Tensor], operands: tuple[np.ndarray, ...]) -> Any:
    tensors = [torch.from_numpy(x).requires_grad_() for x in operands]
    return torch.autograd.grad((f(*tensors) ** 2).sum(), tensors)
