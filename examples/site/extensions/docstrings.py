"""Docstrings as reStructuredText, which Sphinx takes them for, and signatures to be read.

Docstrings are written to be read where they stand: "(N, *spatial, C)" is a shape and no
emphasis. Of signatures Python knows only what their types expand to.
"""

import re
from typing import Any

from sphinx.application import Sphinx

# Code between backquotes stays as it is, and so do words between two stars; any other star
# before a name is a star.
STAR = re.compile(r"(``.*?``|`[^`]*`|(?<!\w)\*[^\s*,()][^*,()]*\*(?!\w))|(?<![\w*])(\*+)(?=\w)")


def escape(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Escape the stars of shapes, and make code of what stands between single backquotes."""
    lines[:] = [line if _is_code(line) else _escaped(line) for line in lines]


def _is_code(line: str) -> bool:
    return line.lstrip().startswith((">>>", "...", ".. "))


def _escaped(line: str) -> str:
    line = STAR.sub(lambda m: m[1] or "".join(rf"\{star}" for star in m[2]), line)
    return re.sub(r"(?<![`:\w])`([^`]+)`(?!`)", r"``\1``", line)


# What types expand to, and how the source spells them.
SPELLINGS = {
    r"[\w.~]*_Buffer \| .*_NestedSequence\[[^\]]*complex \| bytes \| str\]": "ArrayLike",
    r"~?[\w.]*?(\w+)\[jaxlib\._jax\.Array, ' ?([^']*)'\](?: \| ~?[\w.]*\1\[[\w.]+, ' ?\2'\])+"
    r"(?: \| ~numpy\.number \| int \| float)?": r"\1[ArrayLike, '\2']",
    r"str \| type\[[\w.~]*Any\] \| [\w.~]*dtype \| [\w.~]*SupportsDType": "DTypeLike",
    r"<class 'jax\.numpy\.(\w+)'>": r"jnp.\1",
    r"~?jaxlib\._jax\.Array \| [~\w.]*ndarray \| [~\w.]*bool \| [~\w.]*number \| bool"
    r" \| int \| float \| complex": "ArrayLike",
    r"~?jaxlib\._jax\.": "",
    r"Array, ' ": "Array, '",
}


def respell(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, arguments: str, result: str
) -> tuple[str, str] | None:
    """Write types in a signature as the source has them; a protocol is not called."""
    if getattr(obj, "_is_protocol", False):
        return "", ""
    return None if arguments is None else (_respelled(arguments), _respelled(result))


def _respelled(text: str) -> str:
    for pattern, spelling in SPELLINGS.items():
        text = re.sub(pattern, spelling, text or "")
    return text


def setup(app: Sphinx) -> dict[str, bool]:
    """Register what is done to docstrings, before napoleon reads their sections, and signatures."""
    app.connect("autodoc-process-signature", respell)
    app.connect("autodoc-process-docstring", escape, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
