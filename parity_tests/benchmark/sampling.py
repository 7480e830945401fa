"""Rows of `grid_sample` against torch's: a slightly turned and shaken view of random images."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F

import jaxwarp
from parity_tests.benchmark import _peers
from parity_tests.benchmark._timing import Program, Row
from parity_tests.harness import torch_side

DIRECTIONS = ("forward", "forward+backward")
GRIDS_GRADIENT = "grid's gradient"


@dataclass(frozen=True)
class Case:
    """What is sampled: an image of some shape, by a grid of the same size.

    ``zoom`` multiplies the grid: at 3 about eight points in nine (2-D) lie outside.
    """

    shape: tuple[int, ...]
    mode: str = "bilinear"
    padding: str = "zeros"
    zoom: float = 0.9
    points: int = 0  # a list of so many, instead of a grid of the image's size
    note: str = field(default="", compare=False)

    def __str__(self) -> str:
        size = "x".join(map(str, self.shape))
        padding = "" if self.padding == "zeros" else f" {self.padding}"
        return f"{size} {self.mode}{padding}{f' ({self.note})' if self.note else ''}"


TABLE = (
    Case((8, 3, 256, 256)),
    Case((4, 64, 64, 64)),
    Case((1, 1, 1024, 1024)),
    Case((2, 16, 128, 128)),
    Case((2, 4, 32, 48, 48)),
    Case((4, 3, 128, 128), "bicubic"),
)
MORE = (
    Case((8, 3, 256, 256), "nearest"),
    Case((2, 4, 32, 48, 48), "nearest"),
    *(
        Case(shape, padding="border", zoom=3.0, note="most points outside")
        for shape in ((8, 3, 256, 256), (4, 64, 64, 64), (1, 1, 1024, 1024))
    ),
)


# What a network meets beside the table: many small images, odd sizes and channel counts, other
# paddings, a list of points on a feature map.
FURTHER = (
    Case((32, 1, 28, 28)),
    Case((64, 3, 32, 32)),
    Case((16, 8, 96, 80), padding="border"),
    Case((6, 3, 180, 220), "nearest"),
    Case((5, 7, 61, 83), padding="reflection"),
    Case((2, 5, 33, 47, 21)),
    Case((3, 13, 97, 101), "bicubic", "border"),
    Case((4, 64, 64, 64), points=2048, note="2048 points"),
)
# torch's cost of the grid's gradient alone grows with the image (pytorch #64977).
FEW_POINTS = tuple(
    Case((1, 16, size, size), points=2048, note="2048 points") for size in (256, 1024)
)


def rows() -> Iterator[Row]:
    """Yield the table of shapes, other modes and the contended case, then what else is met."""
    for direction in DIRECTIONS:
        for case in TABLE:
            yield row(f"sampling: {direction}", case, direction)
        for case in MORE:
            yield row(f"sampling: {direction}", case, direction, quick=False)
    for direction in DIRECTIONS:
        for case in FURTHER:
            yield row(f"more sampling: {direction}", case, direction, quick=False)
    for case in FEW_POINTS:
        yield row("more sampling: the grid's gradient alone", case, GRIDS_GRADIENT, quick=False)


def row(group: str, case: Case, direction: str, name: str = "", quick: bool = True) -> Row:
    """Make a case's row in one direction."""
    image, grid, cotangent = operands(case)
    moved = {
        "forward": image.nbytes + cotangent.nbytes + grid.nbytes,
        "forward+backward": 2 * (image.nbytes + cotangent.nbytes + grid.nbytes),
        GRIDS_GRADIENT: image.nbytes + cotangent.nbytes + 2 * grid.nbytes,
    }
    return Row(
        group,
        name or str(case),
        contenders(case, direction, image, grid, cotangent),
        peers=_peer_programs(case, direction, image, grid, cotangent),
        values=cotangent.size,
        bytes_moved=moved[direction],
        quick=quick,
    )


def operands(case: Case) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make an image, a grid and a cotangent, channels first."""
    random = np.random.default_rng(0)
    batch, _, *spatial = case.shape
    image = random.standard_normal(case.shape, dtype=np.float32)
    cotangent = random.standard_normal(case.shape, dtype=np.float32)
    n = len(spatial)
    theta = case.zoom * np.eye(n, n + 1, dtype=np.float32)
    theta[0, 1], theta[1, 0] = 0.1, -0.1
    grid = F.affine_grid(torch.tensor(theta)[None], [1, 1, *spatial], align_corners=False).numpy()
    shaken = grid + 0.01 * random.standard_normal((batch, *spatial, n), dtype=np.float32)
    if case.points:
        shaken = random.uniform(-0.95, 0.95, (batch, 1, case.points, n)).astype(np.float32)
        cotangent = random.standard_normal((*case.shape[:2], 1, case.points), dtype=np.float32)
    return image, shaken, cotangent


def contenders(
    case: Case, direction: str, image: np.ndarray, grid: np.ndarray, cotangent: np.ndarray
) -> dict[str, Callable[[], object]]:
    """Return torch and jaxwarp in both layouts; each returns the result and the gradients."""
    options = (case.mode, case.padding, False)
    first, last = (
        partial(_jaxwarp, options=options, channel_axis=channel_axis) for channel_axis in (1, -1)
    )
    image_last, cotangent_last = np.moveaxis(image, 1, -1), np.moveaxis(cotangent, 1, -1)
    return {
        "torch": _torch_call(options, direction, image, grid, cotangent),
        "jaxwarp": program(first, direction, image, grid, cotangent),
        "jaxwarp channels last": program(last, direction, image_last, grid, cotangent_last),
    }


def program(f: Callable[..., jax.Array], direction: str, *arrays: np.ndarray) -> Program:
    """Compile ``f`` of image and grid, with its gradients if the direction says so."""
    image, grid, cotangent = map(jnp.asarray, arrays)
    if direction == "forward":
        return Program(f, image, grid)
    if direction == GRIDS_GRADIENT:
        return Program(lambda x, g, c: jax.vjp(lambda g: f(x, g), g)[1](c), image, grid, cotangent)
    return Program(partial(_with_gradients, f), image, grid, cotangent)


def _with_gradients(f, image, grid, cotangent):
    value, pull_back = jax.vjp(f, image, grid)
    return value, *pull_back(cotangent)


def _jaxwarp(image, grid, options, channel_axis):
    return jaxwarp.grid_sample(image, grid, *options, channel_axis=channel_axis)


def _torch_call(options, direction, *arrays) -> Callable[[], object]:
    image, grid, cotangent = map(torch_side.tensor, arrays)
    if direction == "forward":
        return lambda: F.grid_sample(image, grid, *options)
    grid.requires_grad_()
    if direction == GRIDS_GRADIENT:
        return lambda: torch.autograd.grad(F.grid_sample(image, grid, *options), grid, cotangent)
    image.requires_grad_()

    def forward_and_backward():
        value = F.grid_sample(image, grid, *options)
        return value, *torch.autograd.grad(value, (image, grid), cotangent)

    return forward_and_backward


def _peer_programs(case: Case, direction: str, *arrays: np.ndarray) -> dict[str, Program]:
    if (case.mode, case.padding) != ("bilinear", "zeros") or case in (*FURTHER, *FEW_POINTS):
        return {}
    return {
        name: program(sampler, direction, *arrays) for name, sampler in _peers.samplers().items()
    }
