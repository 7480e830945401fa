"""README.md as the home page: the contents that the sidebar shows, and index.html."""

import shutil
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.builders.html import StandaloneHTMLBuilder

CONTENTS = Path(__file__).parents[1] / "contents.md"


def add_contents(app: Sphinx, docname: str, source: list[str]) -> None:
    """Add the tables of contents, which GitHub would show as code, to the home page."""
    if docname == app.config.root_doc:
        source[0] += "\n" + CONTENTS.read_text()


def copy_home(app: Sphinx, error: Exception | None) -> None:
    """Make the home page what a server shows for the folder."""
    if error is None and isinstance(app.builder, StandaloneHTMLBuilder):
        home = Path(app.builder.get_outfilename(app.config.root_doc))
        shutil.copyfile(home, home.with_name("index.html"))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register both."""
    app.connect("source-read", add_contents)
    app.connect("build-finished", copy_home)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
