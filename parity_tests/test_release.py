"""A release stands on one version, a changelog and pinned tools; whose warnings are errors."""

import re
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

import pytest

import jaxwarp

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


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
