"""The benchmark compares things that are the same, and its output can be read."""

import importlib
import json
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from parity_tests.benchmark import __main__ as command
from parity_tests.benchmark import _machine, _report, _timing, attention, patches, sampling, splines
from parity_tests.benchmark._timing import Program, Row, measure
from parity_tests.benchmark.sampling import Case


@pytest.fixture(autouse=True)
def defaults():
    """Run as the command does, under JAX's defaults: the peers rely on promotion."""
    with (
        jax.enable_x64(False),
        jax.numpy_rank_promotion("allow"),
        jax.numpy_dtype_promotion("standard"),
    ):
        yield


@pytest.mark.parametrize("direction", sampling.DIRECTIONS)
@pytest.mark.parametrize("shape", [(2, 3, 9, 12), (1, 2, 5, 6, 7)], ids=str)
def test_contenders_compute_the_same(shape, direction):
    # Every point inside the outer pixels' centres: there even dm_pix agrees.
    row = sampling.row("", Case(shape, zoom=0.6), direction)
    expected = _arrays(row.contenders["torch"]())
    assert len(expected) == 1 + 2 * (direction != "forward")
    for name, call in {**row.contenders, **row.peers}.items():
        for theirs, ours in zip(expected, _arrays(call()), strict=True):
            ours = ours if ours.shape == theirs.shape else np.moveaxis(ours, -1, 1)
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5, err_msg=name)


@pytest.mark.parametrize(
    "row",
    [
        splines.free("forward", (9, 12), 16),
        splines.free("forward+backward", (9, 12), 16),
        splines.fixed((9, 12), 16),
        *(
            patches.row(patches.Scene((2, 3, 20, 30), 5, 12), direction, order, None)
            for direction in sampling.DIRECTIONS
            for order in patches.ORDERS
        ),
    ],
    ids=lambda row: f"{row.group}, {row.name}",
)
def test_splines_and_patches_compute_the_same(row):
    expected = _arrays(row.contenders["torch"]())
    ours = _arrays(row.contenders["jaxwarp"]())
    for a, b in zip(ours, expected, strict=True):
        scale = max(1.0, np.abs(b).max())
        # In float32 either side's spline gradients are 3e-4 from those of float64.
        np.testing.assert_allclose(a.reshape(b.shape), b, rtol=0, atol=1e-3 * scale)


@pytest.mark.parametrize("direction", sampling.DIRECTIONS)
def test_attentions_compute_the_same(direction):
    row = attention.row(attention.Attention(2, ((6, 5), (3, 4)), 7, 2, 3), direction)
    expected = _arrays(row.contenders["torch"]())
    assert len(expected) == 1 + 4 * (direction != "forward")  # two maps, points, weights
    for theirs, ours in zip(expected, _arrays(row.contenders["jaxwarp"]()), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())


def _arrays(result):
    leaves = jax.tree.leaves(result)
    return [x.detach().cpu().numpy() if torch.is_tensor(x) else np.asarray(x) for x in leaves]


@pytest.mark.parametrize("group", command.groups())
def test_every_group_yields_rows(group):
    row = next(importlib.import_module(f"parity_tests.benchmark.{group}").rows())
    assert isinstance(row, Row)
    assert row.contenders


def test_a_measured_row_is_printed_written_and_drawn(tmp_path):
    x = np.ones(2**16, np.float32)
    program = Program(lambda x: jnp.sort(x @ x.T).sum(), x.reshape(-1, 128))
    calls = {"torch": lambda: torch.tensor(x) * 2, "jaxwarp": program, "numpy": lambda: x * 2}
    row = Row("a group", "a row", calls, peers={"peer": lambda: x * 3}, values=10, bytes_moved=80)
    measured = [measure(row, 0.0, peers=peers) for peers in (False, True)]
    results = _report.results(_machine.describe(), 1e9, measured)

    assert [set(row["ms"]) for row in results["rows"]] == [{*calls}, {*calls, "peer"}]
    assert results["rows"][0]["bytes-moved floor ms"] == pytest.approx(80e-6)
    assert results["rows"][0]["temporary bytes"] == {"jaxwarp": program.temp_bytes}
    assert program.temp_bytes >= 512 * 512 * 4  # the product, which is not returned
    lines = _report.table("a group", results).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert [line.split(" |")[0].strip("| ") for line in lines[2:]] == [
        "a row",
        "a row",
        "geometric mean (worst)",
    ]

    _report.write_json(tmp_path / "results.json", results)
    assert json.loads((tmp_path / "results.json").read_text())["machine"] == results["machine"]
    _report.draw(tmp_path / "chart.png", results)
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")
    for name in ("chart.svg", "again.svg"):
        _report.draw(tmp_path / name, results)
    assert b"</svg>" in (tmp_path / "chart.svg").read_bytes()
    assert (tmp_path / "chart.svg").read_bytes() == (tmp_path / "again.svg").read_bytes()


def test_medians_and_ratios_belong_to_their_contenders(monkeypatch):
    now = 0.0

    def takes(seconds):
        nonlocal now
        now += seconds

    clock = SimpleNamespace(perf_counter=lambda: now, sleep=takes)  # pauses are no one's time
    monkeypatch.setattr(_timing, "time", clock)
    calls = {name: partial(takes, s) for name, s in {"slow": 0.02, "torch": 0.005}.items()}
    for pipelined in (False, True):
        measured = measure(Row("g", "r", calls), 0.0, pipelined=pipelined)
        assert measured.ms == pytest.approx({"slow": 20, "torch": 5})
        assert measured.ratios == pytest.approx({"slow": 4})
        assert measured.ratio_quartiles == {"slow": pytest.approx([4, 4])}
        assert len(measured.burst_ms["torch"]) == 3


@pytest.mark.parametrize(
    ("platform", "jaxlib", "expected"),
    [
        ("gpu", "0.10.1", False),
        ("gpu", "0.10.2", True),
        ("gpu", "0.11.0.dev20260701", True),
        ("gpu", "0.11.1", False),
        ("cpu", "0.10.2", False),
    ],
)
def test_the_slow_scatter_is_told(platform, jaxlib, expected):
    assert _machine.has_slow_scatter(platform, jaxlib) == expected
