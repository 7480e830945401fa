"""The static description of a sampling operation: its rule, layout and orders.

Layouts: ``image`` is (N, C, *spatial) or, with ``channels_last``, (N, *spatial, C);
``values`` likewise with the grid's output axes *out; ``grid`` is (N, *out, n) listed
(x, y, z); ``scale`` is (N, *out, M) for M terms; ``window`` is (N, *out, n, 2) with
ones for output axes that share it: the first index and the size along each axis, in
array order.
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec
from jax.typing import DTypeLike

from jaxwarp import _coords
from jaxwarp._coords import Dim
from jaxwarp._layout import Layout
from jaxwarp._sampler.interpolation import KERNELS, Kernel
from jaxwarp._sampler.rules import AxisRule, Rule


class Shaped(Protocol):
    """What has a shape and a dtype, as an array has, and what only stands for one."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...


class Step(NamedTuple):
    """One partial derivative: of which term, in which coordinate, and its new order."""

    term: int
    coordinate: int
    order: tuple[int, ...]


class SampleSpec(NamedTuple):
    """The static part of an operation; hashable, one program is compiled for each.

    Attributes:
        rule: How coordinates turn into taps.
        layout: Where the channels of image and values are.
        spatial: The image's sizes, in array order.
        dtype: The dtype of image and values.
        orders: For each term, the order of the derivative along each axis, in array order.
    """

    rule: Rule
    layout: Layout
    spatial: tuple[Dim, ...]
    dtype: np.dtype
    orders: tuple[tuple[int, ...], ...]

    @classmethod
    def plain(
        cls, rule: Rule, layout: Layout, spatial: tuple[Dim, ...], dtype: DTypeLike
    ) -> "SampleSpec":
        """Describe sampling itself, with no derivative; raise if a padding fits no axis."""
        rule.padding_modes(len(spatial))
        return cls(rule, layout, spatial, jnp.dtype(dtype), ((0,) * len(spatial),))

    @property
    def kernel(self) -> Kernel:
        """How the pixels around a position are weighed, along every axis."""
        return KERNELS[self.rule.mode]

    def along(self, axis: int) -> AxisRule:
        """Return the rule along one axis, in array order."""
        mode, _, align_corners, normalized = self.rule
        padding = self.rule.padding_modes(len(self.spatial))[axis]
        return AxisRule(mode, padding, align_corners, normalized)

    def result(self, op: str, operands: Mapping[str, Shaped]) -> tuple[tuple[Dim, ...], np.dtype]:
        """Return the shape and dtype of an operation's result."""
        grid = operands["grid"]
        if op == "correlate":
            return (*grid.shape[:-1], len(self.orders)), grid.dtype
        source = operands["image" if op == "sample" else "values"]
        between = grid.shape[1:-1] if op == "sample" else self.spatial
        channels = self.layout.channels(source.shape)
        return self.layout.arrange(grid.shape[0], channels, between), self.dtype

    def result_spec(self, op: str, specs: dict[str, PartitionSpec]) -> PartitionSpec:
        """Say how a result lies on a mesh: each of its axes as in the operand it comes from."""
        source, grid = specs["image" if op == "sample" else "values"], specs["grid"]
        between = grid[1:-1] if op == "sample" else (None,) * len(self.spatial)
        channels = source[self.layout.channel_axis]
        return PartitionSpec(*self.layout.arrange(source[0] or grid[0], channels, between))

    def differentiate(self) -> list[Step]:
        """List the terms of the derivative with respect to the grid."""
        n = len(self.spatial)
        return [
            Step(term, coordinate, (*order[:axis], order[axis] + 1, *order[axis + 1 :]))
            for term, order in enumerate(self.orders)
            for coordinate, axis in enumerate(_coords.xyz_order(range(n)))
            if order[axis] < self.kernel.degree
        ]
