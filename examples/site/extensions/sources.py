"""Python files as pages, so that a link to one is a link on the site as it is on GitHub.

What the API reference describes links to its place in them.
"""

import ast
import importlib
import itertools
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.parsers import Parser
from sphinx.transforms import SphinxTransform

ROOT = Path(__file__).parents[3]


class PythonFile(Parser):
    """Show a file's code under its path, in one block for each definition."""

    supported = ("python",)

    def parse(self, inputstring: str, document: nodes.document) -> None:
        """Fill the document with a title and the code."""
        # Nothing lists these pages, and searching finds documents before it finds code.
        document += nodes.docinfo("", *map(_field, ("orphan", "nosearch")))
        path = Path(document["source"]).relative_to(ROOT)
        title = nodes.title("", "", nodes.literal("", str(path)))
        document += nodes.section("", title, *_blocks(inputstring), ids=["top"])


def _field(name: str) -> nodes.field:
    return nodes.field("", nodes.field_name("", name), nodes.field_body())


def _blocks(code: str) -> list[nodes.literal_block]:
    """Cut code before each definition at its top level; a block is called as what it defines."""
    lines = code.splitlines()
    starts = {0: ""}
    for node in ast.parse(code).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)]) - 1
            starts[first] = node.name
    parts = []
    for (start, name), end in itertools.zip_longest(starts.items(), list(starts)[1:]):
        text = "\n".join(lines[start:end]).rstrip()
        parts.append(nodes.literal_block(text, text, language="python", classes=["source"]))
        parts[-1]["ids"] = [name] if name else []
    return parts


class SourceLinks(SphinxTransform):
    """Add to each signature the way to its code."""

    default_priority = 500

    def apply(self, **_: Any) -> None:
        """Find the signatures of what is defined at the top level of a module."""
        for signature in self.document.findall(addnodes.desc_signature):
            name, module = signature.get("fullname", ""), signature.get("module")
            defined = getattr(importlib.import_module(module), name, None) if module else None
            if getattr(defined, "__qualname__", "") == name:
                signature += self._link(defined.__module__, name)

    def _link(self, module: str, name: str) -> nodes.reference:
        page = module.replace(".", "/")
        page = page if (ROOT / f"{page}.py").exists() else f"{page}/__init__"
        uri = self.app.builder.get_relative_uri(self.env.current_document.docname, page)
        return nodes.reference(
            "", "source", internal=True, refuri=f"{uri}#{name}", classes=["source-link"]
        )


class FolderLinks(SphinxTransform):
    """Let a link to a package's folder lead to its ``__init__.py``."""

    default_priority = 500

    def apply(self, **_: Any) -> None:
        """Find the links that are no page's."""
        for link in self.document.findall(addnodes.pending_xref):
            if link.get("reftype") == "myst" and link.get("refdomain") is None:
                page, _path = self.env.relfn2path(f"{link['reftarget']}/__init__")
                if (ROOT / f"{page}.py").exists():
                    link["refdomain"], link["reftarget"], link["reftargetid"] = "doc", page, None


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the parser and the links."""
    app.add_source_parser(PythonFile)
    app.add_transform(SourceLinks)
    app.add_transform(FolderLinks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
