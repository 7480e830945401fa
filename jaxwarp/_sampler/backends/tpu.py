"""The form for TPUs: one image at a time, and the neighbours of a point as one row.

A TPU gathers and scatters row by row in a serial loop, at a cost that hardly depends on what
a row holds, as long as all of it lies beside each other and the image in fast memory. With
few channels a row has room for all neighbours of a point; with many, a row is one pixel. Of
small images some are taken at a time: their blocks are the rows of one table.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.layout import Layout as MemoryLayout
from jax.experimental.layout import with_layout_constraint
from jax.typing import DTypeLike

from jaxwarp._layout import Layout
from jaxwarp._sampler.backends.blocks import Block, Cut, cut_of, fold_blocks, merge, split
from jaxwarp._sampler.backends.portable import chained_scales
from jaxwarp._sampler.neighbours import Points, chain_factors, locate, times
from jaxwarp._sampler.spec import SampleSpec, Shaped
from jaxwarp._sharding import zeros

# A row of so many numbers is one row of the machine's registers, filled or not.
_LANES = 128
# So many numbers, rows filled up, may lie in fast memory at once.
_MAX_NUMBERS = 2**24
# Images are small that have fewer blocks and points: so many are one turn's work.
_TURN = 2**14

_Operands = Mapping[str, jax.Array]


class _Table(NamedTuple):
    """The blocks of some images, as the rows of one table.

    Attributes:
        cut: How each image is cut.
        images: How many there are.
        blocks: How many blocks each has.
        spread: Whether the compiler may spread images or points over devices.
    """

    cut: Cut
    images: int
    blocks: int
    spread: bool

    @property
    def several(self) -> tuple[int, ...]:
        """The axis of the images: none for one, which XLA would not see through."""
        return (self.images,) if self.images > 1 else ()

    def row_of(self, block: Block) -> jax.Array:
        """Number the rows of all images' points, which are one behind the other."""
        if self.images == 1:
            return block.number[0]
        first = self.blocks * jnp.arange(self.images, dtype=jnp.int32)
        return (block.number.reshape(self.images, -1) + first[:, None]).reshape(-1)


_Some = Callable[[_Operands, SampleSpec, _Table], jax.Array]


def supports(op: str, operands: Mapping[str, Shaped], spec: SampleSpec) -> bool:
    """Tell whether all sizes are known and a row holds more than a pixel."""
    source = operands["values" if op == "splat" else "image"]
    if not all(isinstance(n, int) for n in (*source.shape, *operands["grid"].shape, *spec.spatial)):
        return False
    cut = _cut(spec.layout.channels(source.shape), spec)
    filled = 0 not in (*source.shape, *operands["grid"].shape) and cut is not None
    return filled and not ("window" in operands and any(axis.joined for axis in cut or ()))


def sample(operands: _Operands, spec: SampleSpec) -> jax.Array:
    """Gather a row for every point, and weigh its pixels."""
    return _compute("sample", operands, spec)


def splat(operands: _Operands, spec: SampleSpec) -> jax.Array:
    """Add a row for every point, and then what lies upon each other."""
    return _compute("splat", operands, spec)


def correlate(operands: _Operands, spec: SampleSpec) -> jax.Array:
    """Gather a row for every point, and dot its pixels with the values."""
    return _compute("correlate", operands, spec)


def spread(op: str, operands: _Operands, spec: SampleSpec, devices: int) -> jax.Array:
    """Compute for several devices that the compiler spreads the program over.

    It would not cut a loop over images. So there are as many groups of images as devices may
    have one each of, or more if they are small, and one loop for all groups: a turn takes an
    image of each, side by side along an axis that can be cut.
    """
    batch = operands["grid"].shape[0]
    groups = math.gcd(batch, devices)
    groups *= _images_at_a_time(batch // groups, op, operands, spec)
    grouped = {n: x.reshape(groups, batch // groups, *x.shape[1:]) for n, x in operands.items()}
    found = jax.vmap(lambda group: _compute(op, group, spec, spread=True))(grouped)
    return found.reshape(batch, *found.shape[2:])


def _compute(op: str, operands: _Operands, spec: SampleSpec, spread: bool = False) -> jax.Array:
    """Compute image by image, or some small ones at a time."""
    batch, cut = operands["grid"].shape[0], _cut_of_call(op, operands, spec)
    images = 1 if spread else _images_at_a_time(batch, op, operands, spec)
    table = _Table(cut, images, _blocks(cut, spec), spread)
    first = spec._replace(layout=Layout(channels_last=False))
    lined_up = _lined_up(operands, spec, table)
    found = lax.map(lambda some: _OPERATIONS[op](some, first, table), lined_up)
    return _arranged(op, found, operands, spec, images)


def _images_at_a_time(batch: int, op: str, operands: _Operands, spec: SampleSpec) -> int:
    """Return how many of so many images are small enough for one turn of the loop."""
    blocks = _blocks(_cut_of_call(op, operands, spec), spec)
    most = _TURN // max(blocks, math.prod(operands["grid"].shape[1:-1]))
    return max(n for n in range(1, batch + 1) if batch % n == 0 and n <= max(most, 1))


def _lined_up(operands: _Operands, spec: SampleSpec, table: _Table) -> _Operands:
    """Make everything (turns, ..., points): what a row of registers holds are points.

    Those of a turn's images are one behind the other; its images are (turns, C, images, ...),
    or (turns, C, ...) if it has one.
    """
    out = operands["grid"].shape[1:-1]
    found = dict(operands)
    for name in found.keys() & {"image", "values"}:
        found[name] = jnp.moveaxis(spec.layout.channels_to_end(found[name]), -1, 1)
    for name in found.keys() & {"grid", "scale"}:
        found[name] = jnp.moveaxis(found[name], -1, 1)
    if "window" in found:
        window = jnp.moveaxis(found["window"], (-2, -1), (1, 2))
        found["window"] = jnp.broadcast_to(window, (*window.shape[:3], *out))
    for name, x in found.items():
        between = spec.spatial if name == "image" else out
        kept = x.ndim - len(between)
        turns = jnp.moveaxis(x.reshape(-1, table.images, *x.shape[1:]), 1, kept)
        merged = (*table.several, *between) if name == "image" else (table.images * math.prod(out),)
        found[name] = turns.reshape(*turns.shape[:kept], *merged)
    return found


def _arranged(
    op: str, x: jax.Array, operands: _Operands, spec: SampleSpec, images: int
) -> jax.Array:
    """Bring results (turns, C or terms, images, ...) into the layout."""
    shape, _ = spec.result(op, operands)
    between = shape[1:-1] if op == "correlate" else spec.layout.spatial(shape)
    x = jnp.moveaxis(x.reshape(*x.shape[:2], images, *between), 2, 1)
    x = jnp.moveaxis(x.reshape(shape[0], -1, *between), 1, -1)
    return x if op == "correlate" else spec.layout.channels_from_end(x)


def _blocks(cut: Cut, spec: SampleSpec) -> int:
    """Count the blocks of an image."""
    return math.prod((*spec.spatial[: -len(cut)], *cut.counts))


def _cut_of_call(op: str, operands: _Operands, spec: SampleSpec) -> Cut:
    cut = _cut(spec.layout.channels(operands["values" if op == "splat" else "image"].shape), spec)
    assert cut is not None
    return cut


def _cut(channels: int, spec: SampleSpec) -> Cut | None:
    """Cut along as many axes as a row holds; None where it holds no more than a pixel."""
    for axes in range(len(spec.spatial), 0, -1):
        cut = cut_of(spec, axes)
        if 0 < cut.area * channels <= _LANES and _blocks(cut, spec) * _LANES <= _MAX_NUMBERS:
            return cut
    return None


# Some images: (C, images, *spatial), or (C, *spatial) of one; their values (C, points) ----------


def _sample_some(operands: _Operands, spec: SampleSpec, table: _Table) -> jax.Array:
    grid, points, scales = _located(operands, spec)
    rows = _rows(operands["image"], table)

    def visit(total: jax.Array, block: Block) -> jax.Array:
        read = _read(rows, block, table, grid.dtype)
        return total + (read * block.weigh(scales)).sum(0)

    shape = (operands["image"].shape[0], *grid.shape[1:-1])
    total = fold_blocks(visit, zeros(shape, grid), points, spec, table.cut, pixel_axis=0)
    return total.astype(spec.dtype)


def _correlate_some(operands: _Operands, spec: SampleSpec, table: _Table) -> jax.Array:
    grid, points, _ = _located(operands, spec)
    rows, values = _rows(operands["image"], table), operands["values"].astype(grid.dtype)

    def visit(terms: tuple[jax.Array, ...], block: Block) -> tuple[jax.Array, ...]:
        dots = (_read(rows, block, table, grid.dtype) * values[None]).sum(1, keepdims=True)
        added = [(dots * weights).sum(0) for weights in block.weights]
        return tuple(t + more for t, more in zip(terms, added, strict=True))

    terms = (zeros(grid.shape[:-1], grid),) * len(spec.orders)
    terms = fold_blocks(visit, terms, points, spec, table.cut, pixel_axis=0)
    return jnp.concatenate(times(terms, chain_factors(grid, points, spec)))


def _splat_some(operands: _Operands, spec: SampleSpec, table: _Table) -> jax.Array:
    grid, points, scales = _located(operands, spec)
    values, cut = operands["values"].astype(grid.dtype), table.cut
    count, channels = table.images * table.blocks, values.shape[0]
    # Devices that share the points could not sort them without telling each other all of them.
    is_sorted = not table.spread

    def visit(image: jax.Array, block: Block) -> jax.Array:
        added = jnp.where(block.inside, values[None] * block.weigh(scales), 0)
        at = jnp.where(block.inside[:, 0].any(0), table.row_of(block), count)
        rows = _in_lines(added.reshape(-1, at.size)).T
        at, rows = _sorted(at, rows) if is_sorted else (at, rows)
        return image.at[at].add(
            rows, mode="drop", wrap_negative_indices=False, indices_are_sorted=is_sorted
        )

    rows = zeros((count, cut.area * channels), grid)
    rows = fold_blocks(visit, rows, points, spec, cut, pixel_axis=0)
    shape = (channels, *table.several, *spec.spatial[: -len(cut)], *cut.counts)
    turned = _turned(rows).reshape(cut.area, *shape)
    return merge(list(turned), cut).astype(spec.dtype)


_OPERATIONS: dict[str, _Some] = {
    "sample": _sample_some,
    "splat": _splat_some,
    "correlate": _correlate_some,
}


def _located(
    operands: _Operands, spec: SampleSpec
) -> tuple[jax.Array, Points, tuple[jax.Array, ...] | None]:
    """Return the grid, points and scales, as `locate` knows them: in a batch of one."""
    names = operands.keys() & {"grid", "window", "scale"}
    batched = {name: jnp.moveaxis(operands[name], -1, 0)[None] for name in names}
    points = locate(batched["grid"], batched.get("window"), spec)
    return batched["grid"], points, chained_scales(batched, points, spec)


# Rows -------------------------------------------------------------------------


def _rows(images: jax.Array, table: _Table) -> jax.Array:
    """Turn images into their blocks (rows, area * C)."""
    pixels = split(images, table.cut)
    return jnp.concatenate([x.reshape(images.shape[0], -1) for x in pixels]).T


def _read(rows: jax.Array, block: Block, table: _Table, dtype: DTypeLike) -> jax.Array:
    """Gather pixels (area, C, points); what is outside reads zero, whatever is there."""
    at = table.row_of(block)
    read = rows.at[at].get(mode="promise_in_bounds", wrap_negative_indices=False)
    turned = _turned(read).reshape(table.cut.area, -1, read.shape[0])
    return jnp.where(block.inside, turned.astype(dtype), 0)


def _turned(rows: jax.Array) -> jax.Array:
    """Return rows' columns, each in one line."""
    return lax.optimization_barrier(_in_lines(rows.T))


def _in_lines(columns: jax.Array) -> jax.Array:
    """Say that each column of some rows lies in one line.

    If it were not said, XLA would leave the rows as they are, and all that is computed from
    them or that they are computed from, too: a few numbers each, filled up to a whole row of
    registers.
    """
    return with_layout_constraint(columns, MemoryLayout((0, 1)))


def _sorted(at: jax.Array, rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sort rows by where they are to be added.

    XLA sorts them anyway, but then reads them in that order in a loop of its own kind, which
    takes four times the bundles of a gather. The barrier keeps it from finding that loop again.
    """
    # To be stable takes one operand more, and nearly twice the time to compile.
    order = jnp.arange(at.size, dtype=jnp.int32)
    at, order = lax.sort((at, order), num_keys=1, is_stable=False)
    rows = rows.at[order].get(mode="promise_in_bounds", wrap_negative_indices=False)
    return at, lax.optimization_barrier(rows)
