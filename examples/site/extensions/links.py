"""Every link in the finished pages leads somewhere: a page, an anchor on it, a file.

Sphinx checks links between documents while it reads them; this looks at what came out, the
theme's own links and the API reference's, too. Other sites are not asked: of a link to one only
the form is checked.
"""

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)


class Page(HTMLParser):
    """The anchors of a page, and what it links to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take an element's id, and the address it has."""
        for name, value in attrs:
            if name == "id" and value:
                self.anchors.add(value)
            elif name in ("href", "src") and value is not None:
                self.links.add(value)


def problems(root: Path) -> Iterator[str]:
    """Yield a line for each link that leads nowhere."""
    pages = {path: Page(path) for path in root.rglob("*.html")}
    for path, page in pages.items():
        for link in sorted(page.links):
            if complaint := _complaint(link, path, pages):
                yield f"{path.relative_to(root)}: {link}: {complaint}"


def _complaint(link: str, path: Path, pages: dict[Path, Page]) -> str:
    parts = urlsplit(link)
    if parts.scheme in ("data", "mailto"):
        return ""
    if parts.scheme or parts.netloc:
        well_formed = parts.scheme == "https" and "." in parts.netloc and " " not in link
        return "" if well_formed else "not an https address"
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.is_file():
        return "no such file"
    anchor = unquote(parts.fragment)
    if anchor and target in pages and anchor not in pages[target].anchors:
        return "no such anchor"
    return ""


def check(app: Sphinx, error: Exception | None) -> None:
    """Warn of each, which a strict build takes for an error."""
    if error is None and app.builder.name == "html":
        for problem in problems(Path(app.outdir)):
            logger.warning("a link leads nowhere: %s", problem)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the check, after all else."""
    app.connect("build-finished", check, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
