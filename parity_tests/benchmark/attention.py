"""Rows of deformable attention: its core, next to torch's form of it in transformers.

Both read the same points of the same feature maps, weigh them and add them up. Torch's form has
its heads in the batch and its channels first, as `grid_sample` there needs them; here they are
where the linear layers before and after leave them.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F

import jaxwarp
from parity_tests.benchmark._timing import Program, Row


class Attention(NamedTuple):
    """How many queries look at how many points of which feature maps (N, H, W, heads, C)."""

    batch: int
    sizes: tuple[tuple[int, int], ...]
    queries: int
    heads: int = 8
    channels: int = 32
    points: int = 4

    def __str__(self) -> str:
        """Describe the row."""
        sizes = ", ".join(f"{h}x{w}" for h, w in self.sizes)
        heads = f"{self.heads} heads of {self.channels} channels"
        return f"{self.batch} x {self.queries} queries, {heads}, maps {sizes}"


# A decoder's queries on the four maps of a picture of 512 x 512; an encoder's on its own two.
ATTENTIONS = (
    Attention(2, ((64, 64), (32, 32), (16, 16), (8, 8)), 300),
    Attention(2, ((32, 32), (16, 16)), 32 * 32 + 16 * 16),
)


def rows() -> Iterator[Row]:
    """Yield both in both directions."""
    for direction in ("forward", "forward+backward"):
        for attention in ATTENTIONS:
            yield row(attention, direction)


def row(attention: Attention, direction: str) -> Row:
    """Make a row in one direction."""
    maps, where, weights = _operands(attention)
    tensors = [torch.from_numpy(x) for x in (*maps, where, weights)]
    f, theirs = _forward(len(maps)), partial(_torch, tensors)
    if direction != "forward":
        f, theirs = _with_gradients(f), partial(_torch_with_gradients, tensors)
    program = Program(f, *map(jnp.asarray, (*maps, where, weights)))
    note = (
        "torch: as transformers writes it, without its CUDA kernel. jaxwarp: its program asks for "
        "the memory under temp MB in one piece; where malloc gives that back to the system after "
        "each call, most of the time goes into fetching it anew, and a second run may differ much."
    )
    name = f"attention: {direction}"
    return Row(name, str(attention), {"torch": theirs, "jaxwarp": program}, note)


def _operands(a: Attention) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    maps = [
        random.standard_normal((a.batch, *size, a.heads, a.channels), dtype=np.float32)
        for size in a.sizes
    ]
    # Around a reference point, and some of them outside.
    shape = (a.batch, a.queries, a.heads, len(a.sizes), a.points)
    reference = random.uniform(0, 1, (a.batch, a.queries, 1, 1, 1, 2))
    where = reference + random.normal(0, 0.1, (*shape, 2))
    weights = random.uniform(0, 1, shape)
    return maps, where.astype(np.float32), weights.astype(np.float32)


def _forward(levels: int) -> Callable[..., jax.Array]:
    sample = jax.vmap(partial(jaxwarp.grid_sample, channel_axis=-1), (3, 2), 2)

    def attend(*operands: jax.Array) -> jax.Array:
        where, weights = operands[levels:]
        seen = [
            jnp.einsum("nqhp,nqhpc->nqhc", weights[:, :, :, i], sample(x, grid))
            for i, x in enumerate(operands[:levels])
            for grid in [2 * where[:, :, :, i] - 1]
        ]
        return sum(seen[1:], seen[0])

    return attend


def _with_gradients(f: Callable[..., jax.Array]) -> Callable[..., object]:
    def loss(*operands: jax.Array) -> jax.Array:
        return jnp.sum(f(*operands) ** 2)

    def both(*operands: jax.Array) -> object:
        return jax.value_and_grad(loss, tuple(range(len(operands))))(*operands)

    return both


def _torch(tensors: list[torch.Tensor]) -> torch.Tensor:
    *maps, where, weights = tensors
    batch, _, heads = weights.shape[:3]
    read = []
    for level, x in enumerate(maps):
        _, height, width, _, channels = x.shape
        image = x.permute(0, 3, 4, 1, 2).reshape(batch * heads, channels, height, width)
        grid = (2 * where[:, :, :, level] - 1).transpose(1, 2).flatten(0, 1)
        read.append(F.grid_sample(image, grid, align_corners=False))
    flat = weights.transpose(1, 2).flatten(0, 1).flatten(2)  # (N heads) Q points
    seen = (torch.stack(read, dim=-2).flatten(-2) * flat[:, None]).sum(-1)
    return seen.unflatten(0, (batch, heads)).permute(0, 3, 1, 2).contiguous()


def _torch_with_gradients(tensors: list[torch.Tensor]) -> object:
    operands = [x.requires_grad_() for x in tensors]
    loss = (_torch(operands) ** 2).sum()
    return loss, *torch.autograd.grad(loss, operands)
