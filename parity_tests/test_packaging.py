"""The package as it is handed out: what importing it costs, its layers, its documents."""

import ast
import functools
import importlib
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
DOCUMENTS = sorted(ROOT.glob("*.md")) + sorted((ROOT / "examples").rglob("*.md"))


# Layers ----------------------------------------------------------------------


def dotted(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {dotted(path): path for path in PACKAGE.rglob("*.py")}


def imported(path):
    """Return the modules of ours that a file imports, wherever in the file it does so."""
    return imports_among(ast.walk(ast.parse(path.read_text())), path)


def imported_at_once(path):
    """Return the modules of ours that a file imports when it is imported itself."""
    return imports_among(ast.parse(path.read_text()).body, path)


def imports_among(nodes, path):
    found = set()
    for node in nodes:
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


def test_no_chain_of_imports_is_long():
    """Seven modules are as many as a reader goes through from `jaxwarp` down to the ground."""
    graph = {module: imported_at_once(path) - {module} for module, path in MODULES.items()}

    @functools.cache
    def longest(module):
        return (module, *max(map(longest, sorted(graph[module])), key=len, default=()))

    assert [chain for chain in map(longest, graph) if len(chain) > 7] == []


ROOMS = {path.name: path for path in PACKAGE.glob("_[a-z]*") if path.is_dir()}
GROUND = {"_checks", "_coords", "_layout", "_sharding", "_small_matrix", "_workarounds"}


def test_rooms_do_not_quarry_each_other():
    """A room builds on the ground, and on what the sampler offers; never on a public module."""
    assert {"_sampler", "_spline", "_objects", "_workarounds"} == ROOMS.keys()
    for room, folder in ROOMS.items():
        for path in folder.rglob("*.py"):
            others = {module.split(".")[1] for module in imported(path)} - {room} - GROUND
            assert others <= {"_sampler"}, f"{path} imports {others}"


def test_public_modules_do_not_import_each_other():
    public = {vars(jaxwarp)[name].__module__ for name in PUBLIC}
    public = {module for module in public if module.count(".") == 1} & MODULES.keys()
    assert public
    for module in public:
        others = imported(MODULES[module]) & public - {module}
        assert not others, f"{module} imports {others}"


def test_nobody_looks_into_the_sampler():
    """Outside its room it is `jaxwarp._sampler` alone; only `jaxwarp` itself knows of backends."""
    inside = {"jaxwarp._sampler.backends"} & imported(MODULES["jaxwarp"])
    assert inside, "nothing would lower the sampler"
    for module, path in MODULES.items():
        if module != "jaxwarp" and not module.startswith("jaxwarp._sampler"):
            deeper = {m for m in imported(path) if m.startswith("jaxwarp._sampler.")}
            assert not deeper, f"{module} imports {deeper}"


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
    text = (ROOT / "examples" / "gallery.md").read_text()
    assert set(re.findall(r"^\.venv/bin/python examples/(\S+)$", text, re.MULTILINE)) == scripts


REFERENCE_INDEX = ROOT / "examples" / "reference" / "index.md"
REFERENCE = sorted((ROOT / "examples" / "reference").glob("*.md"))


@pytest.mark.parametrize("module", ["jaxwarp", "jaxwarp.nn", "jaxwarp.interop", "jaxwarp.testing"])
def test_the_reference_describes_all_that_is_public(module):
    names = {f"{module}.{name}" for name in importlib.import_module(module).__all__}
    pages = "".join(page.read_text() for page in REFERENCE)
    directive = r"^\.\. auto(?:function|class|data):: ([\w.]+)"  # and perhaps a signature
    described = set(re.findall(directive, pages, re.MULTILINE))
    assert names <= described


def test_the_references_table_of_contents_is_complete():
    listed = re.findall(r"^ +jaxwarp\.(\w+)$", REFERENCE_INDEX.read_text(), re.MULTILINE)
    assert sorted(listed) == PUBLIC


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
    pictures = sorted((ROOT / "examples" / "images").iterdir())
    assert pictures
    assert {p.name: p.stat().st_size for p in pictures if p.stat().st_size >= 200_000} == {}


@pytest.mark.parametrize("document", [readme.README, readme.PAGE], ids=lambda d: d.name)
def test_documents_show_the_committed_results(document):
    results = readme.read("parity-cpu.json"), readme.read("benchmark-cpu.json")
    compiled = [readme.read(f"compiled-{name}.json") for name in readme.SHOWN]
    assert readme.written(document, *results, compiled) == document.read_text()
    full = (readme.RESULTS / "benchmark-cpu.md").read_text()
    assert full == readme.full_benchmark(results[1])


def test_the_suites_options_are_known_without_a_path():
    command = [sys.executable, "-m", "pytest", "--jax-platform", "abacus"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "invalid choice: 'abacus'" in run.stderr
