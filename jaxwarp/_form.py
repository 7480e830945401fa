"""The static description of a sampling operation: its rule, layout and orders.

Layouts: ``image`` is (N, C, *spatial) or, with ``channels_last``, (N, *spatial, C);
``values`` likewise with the grid's output axes *out; ``grid`` is (N, *out, n) listed
(x, y, z); ``scale`` is (N, *out, M) for M terms; ``window`` is (N, *out, n, 2) with
ones for output axes that share it: the first index and the size along each axis, in
array order.
"""

from typing import Any, NamedTuple

from jax.sharding import PartitionSpec

from jaxwarp import _coords
from jaxwarp._taps import Rule


def are_known(*sizes: Any) -> bool:
    """Tell whether sizes are numbers, not symbols, and nothing is empty."""
    return all(isinstance(size, int) for size in sizes) and 0 not in sizes


class Step(NamedTuple):
    """One partial derivative: of which term, in which coordinate, and its new order."""

    term: int
    coordinate: int
    order: tuple[int, ...]


class Form(NamedTuple):
    """The static part of an operation; hashable, one program is compiled for each.

    Attributes:
        rule: How coordinates turn into taps.
        channels_last: The layout of image and values.
        spatial: The image's sizes, in array order.
        dtype: The dtype of image and values.
        orders: For each term, the order of the derivative along each axis, in array order.
    """

    rule: Rule
    channels_last: bool
    spatial: tuple[Any, ...]
    dtype: Any
    orders: tuple[tuple[int, ...], ...]

    @property
    def channel_axis(self) -> int:
        """Where the channels are, in image and values alike."""
        return -1 if self.channels_last else 1

    def result(self, op: str, operands: dict[str, Any]) -> tuple[tuple[Any, ...], Any]:
        """Return the shape and dtype of an operation's result."""
        grid = operands["grid"]
        if op == "correlate":
            return (*grid.shape[:-1], len(self.orders)), grid.dtype
        source = operands["image" if op == "sample" else "values"]
        between = grid.shape[1:-1] if op == "sample" else self.spatial
        channels = source.shape[self.channel_axis]
        layout = (*between, channels) if self.channels_last else (channels, *between)
        return (grid.shape[0], *layout), self.dtype

    def result_spec(self, op: str, specs: dict[str, PartitionSpec]) -> PartitionSpec:
        """Say how a result lies on a mesh: each of its axes as in the operand it comes from."""
        source, grid = specs["image" if op == "sample" else "values"], specs["grid"]
        batch, channels = source[0] or grid[0], source[self.channel_axis]
        between = grid[1:-1] if op == "sample" else (None,) * len(self.spatial)
        layout = (*between, channels) if self.channels_last else (channels, *between)
        return PartitionSpec(batch, *layout)

    def differentiate(self) -> list[Step]:
        """List the terms of the derivative with respect to the grid."""
        n = len(self.spatial)
        return [
            Step(term, coordinate, (*order[:axis], order[axis] + 1, *order[axis + 1 :]))
            for term, order in enumerate(self.orders)
            for coordinate, axis in enumerate(_coords.xyz_order(range(n)))
            if order[axis] < self.rule.degree
        ]
