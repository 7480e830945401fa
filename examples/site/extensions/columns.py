"""Two blocks of code side by side, from the tables that GitHub shows them in.

In the sources a table in HTML has a block of code in each of its two cells. On a narrow
screen a table cannot come apart; these columns do.
"""

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

OPENING = re.compile(r"<table><tr><th>([^<]+)</th><th>([^<]+)</th></tr><tr><td>\s*")
TABLE = (nodes.raw, nodes.literal_block, nodes.raw, nodes.literal_block, nodes.raw)


class Columns(SphinxTransform):
    """Replace what makes a table of two blocks of code by two columns."""

    default_priority = 200

    def apply(self, **_: Any) -> None:
        """Find the tables and replace each."""
        for start in list(self.document.findall(nodes.raw)):
            if heads := OPENING.fullmatch(start.astext()):
                self._replace(start, heads.groups())

    def _replace(self, start: nodes.raw, heads: tuple[str, ...]) -> None:
        parent = start.parent
        first = parent.index(start)
        table = parent[first : first + len(TABLE)]
        if tuple(map(type, table)) != TABLE:
            raise ValueError(f"{start.source}:{start.line}: not a table of two blocks of code")
        columns = nodes.container(classes=["columns"])
        for head, code in zip(heads, table[1::2], strict=True):
            title = nodes.paragraph("", head, classes=["column-title"])
            columns += nodes.container("", title, code, classes=["column"])
        parent[first : first + len(TABLE)] = [columns]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the transform."""
    app.add_transform(Columns)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
