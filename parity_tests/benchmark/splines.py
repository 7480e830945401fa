"""Rows of thin-plate splines: grids from free and from fixed control points, next to torch's.

Torch has no spline; what stands for it is what its users write, a linear solve and the matrix of
kernel values from `torch.cdist` times the weights, and for fixed points one dense matrix.
"""

import importlib
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F

import jaxwarp
from parity_tests.benchmark._machine import installed
from parity_tests.benchmark._timing import Program, Row
from parity_tests.harness import torch_side

SIZES = ((512, 512), (1024, 1024))
COUNTS = (16, 64, 256, 1024)
# Torch holds several matrices (pixels, control points) at once, and kornia twice as many.
LARGEST_MATRIX = 1.1e9
LARGEST_FOR_KORNIA = 0.3e9


def rows() -> Iterator[Row]:
    """Yield free points forward and with gradients in both ends, then fixed points."""
    for kind in ("forward", "forward+backward"):
        for size in SIZES:
            for count in COUNTS:
                yield free(kind, size, count)
    for size in SIZES:
        for count in COUNTS:
            if _matrix_bytes(size, count) < LARGEST_MATRIX:
                yield fixed(size, count)


def _matrix_bytes(size: tuple[int, int], count: int) -> int:
    return 4 * size[0] * size[1] * count


def _operands(count: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    target = random.uniform(-1, 1, (1, count, 2)).astype(np.float32)
    return target, target + random.normal(0, 0.05, target.shape).astype(np.float32)


def free(kind: str, size: tuple[int, int], count: int) -> Row:
    """Make the row of points that change with every call, in one direction."""
    operands = _operands(count)
    full = (1, 1, *size)
    calls: dict[str, Callable[[], object]] = {}
    peers: dict[str, Callable[[], object]] = {}
    note = "torch: a solve, and cdist times the weights; left out where it would take gigabytes"
    if _matrix_bytes(size, count) < LARGEST_MATRIX:
        calls["torch"] = _torch_call(_torch_grid, kind, size, *operands)
        if installed("kornia") and _matrix_bytes(size, count) < LARGEST_FOR_KORNIA:
            peers["kornia"] = _torch_call(_kornia_grid(), kind, size, *operands)

    def grid(target: jax.Array, source: jax.Array) -> jax.Array:
        return jaxwarp.tps_grid(target, source, full)

    f = grid if kind == "forward" else _with_gradients(grid)
    calls["jaxwarp"] = Program(f, *map(jnp.asarray, operands))
    name = f"{count} points, {size[0]}x{size[1]}"
    return Row(f"splines, free points: {kind}", name, calls, note, peers=peers, quick=count == 16)


def _with_gradients(f: Callable[..., jax.Array]) -> Callable[..., object]:
    def squares(*operands: jax.Array) -> jax.Array:
        return jnp.sum(f(*operands) ** 2)

    return jax.value_and_grad(squares, (0, 1))


def _torch_call(
    grid: Callable[..., torch.Tensor], kind: str, size: tuple[int, int], *arrays: np.ndarray
) -> Callable[[], object]:
    operands = [torch_side.tensor(x).requires_grad_(kind != "forward") for x in arrays]
    base = torch_side.tensor(_base(size))
    if kind == "forward":
        return lambda: grid(base, *operands)

    def forward_and_backward() -> object:
        loss = (grid(base, *operands) ** 2).sum()
        return loss, *torch.autograd.grad(loss, operands)

    return forward_and_backward


def _base(size: tuple[int, int]) -> np.ndarray:
    return F.affine_grid(torch.eye(2, 3)[None], [1, 1, *size], False).reshape(1, -1, 2).numpy()


def _torch_grid(base: torch.Tensor, target: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """Return the points (1, P, 2) that the spline maps the points ``base`` (1, P, 2) to."""

    def rows_of(points: torch.Tensor) -> torch.Tensor:
        r = torch.cdist(points, target)
        apart = r > 0
        bend = torch.where(apart, r * r * torch.where(apart, r, 1).log(), 0)
        return torch.cat([bend, torch.ones_like(points[..., :1]), points], dim=2)

    count = target.shape[1]
    top = rows_of(target)
    affine = top[:, :, count:].transpose(1, 2)
    corner = torch.zeros(1, 3, 3, dtype=top.dtype, device=top.device)
    system = torch.cat([top, torch.cat([affine, corner], dim=2)], dim=1)
    weights = torch.linalg.solve(system, F.pad(source, (0, 0, 0, 3)))
    return rows_of(base) @ weights


def _kornia_grid() -> Callable[..., torch.Tensor]:
    transform = importlib.import_module("kornia.geometry.transform")

    def grid(base: torch.Tensor, target: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        return transform.warp_points_tps(base, source, *transform.get_tps_transform(target, source))

    return grid


def fixed(size: tuple[int, int], count: int) -> Row:
    """Make the row of target points that are known beforehand."""
    target, source = _operands(count)
    operator = jaxwarp.tps_operator(target, (1, 1, *size))
    base, matrix, points = (torch_side.tensor(np.asarray(x)) for x in jax.tree.leaves(operator))
    moved = torch_side.tensor(source)

    def dense() -> torch.Tensor:
        return base + (matrix @ (moved - points)).reshape(base.shape)

    calls = {
        "torch": dense,
        "jaxwarp": Program(
            lambda operator, source: operator(source), operator, jnp.asarray(source)
        ),
    }
    name = f"{count} points, {size[0]}x{size[1]}"
    note = "torch: the same matrix times the same displacement"
    return Row("splines, fixed points: forward", name, calls, note, quick=count == 16)
