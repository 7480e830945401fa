"""What is kept of a version's benchmark, and what a comparison with it says."""

import json
import statistics

import pytest

from parity_tests.benchmark import __main__ as command
from parity_tests.benchmark import _history
from parity_tests.benchmark._history import Change, Entry, Ratio
from parity_tests.benchmark._timing import Measurement, Row
from parity_tests.harness import readme

FULL = readme.RESULTS / "benchmark-cpu.json"


def results(ratios, quartiles=None):
    """Return the results of one row, as the benchmark writes them."""
    row = {"group": "g", "name": "r", "note": "", "ms": {"torch": 2.0}, "ratio to torch": ratios}
    row |= {"temporary bytes": {}, "ns per value": {}, "bytes-moved floor ms": None}
    row |= {} if quartiles is None else {"quartiles of the ratio": quartiles}
    machine = {"jaxwarp": "9.8.7", "CPU": "abacus", "jax": "0.10.2"}
    means = {"g": {name: {"mean": x, "worst": x, "rows": 1} for name, x in ratios.items()}}
    return {"machine": machine, "geometric means of ratios to torch": means, "rows": [row]}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(_history, "FOLDER", tmp_path / "history")
    return tmp_path / "history"


def test_an_entry_is_read_as_it_was_written(folder):
    entry = Entry.of(results({"jaxwarp": 0.5, "dm_pix": 3.0}, {"jaxwarp": [0.25, 0.75]}))
    entry.write(folder / "9.8.7.json")
    assert entry.ratios == {("g", "r", "jaxwarp"): Ratio(0.25, 0.5, 0.75)}
    assert Entry.read(folder / "9.8.7.json") == entry
    assert '"jaxwarp": [0.25, 0.5, 0.75]' in (folder / "9.8.7.json").read_text()


def test_results_of_before_quartiles_have_none():
    entry = Entry.of(results({"jaxwarp": 0.5}))
    assert entry.ratios["g", "r", "jaxwarp"] == Ratio(0.5, 0.5, 0.5)


def test_quartiles_are_of_turns_not_of_times():
    # Torch's and jaxwarp's times double together in the second half; their ratio does not move.
    bursts = {"torch": [1.0, 1.0, 1.0, 2.0, 2.0], "jaxwarp": [0.5, 0.6, 0.7, 1.6, 1.8]}
    measured = Measurement(Row("g", "r", {}), {"torch": 1.0, "jaxwarp": 0.7}, {}, bursts, {}, {})
    assert measured.ratio_quartiles == {"jaxwarp": pytest.approx([0.6, 0.8])}
    single = Measurement(
        Row("g", "r", {}), measured.ms, {}, {k: b[:1] for k, b in bursts.items()}, {}, {}
    )
    assert single.ratio_quartiles == {"jaxwarp": [0.5, 0.5]}


@pytest.mark.parametrize(
    ("then", "now", "verdict"),
    [
        (Ratio(0.9, 1.0, 1.1), Ratio(1.5, 1.6, 1.7), "slower"),
        (Ratio(0.9, 1.0, 1.1), Ratio(1.05, 1.6, 1.7), ""),  # the middle halves overlap
        (Ratio(1.0, 1.0, 1.0), Ratio(1.4, 1.4, 1.4), ""),  # as much as two processes may differ
        (Ratio(0.9, 1.0, 1.1), Ratio(0.5, 0.6, 0.7), "faster"),
        (Ratio(0.9, 1.0, 1.1), Ratio(0.5, 0.6, 0.95), ""),
        (Ratio(0.9, 1.0, 1.1), Ratio(0.9, 1.0, 1.1), ""),
    ],
)
def test_what_is_slower_and_what_is_noise(then, now, verdict):
    assert Change("g", "r", "jaxwarp", then, now).verdict == verdict


@pytest.mark.parametrize(
    ("factor", "rows", "verdict"),
    [(1.2, 5, "slower"), (1.2, 4, ""), (1.1, 5, ""), (1 / 1.2, 5, "faster"), (1 / 1.1, 5, "")],
)
def test_a_group_that_is_slower_as_a_whole(factor, rows, verdict):
    # Every row by another factor, none of them enough by itself.
    then = {("g", f"r{i}", "jaxwarp"): Ratio(1, 1, 1) for i in range(rows)}
    spread = [1 + (i - (rows - 1) / 2) / 10 for i in range(rows)]
    middle = statistics.geometric_mean(spread)
    now = {key: Ratio(*[factor * x / middle] * 3) for key, x in zip(then, spread, strict=True)}
    found = _history.changes(Entry("1", {}, then), Entry("2", {}, now))
    (mean,) = _history.means(found)
    assert mean.factor == pytest.approx(factor)
    assert mean.verdict == verdict
    assert {change.verdict for change in found} == {""}
    assert _history.slower(found) == ["g: all 5 rows, jaxwarp"] * (verdict == "slower")
    text = _history.report(Entry("1", {}, then), Entry("2", {}, now))
    assert f"{mean.factor:.2f}" in text
    assert text.count("| slower |") == (verdict == "slower")


def test_the_command_keeps_and_compares(tmp_path, folder, capsys):
    for name, ratio in {"then": 0.5, "now": 0.8}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(results({"jaxwarp": ratio})))
    command.main(["--results", str(tmp_path / "then.json"), "--keep"])
    assert _history.versions() == ["9.8.7"]
    assert Entry.read(folder / "9.8.7.json").machine["CPU"] == "abacus"

    same = ["--results", str(tmp_path / "then.json"), "--against", "9.8.7"]
    command.main(same)
    assert "| r, jaxwarp              | 0.50  | 0.50 | 1.00       |  |" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"slower than 9\.8\.7:\ng: r, jaxwarp$"):
        command.main(["--results", str(tmp_path / "now.json"), "--against", "9.8.7"])
    assert (
        "| r, jaxwarp              | 0.50  | 0.80 | 1.60       | slower |"
        in capsys.readouterr().out
    )


def test_the_report_says_what_cannot_be_compared():
    then = Entry("1", {"CPU": "abacus", "jax": "1"}, {("g", "r", "jaxwarp"): Ratio(1, 1, 1)})
    now = Entry("2", {"CPU": "abacus", "jax": "2"}, {("g", "new", "jaxwarp"): Ratio(9, 9, 9)})
    text = _history.report(then, now)
    assert "Not measured under the same conditions. jax: 1 then, 2 now." in text
    assert "Not measured now: 1 ratios of 1." in text
    assert _history.changes(then, now) == []


@pytest.mark.parametrize("partial", [["--quick"], ["--groups", "sampling"]], ids=" ".join)
def test_only_a_whole_run_is_kept(partial, capsys):
    with pytest.raises(SystemExit):
        command.parse(["--keep", *partial])
    assert "neither --quick nor --groups" in capsys.readouterr().err


def test_a_release_takes_the_place_of_what_was_kept_while_it_was_in_the_making(folder):
    for version in ("1.2.3.dev0", "1.2.3"):
        entry = Entry(version, {}, {("g", "r", "jaxwarp"): Ratio(1, 1, 1)})
        entry.write(_history.path_of(version))
        assert _history.versions() == ["1.2.3"]
        assert Entry.read(_history.path_of("1.2.3")).version == version


def test_versions_are_sorted_by_their_numbers(folder):
    entry = Entry.of(results({"jaxwarp": 0.5}))
    for version in ("0.10.0", "0.9.1", "1.0.0"):
        entry.write(_history.path_of(version))
    assert _history.versions() == ["0.9.1", "0.10.0", "1.0.0"]


def test_the_committed_results_are_kept_as_their_versions():
    shown = Entry.of(json.loads(FULL.read_text()))
    kept = Entry.read(_history.path_of(shown.version))
    assert kept.ratios == {
        key: Ratio(*(float(f"{x:.4g}") for x in (r.low, r.median, r.high)))
        for key, r in shown.ratios.items()
    }
    assert kept.machine == shown.machine
