"""Everything torch rejects is rejected while tracing, in words that name what was wrong.

Each row of the table gives a call, what must be raised, and what its message must contain:
the argument, the rule, and what came.
"""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F

import jaxwarp


def zeros(*shape, dtype="float32"):
    return np.zeros(shape, dtype)


IMAGE, GRID = zeros(2, 3, 4, 5), zeros(2, 6, 7, 2)
THETA, SIZE = zeros(2, 2, 3), (2, 3, 4, 5)


@dataclasses.dataclass(frozen=True)
class Wrong:
    """A call that must fail; ``torch_too`` unless jaxwarp is the stricter or the only one."""

    name: str
    op: str
    arguments: tuple[Any, ...]
    error: type[Exception]
    says: tuple[str, ...]
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    torch_too: bool = True


def _sampling(op: str, points: str, torch_too: bool) -> list[Wrong]:
    """What is wrong for grid_sample is wrong for remap."""

    def wrong(name, *rest, **keywords):
        return Wrong(name, op, *rest, **({"torch_too": torch_too} | keywords))

    return [
        wrong(
            "unknown mode",
            (IMAGE, GRID, "trilinear"),
            ValueError,
            ("mode", "'bilinear'", "'nearest'", "'bicubic'", "'trilinear'"),
        ),
        wrong(
            "unknown padding",
            (IMAGE, GRID, "bilinear", "wrap"),
            ValueError,
            ("padding_mode", "'zeros'", "'border'", "'reflection'", "'wrap'"),
        ),
        wrong("mode None", (IMAGE, GRID, None), ValueError, ("mode", "None")),
        wrong("mode number", (IMAGE, GRID, 1), ValueError, ("mode", "1")),
        wrong("padding None", (IMAGE, GRID, "nearest", None), ValueError, ("padding_mode", "None")),
        wrong("image list", (IMAGE.tolist(), GRID), TypeError, ("input", "array", "list")),
        wrong("points list", (IMAGE, GRID.tolist()), TypeError, (points, "array", "list")),
        wrong("image None", (None, GRID), TypeError, ("input", "array", "NoneType")),
        wrong("points None", (IMAGE, None), TypeError, (points, "array", "NoneType")),
        wrong(
            "batch", (IMAGE, zeros(3, 6, 7, 2)), ValueError, ("input", points, "batch", "2", "3")
        ),
        wrong("batch of one", (IMAGE, GRID[:1]), ValueError, ("batch", "2", "1", "vmap")),
        wrong("image batch of one", (IMAGE[:1], GRID), ValueError, ("input", "batch", "1", "2")),
        wrong("3 coordinates", (IMAGE, zeros(2, 6, 7, 3)), ValueError, (points, "2", "3")),
        wrong("1 coordinate", (IMAGE, zeros(2, 6, 7, 1)), ValueError, (points, "2", "1")),
        wrong("no coordinates", (IMAGE, zeros(2, 6, 7, 0)), ValueError, (points, "2", "0")),
        wrong(
            "2 coordinates, volume",
            (zeros(2, 3, 4, 5, 6), zeros(2, 6, 7, 8, 2)),
            ValueError,
            (points, "3", "2"),
        ),
        wrong("no axes", (zeros(2, 3), zeros(2, 0)), ValueError, ("input", "(2, 3)")),
        wrong(
            "4 axes", (zeros(1, 1, 2, 2, 2, 2), zeros(1, 5, 4)), ValueError, ("input", "1, 2 or 3")
        ),
        wrong("vector", (zeros(2), GRID), ValueError, ("input", "(2,)")),
        wrong("scalar", (np.float32(0), GRID), ValueError, ("input", "()")),
        wrong("scalar points", (IMAGE, np.float32(0)), ValueError, (points, "()")),
        wrong("empty height", (zeros(2, 3, 0, 5), GRID), ValueError, ("input", "(2, 3, 0, 5)")),
        wrong("empty width", (zeros(2, 3, 4, 0), GRID), ValueError, ("input", "(2, 3, 4, 0)")),
        wrong(
            "empty height, empty output",
            (zeros(2, 3, 0, 5), zeros(2, 0, 7, 2)),
            ValueError,
            ("input", "(2, 3, 0, 5)"),
        ),
        wrong("image int", (zeros(2, 3, 4, 5, dtype="int32"), GRID), TypeError, ("input", "int32")),
        wrong("image bool", (zeros(2, 3, 4, 5, dtype="bool"), GRID), TypeError, ("input", "bool")),
        wrong(
            "image uint8", (zeros(2, 3, 4, 5, dtype="uint8"), GRID), TypeError, ("input", "uint8")
        ),
        wrong(
            "image complex",
            (zeros(2, 3, 4, 5, dtype="complex64"), GRID),
            TypeError,
            ("input", "complex64"),
        ),
        wrong(
            "points int", (IMAGE, zeros(2, 6, 7, 2, dtype="int32")), TypeError, (points, "int32")
        ),
        wrong(
            "points complex",
            (IMAGE, zeros(2, 6, 7, 2, dtype="complex64")),
            TypeError,
            (points, "complex64"),
        ),
        wrong(
            "channel axis",
            (IMAGE, GRID),
            ValueError,
            ("channel_axis", "1 or -1", "3"),
            options={"channel_axis": 3},
            torch_too=False,
        ),
        wrong(
            "channel axis word",
            (IMAGE, GRID),
            TypeError,
            ("channel_axis", "1 or -1", "'last'"),
            options={"channel_axis": "last"},
            torch_too=False,
        ),
        wrong(
            "channel axis bool",
            (IMAGE, GRID),
            TypeError,
            ("channel_axis", "True"),
            options={"channel_axis": True},
            torch_too=False,
        ),
        wrong(
            "axes of channels last",
            (zeros(2, 4, 5, 3), zeros(2, 6, 7, 3)),
            ValueError,
            (points, "2", "3"),
            options={"channel_axis": -1},
            torch_too=False,
        ),
        wrong(
            "empty height, channels last",
            (zeros(2, 0, 5, 3), GRID),
            ValueError,
            ("input", "(2, 0, 5, 3)"),
            options={"channel_axis": -1},
            torch_too=False,
        ),
    ]


def _corners(op: str, *arguments: Any, torch_too: bool = True) -> list[Wrong]:
    return [
        Wrong(
            f"align_corners {value!r}",
            op,
            arguments,
            TypeError,
            ("align_corners", "bool", repr(value)),
            {"align_corners": value},
            torch_too,
        )
        for value in (1, 0, "true", 1.0)
    ]


def _matrix_grid(op: str, rows: int, torch_too: bool) -> list[Wrong]:
    theta = zeros(2, rows, 3)

    def wrong(name, *rest, **keywords):
        return Wrong(name, op, *rest, **({"torch_too": torch_too} | keywords))

    shape = f"({rows}, 3)"
    return [
        wrong("int theta", (theta.astype("int32"), SIZE), TypeError, ("theta", "int32")),
        wrong(
            "complex theta", (theta.astype("complex64"), SIZE), TypeError, ("theta", "complex64")
        ),
        wrong("list theta", (theta.tolist(), SIZE), TypeError, ("theta", "list")),
        wrong("None theta", (None, SIZE), TypeError, ("theta", "NoneType")),
        wrong("square theta", (zeros(2, 3, 4), SIZE), ValueError, ("theta", "(2, 3, 4)")),
        wrong("wide theta", (zeros(2, rows, 4), SIZE), ValueError, ("theta", f"(2, {rows}, 4)")),
        wrong("one matrix", (theta[0], SIZE), ValueError, ("theta", shape)),
        wrong(
            "theta of a plane", (theta, (2, 3, 4, 5, 6)), ValueError, ("theta", f"(2, {rows}, 3)")
        ),
        wrong("batch", (theta, (3, 3, 4, 5)), ValueError, ("theta", "3", f"(2, {rows}, 3)")),
        wrong("short size", (theta, (2, 3)), ValueError, ("size", "(2, 3)")),
        wrong("long size", (theta, (2, 3, 1, 1, 1, 1)), ValueError, ("size", "(2, 3, 1, 1, 1, 1)")),
        wrong("empty size", (theta, ()), ValueError, ("size", "()")),
        wrong("no height", (theta, (2, 3, 0, 5)), ValueError, ("size", "positive", "(2, 3, 0, 5)")),
        wrong(
            "no batch", (theta[:0], (0, 3, 4, 5)), ValueError, ("size", "positive", "(0, 3, 4, 5)")
        ),
        wrong(
            "no channels", (theta, (2, 0, 4, 5)), ValueError, ("size", "positive", "(2, 0, 4, 5)")
        ),
        wrong(
            "negative", (theta, (2, 3, -4, 5)), ValueError, ("size", "positive", "(2, 3, -4, 5)")
        ),
        wrong("float", (theta, (2, 3, 4.0, 5)), TypeError, ("size", "integers", "4.0")),
        wrong("word", (theta, "2345"), TypeError, ("size", "str")),
        wrong("number", (theta, 4), TypeError, ("size", "int")),
        wrong("None size", (theta, None), TypeError, ("size", "NoneType")),
        wrong(
            "array size", (theta, np.array(SIZE)), TypeError, ("size", "ndarray"), torch_too=False
        ),
    ]


POINTS = zeros(2, 6, 7, 2)
TABLE = [
    *_sampling("grid_sample", "grid", torch_too=True),
    *_corners("grid_sample", IMAGE, GRID),
    *_sampling("remap", "positions", torch_too=False),
    *_matrix_grid("affine_grid", 2, torch_too=True),
    *_corners("affine_grid", THETA, SIZE),
    *_matrix_grid("homography_grid", 3, torch_too=False),
    *_corners("homography_grid", zeros(2, 3, 3), SIZE, torch_too=False),
    *_corners("flow_grid", POINTS, torch_too=False),
    *(
        Wrong(name, *rest, torch_too=False)
        for name, *rest in [
            ("flow int", "flow_grid", (POINTS.astype("int32"),), TypeError, ("flow", "int32")),
            ("flow list", "flow_grid", (POINTS.tolist(),), TypeError, ("flow", "list")),
            ("flow axes", "flow_grid", (zeros(2, 6, 7, 3),), ValueError, ("flow", "(2, 6, 7, 3)")),
            ("flow vector", "flow_grid", (zeros(2, 2),), ValueError, ("flow", "(2, 2)")),
            ("flow empty", "flow_grid", (zeros(2, 0, 7, 2),), ValueError, ("flow", "(2, 0, 7, 2)")),
            (
                "outer shape",
                "compose_affine",
                (zeros(2, 2, 2), THETA),
                ValueError,
                ("outer", "(2, 2, 2)"),
            ),
            (
                "inner shape",
                "compose_affine",
                (THETA, zeros(2, 3, 4)),
                ValueError,
                ("inner", "(2, 2, 3)", "(2, 3, 4)"),
            ),
            (
                "batches",
                "compose_affine",
                (THETA, THETA[:1]),
                ValueError,
                ("inner", "(2, 2, 3)", "(1, 2, 3)"),
            ),
            ("outer list", "compose_affine", ([], THETA), TypeError, ("outer", "list")),
            ("int", "invert_affine", (THETA.astype("int32"),), TypeError, ("theta", "int32")),
            ("square", "invert_affine", (zeros(2, 3, 3),), ValueError, ("theta", "(2, 3, 3)")),
            ("one", "invert_affine", (zeros(2, 3),), ValueError, ("theta", "(2, 3)")),
        ]
    ),
]


def _name(row: Wrong) -> str:
    return f"{row.op}: {row.name}".replace(" ", "_")


def _check(row: Wrong, call: Callable[..., Any]) -> None:
    with pytest.raises(row.error) as info:
        call()
    message = str(info.value)
    assert type(info.value) is row.error
    for word in row.says:
        assert re.search(rf"(?<!\w){re.escape(word)}(?!\w)", message), (
            f"{word!r} is not in: {message}"
        )


@pytest.mark.parametrize("row", TABLE, ids=_name)
def test_is_rejected(row: Wrong) -> None:
    _check(row, lambda: getattr(jaxwarp, row.op)(*row.arguments, **row.options))


@pytest.mark.parametrize("row", TABLE, ids=_name)
def test_is_rejected_at_trace_time(row: Wrong) -> None:
    """Under jit nothing is run, nor even compiled: tracing alone raises."""
    arrays = [x for x in row.arguments if isinstance(x, np.ndarray | np.generic)]
    fixed = iter([x for x in row.arguments if not isinstance(x, np.ndarray | np.generic)])
    if row.name == "array size":
        arrays, fixed = arrays[:1], iter(row.arguments[1:])
    is_array = [any(x is a for a in arrays) for x in row.arguments]

    def call(*traced):
        traced = iter(traced)
        arguments = [next(traced if t else fixed) for t in is_array]
        return getattr(jaxwarp, row.op)(*arguments, **row.options)

    _check(row, lambda: jax.eval_shape(call, *arrays))


@pytest.mark.parametrize("row", [r for r in TABLE if r.torch_too], ids=_name)
def test_torch_rejects_it_too(row: Wrong) -> None:
    arguments = [torch.from_numpy(x) if isinstance(x, np.ndarray) else x for x in row.arguments]
    options = {"align_corners": False} | row.options
    with pytest.raises((ValueError, TypeError, RuntimeError, AttributeError)):
        getattr(F, row.op)(*arguments, **options)


def test_a_traced_size_is_rejected() -> None:
    with pytest.raises(TypeError, match="size must hold integers only"):
        jax.jit(lambda n: jaxwarp.affine_grid(THETA, (2, 3, n, 5)))(4)


def test_align_corners_none_means_false() -> None:
    expected = jaxwarp.affine_grid(THETA, SIZE, False)
    np.testing.assert_array_equal(jaxwarp.affine_grid(THETA, SIZE, None), expected)
    image, grid = jnp.arange(120.0).reshape(2, 3, 4, 5), jnp.full((2, 6, 7, 2), 0.9)
    ours = jaxwarp.grid_sample(image, grid, align_corners=None)
    np.testing.assert_array_equal(ours, jaxwarp.grid_sample(image, grid, align_corners=False))


@pytest.mark.parametrize("size", [torch.Size(SIZE), list(SIZE), tuple(np.array(SIZE))], ids=repr)
def test_any_sequence_of_integers_is_a_size(size) -> None:
    assert jaxwarp.affine_grid(THETA, size).shape == (2, 4, 5, 2)


def test_an_unknown_keyword_is_rejected() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'fill'"):
        jaxwarp.grid_sample(IMAGE, GRID, fill=0)  # pyright: ignore[reportCallIssue]


def test_too_many_pixels_for_an_index_are_rejected_without_allocating() -> None:
    image = jax.ShapeDtypeStruct((1, 1, 2**16, 2**15), jnp.float32)
    grid = jax.ShapeDtypeStruct((1, 5, 2), jnp.float32)
    with pytest.raises(ValueError, match=r"input must hold fewer than 2\*\*31 pixels"):
        jax.eval_shape(jaxwarp.grid_sample, image, grid)
