"""Code that names something public links to its entry in the reference."""

import re
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

NAME = re.compile(r"[A-Za-z_][\w.]*")
# Somebody else's: "OpenCV's `remap`"; and what follows that: "torch's `a` and `b`".
POSSESSIVE = re.compile(r"\Ws\s+$")
JOINED = re.compile(r"(,| and| or)\s+")
# What a name is looked up under, as it stands or as those who write about it shorten it.
PREFIXES = ("", "jaxwarp.", "jaxwarp.nn.", "jaxwarp.testing.")


class Names(SphinxPostTransform):
    """Make links of the code between backquotes that begins with a public name."""

    default_priority = 20  # links in general are resolved at 10

    def apply(self, **_: Any) -> None:
        """Look up every piece of code that no link contains yet."""
        objects = self.env.domains.python_domain.objects
        for code in list(self.document.findall(nodes.literal)):
            name = NAME.match(code.astext())
            if name is None or _is_linked(code) or _is_anothers(code):
                continue
            found = [p + name[0] for p in PREFIXES if p + name[0] in objects]
            if found and found[0] not in _described(code):
                entry = objects[found[0]]
                here = self.env.current_document.docname
                uri = self.app.builder.get_relative_uri(here, entry.docname)
                link = nodes.reference("", "", internal=True, refuri=f"{uri}#{entry.node_id}")
                code.replace_self(link)
                link += code


def _is_linked(node: nodes.Node) -> bool:
    """Tell whether a node is in a link, a title or a signature, where no other link belongs."""
    kinds = (nodes.reference, nodes.title, addnodes.desc_signature)
    while node.parent is not None:
        node = node.parent
        if isinstance(node, kinds):
            return True
    return False


def _is_anothers(code: nodes.Node) -> bool:
    place = code.parent.index(code)
    before = code.parent[place - 1].astext() if place else ""
    if JOINED.fullmatch(before) and place > 1:
        return isinstance(code.parent[place - 2], nodes.literal) and _is_anothers(
            code.parent[place - 2]
        )
    return bool(POSSESSIVE.search(before))


def _described(node: nodes.Node) -> set[str]:
    """Return what a node is part of the description of."""
    found: set[str] = set()
    while node.parent is not None:
        node = node.parent
        if isinstance(node, addnodes.desc):
            signatures = node.findall(addnodes.desc_signature)
            found |= {f"{s['module']}.{s['fullname']}" for s in signatures}
    return found


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the transform."""
    app.add_post_transform(Names)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
