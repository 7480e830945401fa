"""Docstrings as reStructuredText, which Sphinx takes them for.

They are written to be read where they stand: "(N, *spatial, C)" is a shape and no emphasis.
"""

import re
from typing import Any

from sphinx.application import Sphinx

# Code between backquotes stays as it is; a star before a name outside it is a star.
STAR = re.compile(r"(``.*?``|`[^`]*`)|(?<![\w*])(\*+)(?=\w)")


def escape(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Escape the stars of shapes, and make code of what stands between single backquotes."""
    lines[:] = [line if _is_code(line) else _escaped(line) for line in lines]


def _is_code(line: str) -> bool:
    return line.lstrip().startswith((">>>", "...", ".. "))


def _escaped(line: str) -> str:
    line = STAR.sub(lambda m: m[1] or "".join(rf"\{star}" for star in m[2]), line)
    return re.sub(r"(?<![`:\w])`([^`]+)`(?!`)", r"``\1``", line)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register what is done to every docstring, before napoleon reads its sections."""
    app.connect("autodoc-process-docstring", escape, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
