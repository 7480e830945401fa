"""Seven pieces of torch code as their authors wrote them, and what became of them here.

The code of both sides is that of the guide's page "Moves": nothing is copied. `test_guide`
runs it as it stands, in float32; here its functions are compared in float64, with the
gradient of every operand, and its lines are counted.
"""

import re
import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from jaxwarp import interop
from parity_tests import test_guide

TOLERANCE = 1e-10  # relative, float64


class Move(NamedTuple):
    """A function that both columns of a section define, and the names of its operands."""

    function: str
    operands: tuple[str, ...]
    more: tuple[Any, Any] = ((), ())  # further arguments, for torch and for JAX


MOVES = {
    "CP-VTON's spline": Move("warp", ("garment", "theta")),
    "PWC-Net's warp and a photometric loss": Move("photometric", ("first", "second", "motion")),
    "VoxelMorph's layers": Move("register", ("scan", "velocity")),
    "The forum's patches": Move("warp_objects", ("pixels", "matrices")),
    "Augmentation in bfloat16": Move(
        "augment", ("batch", "angle", "scale", "shift"), ((torch.float64,), (jnp.float64,))
    ),
    "Deformable DETR's attention": Move("attend", ("value", "where", "weight")),
}
TUTORIAL = "The tutorial's transformer"


@pytest.fixture(autouse=True)
def _as_users_have_it():
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def run(title: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Execute both columns of a section of the guide; return what they define."""
    theirs, ours = {"__name__": "theirs"}, {"__name__": "ours"}
    for _, left, right, both in test_guide.SECTIONS[title]:
        exec(compile(left or both, f"{title}, left", "exec"), theirs)
        exec(compile(right or both, f"{title}, right", "exec"), ours)
    return theirs, ours


def close(ours: Any, theirs: torch.Tensor, what: str) -> None:
    expected = theirs.detach().numpy()
    assert ours.dtype == expected.dtype == np.float64, what
    assert ours.shape == expected.shape, what
    atol = TOLERANCE * np.abs(expected).max()
    np.testing.assert_allclose(ours, expected, rtol=0, atol=atol, err_msg=what)


@pytest.mark.parametrize("title", MOVES)
def test_values_and_gradients_are_torchs(title: str) -> None:
    function, names, more = MOVES[title]
    theirs, ours = run(title)
    operands = [np.asarray(ours[name], np.float64) for name in names]
    tensors = [torch.tensor(x, requires_grad=True) for x in operands]
    expected = theirs[function](*tensors, *more[0])
    value, pull = jax.vjp(jax.jit(lambda *x: ours[function](*x, *more[1])), *operands)
    close(value, expected, "value")

    ct = np.random.default_rng(0).normal(size=value.shape)
    gradients = torch.autograd.grad(expected, tensors, torch.tensor(ct))
    for name, a, b in zip(names, pull(jnp.asarray(ct)), gradients, strict=True):
        assert b.abs().max() > 0, f"a zero gradient in {name} shows nothing"
        close(a, b, f"gradient in {name}")


def test_the_tutorials_network_is_torchs_with_the_gradient_of_every_weight() -> None:
    theirs, ours = run(TUTORIAL)
    net, digits = ours["net"], ours["digits"].astype(np.float64)
    state = jax.tree.map(lambda x: x.astype(jnp.float64), nnx.state(net, nnx.Param))
    nnx.update(net, state)
    network = theirs["net"].double()
    expected = network(torch.tensor(digits))
    ct = np.random.default_rng(0).normal(size=expected.shape)
    (expected * torch.tensor(ct)).sum().backward()

    x = jnp.moveaxis(digits, 1, -1)
    close(nnx.jit(lambda net: net(x))(net), expected, "value")
    gradient = nnx.jit(nnx.grad(lambda net: (net(x) * ct).sum()))(net)
    wanted = nnx.clone(net)
    interop.load_state_dict(
        wanted,
        {name: p.grad for name, p in network.named_parameters()},
        rename={
            "localization": "stn.localization.features",
            "fc_loc": "stn.localization.regressor",
        },
        flattened={"fc_loc.0": (10, 3, 3), "fc1": (20, 4, 4)},
    )
    found = dict(nnx.to_flat_state(gradient))
    assert len(found) == len(list(network.parameters()))
    for path, variable in nnx.to_flat_state(nnx.state(wanted, nnx.Param)):
        weight = torch.tensor(np.asarray(variable[...]))
        assert weight.abs().max() > 0, path
        close(found[path][...], weight, str(path))


# Lines ------------------------------------------------------------------------


def lines(code: str) -> int:
    return sum(
        bool(line.strip()) and not line.lstrip().startswith("#") for line in code.splitlines()
    )


def test_the_guide_counts_its_lines() -> None:
    rows = ["| | torch | JAX |", "|---|---|---|"]
    for title in (TUTORIAL, *MOVES):
        pairs = [(left, right) for _, left, right, both in test_guide.SECTIONS[title] if not both]
        left, right = (sum(map(lines, column)) for column in zip(*pairs[1:], strict=True))
        rows.append(f"| [{title}](#{test_guide.anchor(title)}) | {left} | {right} |")
    page = test_guide.OPENING.with_name("moves.md").read_text()
    table = re.search(r"<!-- lines -->\n(.*?)\n<!-- /lines -->", page, re.DOTALL)
    assert table
    assert table[1] == "\n".join(rows)


# Mistakes ---------------------------------------------------------------------

ROW = re.compile(r"^\| `([^`]+)` \| `(\w+): (.+)` \|$", re.MULTILINE)


PAGE = test_guide.OPENING.with_name("mistakes.md")


def mistakes() -> list[tuple[str, str, str]]:
    return ROW.findall(PAGE.read_text())


def namespace() -> dict[str, Any]:
    """Return what every section starts with, and the names that the table explains."""
    names = {"__name__": "mistakes"}
    for _, _, right, both in test_guide.SECTIONS["Mistakes, and what is said"]:
        exec(compile(right or both, "mistakes", "exec"), names)
    return names


@pytest.mark.parametrize(("code", "kind", "message"), mistakes())
@jax.enable_x64(False)
def test_a_mistake_is_answered_as_the_guide_says(code: str, kind: str, message: str) -> None:
    names = namespace()
    expected = {"ValueError": ValueError, "TypeError": TypeError, "UserWarning": UserWarning}[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(expected) as info:
            exec(code, names)
    assert " ".join(str(info.value).split()) == message


def test_there_are_mistakes() -> None:
    assert len(mistakes()) == PAGE.read_text().count("\n| `") > 0
