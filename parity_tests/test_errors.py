"""Everything wrong is rejected while tracing, in words that name what was wrong.

One table holds the wrong calls of every public function (`harness/wrong_calls`).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F

import jaxwarp
import jaxwarp.interop
import jaxwarp.nn
from parity_tests.harness.wrong_calls import TABLE, Wrong, must_fail
from parity_tests.harness.wrong_calls.grids import SIZE, THETA
from parity_tests.harness.wrong_calls.sampling import GRID, IMAGE

# What checks no arguments: data.
WITHOUT_CHECKS = {"ThinPlateSpline", "nn.Buffer", "nn.Transform", "nn.Warped"}


def public_names() -> set[str]:
    modules = {"": jaxwarp, "nn.": jaxwarp.nn, "interop.": jaxwarp.interop}
    return {prefix + name for prefix, module in modules.items() for name in module.__all__}


def test_the_table_has_every_public_function() -> None:
    assert public_names() - {row.op for row in TABLE} == WITHOUT_CHECKS


@pytest.mark.parametrize("row", TABLE, ids=str)
def test_is_rejected(row: Wrong) -> None:
    must_fail(row, lambda: row.run(*row.arguments, **row.options))


def is_array(x: object) -> bool:
    return isinstance(x, np.ndarray | np.generic | jax.Array)


def arrays_of(row: Wrong) -> tuple[dict[int, object], dict[str, object]]:
    """Return those arguments that may be traced: arrays, but not those that stand for a size."""
    positions = {i: x for i, x in enumerate(row.arguments) if is_array(x)}
    names = {name: x for name, x in row.options.items() if is_array(x)}
    if row.name == "array size":
        del positions[1]
    return positions, names


TRACED = [row for row in TABLE if not row.known and any(arrays_of(row))]


@pytest.mark.parametrize("row", TRACED, ids=str)
def test_is_rejected_at_trace_time(row: Wrong) -> None:
    """Under jit nothing is run, nor even compiled: tracing alone raises."""

    def call(positions, names):
        arguments = [positions.get(i, x) for i, x in enumerate(row.arguments)]
        return row.run(*arguments, **row.options | names)

    must_fail(row, lambda: jax.eval_shape(call, *arrays_of(row)))


@pytest.mark.parametrize("row", [r for r in TABLE if r.torch_too], ids=str)
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
