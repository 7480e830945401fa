"""The programs that are compiled: the benchmark's, and what its peers make of the same."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

import jaxwarp
from parity_tests.benchmark import _peers, patches, sampling
from parity_tests.benchmark.sampling import DIRECTIONS, Case

# So many devices share the work in the rows about placement.
DEVICES = 4


@dataclass(frozen=True)
class Program:
    """A function with the shapes of its arguments, and where they lie.

    Attributes:
        group: The table that the row belongs to.
        name: What is computed.
        contender: Who computes it.
        direction: Forward, or forward+backward.
        f: The function.
        arguments: Its arguments' shapes and dtypes.
        points: How many points it samples, where that is what it does.
        specs: For several devices, over which of them every argument is spread.
    """

    group: str
    name: str
    contender: str
    direction: str
    f: Callable[..., object]
    arguments: tuple[jax.ShapeDtypeStruct, ...]
    points: int = 0
    specs: tuple[P, ...] = field(default=())

    def __str__(self) -> str:
        return ", ".join((self.name, self.contender, self.direction))


def programs() -> Iterator[Program]:
    """Yield all programs: sampling, then several devices, patches and splines."""
    for case in (*sampling.TABLE, sampling.MORE[0]):
        for direction in DIRECTIONS:
            yield from _samplers(case, direction)
    yield from _placements()
    yield from _patches()
    for direction in DIRECTIONS:
        yield _spline(direction)


# Sampling ---------------------------------------------------------------------


def _samplers(case: Case, direction: str) -> Iterator[Program]:
    options = (case.mode, case.padding, False)
    for contender, axis in {"jaxwarp": 1, "jaxwarp channels last": -1}.items():
        f = partial(_sample, options=options, channel_axis=axis)
        yield _sampler(case, direction, contender, f, axis)
    if (case.mode, case.padding) == ("bilinear", "zeros"):
        f = _peers.jax_scipy()
        yield _sampler(case, direction, "map_coordinates", f, 1)


def _sampler(
    case: Case, direction: str, contender: str, f: Callable[..., jax.Array], channel_axis: int
) -> Program:
    batch, _, *spatial = case.shape
    image = _arranged(case.shape, channel_axis)
    grid = _floats(batch, *spatial, len(spatial))
    points = grid.size // len(spatial)
    arguments = (image, grid) if direction == "forward" else (image, grid, image)
    g = f if direction == "forward" else partial(_with_gradients, f)
    return Program("sampling", str(case), contender, direction, g, arguments, points)


def _sample(
    image: jax.Array, grid: jax.Array, options: tuple[str, str, bool], channel_axis: int
) -> jax.Array:
    return jaxwarp.grid_sample(image, grid, *options, channel_axis=channel_axis)


def _with_gradients(
    f: Callable[..., jax.Array], image: jax.Array, grid: jax.Array, cotangent: jax.Array
) -> object:
    value, pull_back = jax.vjp(f, image, grid)
    return value, *pull_back(cotangent)


def _floats(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


# Several devices --------------------------------------------------------------


def _placements() -> Iterator[Program]:
    case = sampling.TABLE[0]
    everywhere = {
        "batch over four devices": (P("d"), P("d"), P("d")),
        "grid's rows over four devices": (P(), P(None, "d"), P(None, None, "d")),
    }
    for where, specs in everywhere.items():
        for direction in DIRECTIONS:
            (p, *_) = _samplers(case, direction)
            used = specs[: len(p.arguments)]
            yield Program("placement", f"{case}, {where}", p.contender, direction, p.f, p.arguments,
                          specs=used)  # fmt: skip


# Patches and splines ----------------------------------------------------------


def _patches() -> Iterator[Program]:
    scene = patches.SCENES[-1]
    bound = (scene.side, scene.side)
    for contender, axis in {"jaxwarp": 1, "jaxwarp channels last": -1}.items():
        options = {"max_box": bound, "channel_axis": axis}
        yield from _warps(str(scene), scene.shape, scene.objects, options, contender)
        yield from _pastes(str(scene), scene.shape, scene.objects, options, contender)
        # What is read of each object may be the whole image.
        image = (1, *scene.shape[1:])
        name = f"16 objects of any size in {'x'.join(map(str, image))}"
        yield from _warps(name, image, 16, {"channel_axis": axis}, contender)


def _warps(
    where: str, shape: Sequence[int], objects: int, options: dict[str, Any], contender: str
) -> Iterator[Program]:
    warp = partial(jaxwarp.patch_affine, box_format="yxyx", **options)
    image = _arranged(shape, options["channel_axis"])
    arguments = (image, _integers(objects, 4), _floats(objects, 2, 3), _integers(objects))
    yield from _with_directions(f"patch_affine, {where}", warp, arguments, contender)


def _pastes(
    where: str, shape: Sequence[int], objects: int, options: dict[str, Any], contender: str
) -> Iterator[Program]:
    stick, axis = partial(jaxwarp.paste, **options), options["channel_axis"]
    small = _arranged((objects, shape[1], 28, 28), axis)
    arguments = (_arranged(shape, axis), small, _floats(objects, 4), _integers(objects))
    yield from _with_directions(f"paste, {where}", stick, arguments, contender)


def _with_directions(
    name: str,
    f: Callable[..., jax.Array],
    arguments: tuple[jax.ShapeDtypeStruct, ...],
    contender: str,
) -> Iterator[Program]:
    for direction in DIRECTIONS:
        g = partial(_call, f) if direction == "forward" else partial(_loss_gradients, f)
        yield Program("patches", name, contender, direction, g, arguments)


def _arranged(shape: Sequence[int], channel_axis: int) -> jax.ShapeDtypeStruct:
    batch, channels, *spatial = shape
    return _floats(*(shape if channel_axis == 1 else (batch, *spatial, channels)))


def _integers(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.int32)


def _spline(direction: str, points: int = 64, size: int = 512) -> Program:
    f = partial(_tps_grid, size=(1, 1, size, size))
    if direction != "forward":
        f = partial(_spline_gradients, f)
    ends = _floats(1, points, 2)
    name = f"tps_grid, {points} points, {size}x{size}"
    return Program("splines", name, "jaxwarp", direction, f, (ends, ends))


def _call(f: Callable[..., jax.Array], *arguments: jax.Array) -> object:
    return f(*arguments)


def _loss_gradients(f: Callable[..., jax.Array], image: jax.Array, *rest: jax.Array) -> object:
    """Return a loss' gradients in all operands that are floats."""
    operands = [i for i, x in enumerate((image, *rest)) if jnp.issubdtype(x.dtype, jnp.floating)]
    return jax.grad(lambda *x: jnp.sum(f(*x) ** 2), operands)(image, *rest)


def _tps_grid(target: jax.Array, source: jax.Array, size: Sequence[int]) -> jax.Array:
    return jaxwarp.tps_grid(target, source, size)


def _spline_gradients(f: Callable[..., jax.Array], target: jax.Array, source: jax.Array) -> object:
    return jax.value_and_grad(lambda *ends: jnp.sum(f(*ends) ** 2), (0, 1))(target, source)
