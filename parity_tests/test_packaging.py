"""The package as it is handed out: what importing it costs, its layers, its documents."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import jaxwarp
from parity_tests.harness import readme

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "jaxwarp"
DOCUMENTS = sorted(ROOT.glob("*.md")) + sorted((ROOT / "examples").glob("*.md"))


def modules_after_import(module):
    code = f"import sys, {module}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("jaxwarp", {"flax", "torch"}),
        ("jaxwarp.interop", {"flax", "torch"}),
        ("jaxwarp.nn", {"torch"}),
    ],
)
def test_import_is_light(module, absent):
    loaded = modules_after_import(module)
    assert module in loaded
    assert not absent & loaded


# Layers ----------------------------------------------------------------------


def dotted(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {dotted(path): path for path in PACKAGE.rglob("*.py")}


def imported(path):
    """Return the modules of ours that a file imports, wherever in the file it does so."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            # Of a package: one of its modules, or something that its own file re-exports.
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names if names <= MODULES.keys() else names | {node.module}
    return (found & MODULES.keys()) - {"jaxwarp"}


def test_no_import_cycle():
    graph = {module: imported(path) for module, path in MODULES.items()}
    while graph:
        free = {module for module, needs in graph.items() if not needs & graph.keys() - {module}}
        assert free, f"import cycle among {sorted(graph)}"
        graph = {module: needs for module, needs in graph.items() if module not in free}


# Documents -------------------------------------------------------------------

PUBLIC = sorted(
    name
    for name, value in vars(jaxwarp).items()
    if not name.startswith("_") and not inspect.ismodule(value)
)


def without_code(document):
    """Return a document's text without fenced and inline code, but for code that is a link."""
    code = r"(\[`[^`\n]*`\])|```.*?```|<!--.*?-->|`[^`\n]*`"
    return re.sub(code, r"\1", document.read_text(), flags=re.DOTALL)


def anchors(document):
    """Return the anchors that GitHub gives to the headings of a document."""
    headings = re.findall(r"^#+ (.*)$", without_code(document), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: str(d.relative_to(ROOT)))
def test_links_lead_somewhere(document):
    links = re.findall(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"", without_code(document))
    for link in filter(lambda link: "://" not in link, (a or b for a, b in links)):
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), f"{document.name} links to {link}"
        assert not anchor or anchor in anchors(target), f"{document.name} links to {link}"


def test_gallery_has_every_example():
    scripts = {p.name for p in (ROOT / "examples").glob("*.py") if '"__main__"' in p.read_text()}
    text = (ROOT / "examples" / "README.md").read_text()
    assert set(re.findall(r"^\.venv/bin/python examples/(\S+)$", text, re.MULTILINE)) == scripts


def test_readme_names_all_that_is_public():
    text = without_code(ROOT / "README.md")
    assert [name for name in PUBLIC if f"[`{name}`]" not in text] == []


@pytest.mark.parametrize("name", PUBLIC)
def test_docstring_is_complete(name):
    doc = inspect.getdoc(getattr(jaxwarp, name)) or ""
    sections = {"Example:"} | (
        set() if inspect.isclass(getattr(jaxwarp, name)) else {"Args:", "Returns:", "Raises:"}
    )
    assert [section for section in sections if f"\n{section}\n" not in doc] == []


def test_types_are_published():
    assert (Path(jaxwarp.__file__).parent / "py.typed").is_file()


def test_pictures_are_small():
    pictures = sorted((ROOT / "examples").rglob("*.png"))
    assert pictures
    assert {p.name: p.stat().st_size for p in pictures if p.stat().st_size >= 200_000} == {}


def test_readme_shows_the_committed_results():
    text = readme.README.read_text()
    results = readme.read("parity-cpu.json"), readme.read("benchmark-cpu.json")
    compiled = [readme.read(f"compiled-{name}.json") for name in readme.SHOWN]
    assert readme.written(text, *results, *compiled) == text
    full = (readme.RESULTS / "benchmark-cpu.md").read_text()
    assert full == readme.full_benchmark(results[1])


def test_the_suites_options_are_known_without_a_path():
    command = [sys.executable, "-m", "pytest", "--jax-platform", "abacus"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "invalid choice: 'abacus'" in run.stderr
