"""A release stands on one version, a changelog and pinned tools; whose warnings are errors."""

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

import pytest

import jaxwarp
from parity_tests.benchmark import __main__ as benchmark
from parity_tests.benchmark import _history

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
RELEASE = (ROOT / ".github" / "workflows" / "release.yml").read_text()
# Which jobs of it wait for which.
NEEDS = {"wheel": "version", "sdist": "version", "check": "wheel, sdist", "publish": "check"}


def test_the_version_has_one_place():
    provider = next(p for p in PROJECT["tool"]["dynamic-metadata"] if p["field"] == "version")
    assert "version" in PROJECT["project"]["dynamic"]
    assert "version" not in PROJECT["project"]
    source = (ROOT / provider["input"]).read_text()
    found = re.findall(r'^__version__ = "(\d+\.\d+\.\d+(?:\.dev\d+)?)"$', source, re.MULTILINE)
    assert found == [jaxwarp.__version__]
    assert not re.search("^version:", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)


def test_a_checkout_tells_its_version():
    code = "import jaxwarp; print(jaxwarp.__version__)"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == jaxwarp.__version__


# The address -------------------------------------------------------------------

URLS = PROJECT["project"]["urls"]
ADDRESS = re.compile(r"https://(?:github\.com|raw\.githubusercontent\.com)/jaxwarp|jaxwarp\.github")
# What has it written out, for those who read it without pyproject.toml at hand.
ADDRESSED = {"pyproject.toml", "CITATION.cff", "CHANGELOG.md"}


def test_the_projects_address_is_one():
    source = URLS["Source"]
    owner, name = source.removeprefix("https://github.com/").split("/")
    assert {
        "Documentation": f"https://{owner}.github.io/{name}",
        "Source": source,
        "Issues": f"{source}/issues",
        "Changelog": f"{source}/blob/main/CHANGELOG.md",
    } == URLS
    pypi = PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]
    assert [s["replacement"].removeprefix(r"\1") for s in pypi] == [
        f"https://raw.githubusercontent.com/{owner}/{name}/main/",
        f"{source}/blob/main/",
    ]
    citation = (ROOT / "CITATION.cff").read_text()
    assert re.findall(r"^(?:url|repository-code): (.*)$", citation, re.MULTILINE) == [
        source,
        URLS["Documentation"],
    ]
    links = re.findall(r"^\[[^\]]+\]: (\S+)$", CHANGELOG, re.MULTILINE)
    assert links
    assert [link for link in links if not link.startswith(f"{source}/")] == []


def test_the_projects_address_stands_nowhere_else():
    folders = (".ci", ".github", "examples", "jaxwarp", "parity_tests")
    inside = [path for folder in folders for path in (ROOT / folder).rglob("*.*")]
    texts = {".cff", ".md", ".py", ".toml", ".yml"}
    found = {
        str(path.relative_to(ROOT))
        for path in (*ROOT.glob("*.*"), *inside)
        if path.suffix in texts and ADDRESS.search(path.read_text())
    }
    assert found == ADDRESSED


def test_on_pypi_every_link_of_the_readme_leads_somewhere():
    readme = (ROOT / "README.md").read_text()
    hook = PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    text = readme
    for substitution in hook["substitutions"]:
        text = re.sub(substitution["pattern"], substitution["replacement"], text)
    target = r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\""
    before, after = ([a or b for a, b in re.findall(target, x)] for x in (readme, text))
    assert len(before) == len(after) > 5
    for link, absolute in zip(before, after, strict=True):
        path = link.partition("#")[0]
        if path and (ROOT / path).exists():
            kind = "raw.githubusercontent.com" if path.endswith((".png", ".webp")) else "github.com"
            assert absolute.startswith(f"https://{kind}/")
            assert absolute.endswith(f"/main/{link}")
        else:  # it was absolute, or leads to a heading of the page, or is code: f(x)[1](v)
            assert absolute == link


def test_the_changelog_has_its_form():
    first, *released = re.findall(r"^## (.*)$", CHANGELOG, re.MULTILINE)
    assert first == "[Unreleased]"
    for heading in released:
        assert re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", heading)
    kinds = set(re.findall(r"^### (.*)$", CHANGELOG, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    for heading in (first, *released):
        assert re.search(
            rf"^{re.escape(heading.split(' - ')[0])}: https://", CHANGELOG, re.MULTILINE
        )


# What is ready ------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path):
    """Return a checkout that is ready to be released as 1.2.3, as far as is looked at."""
    results = tmp_path / "parity_tests" / "results"
    (results / "history").mkdir(parents=True)
    (tmp_path / "jaxwarp").mkdir()
    (tmp_path / "jaxwarp" / "__init__.py").write_text('__version__ = "1.2.3"\n')
    link = f"[1.2.3]: {URLS['Source']}/releases/tag/v1.2.3"
    text = f"## [Unreleased]\n\n## [1.2.3] - 2026-01-31\n\n{link}\n"
    (tmp_path / "CHANGELOG.md").write_text(text)
    (results / "history" / "1.2.3.json").write_text(json.dumps({"version": "1.2.3"}))
    shown = {"machine": {"jaxwarp": "1.2.3"}}
    (results / "benchmark-cpu.json").write_text(json.dumps(shown))
    return tmp_path


CHECK = ROOT / ".ci" / "check_release.py"


def lacks(checkout, tag="v1.2.3"):
    spec = importlib.util.spec_from_file_location("check_release", CHECK)
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
    return list(module.lacks(checkout, tag))


def test_a_checkout_that_is_ready_lacks_nothing(checkout):
    assert lacks(checkout) == []


@pytest.mark.parametrize(
    ("file", "then", "now", "complaint"),
    [
        ("jaxwarp/__init__.py", "1.2.3", "1.2.3.dev0", "not a version to release"),
        ("jaxwarp/__init__.py", "1.2.3", "1.2.4", "its tag is v1.2.4, not v1.2.3"),
        ("CHANGELOG.md", " - 2026-01-31", "", "no dated section [1.2.3]"),
        ("CHANGELOG.md", "v1.2.3", "v1.2.2", "no link [1.2.3] that ends in v1.2.3"),
        (
            "parity_tests/results/history/1.2.3.json",
            "1.2.3",
            "1.2.3.dev0",
            "parity_tests/results/history/1.2.3.json is not the benchmark of 1.2.3",
        ),
        (
            "parity_tests/results/benchmark-cpu.json",
            "1.2.3",
            "1.2.2",
            "the benchmark that is shown is that of 1.2.2",
        ),
    ],
)
def test_what_is_not_ready_is_named(checkout, file, then, now, complaint):
    path = checkout / file
    path.write_text(path.read_text().replace(then, now))
    assert any(complaint in line for line in lacks(checkout))


def test_a_version_whose_benchmark_was_not_kept_is_not_ready(checkout):
    shutil.rmtree(checkout / "parity_tests" / "results" / "history")
    assert len(lacks(checkout)) == 1


def test_the_release_workflow_asks_for_it_and_all_else_waits():
    jobs = re.split(r"^  (?=[\w-]+:$)", RELEASE, flags=re.MULTILINE)
    named = {job.partition(":")[0]: job for job in jobs}
    assert 'python3 .ci/check_release.py "$GITHUB_REF_NAME"' in named["version"]
    waits = {
        name: re.search(r"needs: \[?([\w, ]+)", named[name]) for name in named if name in NEEDS
    }
    assert {name: found and found[1] for name, found in waits.items()} == NEEDS


def test_kept_are_the_benchmarks_of_releases_and_of_the_one_in_the_making():
    released = re.findall(r"^## \[(\d[^\]]*)\]", CHANGELOG, re.MULTILINE)
    assert {*_history.versions()} <= {*released, jaxwarp.__version__.partition(".dev")[0]}


def test_the_commands_of_a_release_are_understood():
    section = (ROOT / "CONTRIBUTING.md").read_text().partition("## How to release")[2]
    block = re.search(r"```bash\n(.*?)```", section, re.DOTALL)
    assert block is not None
    parity, measure, compare, write, check = map(shlex.split, block[1].strip().splitlines())
    python = ".venv/bin/python"
    assert parity[:3] == [python, "-m", "pytest"]
    assert parity[-2:] == ["--parity-report", "parity_tests/results/parity-cpu"]
    assert measure[:3] == compare[:3] == [python, "-m", "parity_tests.benchmark"]
    assert compare[3] == "--against"
    measured = benchmark.parse(measure[3:])
    compared = benchmark.parse(["--against", _history.versions()[-1], *compare[5:]])
    assert measured.keep
    assert measured.json == compared.results
    assert compared.against == _history.versions()[-1]
    assert write == [python, "-m", "parity_tests.harness.readme"]
    *run, tag = check
    assert run == [python, str(CHECK.relative_to(ROOT))]
    assert compare[4] < tag.removeprefix("v")


# The workflows ------------------------------------------------------------------


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_by_commit(workflow):
    used = re.findall(r"uses: (.*)$", workflow.read_text(), re.MULTILINE)
    for action in used:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_the_right_to_publish_goes_with_no_code_of_others(workflow):
    # A job ends where the next line with two spaces' indent begins one.
    jobs = re.split(r"^  (?=[\w-]+:$)", workflow.read_text(), flags=re.MULTILINE)
    for job in (job for job in jobs if "id-token: write" in job):
        assert "run:" not in job
        assert "checkout" not in job
        assert "environment:" in job


def test_pre_commit_runs_the_tools_of_the_environment():
    pinned = [r for r in PROJECT["project"]["optional-dependencies"]["tests"] if "==" in r]
    assert {re.split(r"\W", r)[0] for r in pinned} == {"torch", "pyright", "ruff"}
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    entries = re.findall(r"entry: (\S+)", hooks)
    assert entries == [".venv/bin/ruff", ".venv/bin/ruff", ".venv/bin/pyright"]
    assert "rev:" not in hooks


# Whose warning it is -----------------------------------------------------------


@pytest.mark.parametrize("category", [DeprecationWarning, PendingDeprecationWarning, FutureWarning])
def test_a_deprecation_is_an_error_where_we_call(category):
    for module in ("jaxwarp.nn", "jax._src.numpy", __name__, "<string>", "__main__"):
        with pytest.raises(category):
            warnings.warn_explicit("old", category, "file.py", 1, module)
    with warnings.catch_warnings(record=True) as seen:
        warnings.warn_explicit("old", category, "file.py", 1, "skimage.transform")
    assert [str(w.message) for w in seen] == ["old"]


def test_every_other_warning_is_an_error():
    for category in (UserWarning, RuntimeWarning):
        with pytest.raises(category):
            warnings.warn_explicit("odd", category, "file.py", 1, "skimage.transform")
