"""The documentation site: the repository's own documents and docstrings, as pages.

    sphinx-build -W --keep-going -n -c examples/site . build/site

Nothing is written twice. Pages are the Markdown files that are read on GitHub, at the same
paths, so that a link between two of them leads somewhere in both places; scripts and modules
that they link to are pages, too.
"""

import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE / "extensions"), str(ROOT)]

import jaxwarp  # noqa: E402  (from this checkout, which only now can be found)

# Where the project is kept stands in pyproject.toml.
URLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]

project = "jaxwarp"
author = copyright = "the jaxwarp authors"
release = jaxwarp.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    # and those in this folder
    "columns",
    "docstrings",
    "formulas",
    "links",
    "names",
    "sources",
    "welcome",
]

# Pages ------------------------------------------------------------------------

root_doc = "README"
source_suffix = {".md": "markdown", ".py": "python"}
include_patterns = [  # by name at the top, where examples leave files of theirs
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "examples/*.md",
    "examples/*.py",
    "examples/figures/*.py",
    "examples/guide/*.md",
    "examples/project/*.md",
    "examples/reference/*.md",
    "jaxwarp/**.py",
    "parity_tests/**.py",
    "parity_tests/results/*.md",
    "parity_tests/compiled/README.md",
]
exclude_patterns = ["examples/README.md", "examples/site", ".*", "build", "dist"]
myst_heading_anchors = 4  # as GitHub has them
myst_enable_extensions = ["dollarmath"]
nitpicky = True

# The API reference ------------------------------------------------------------

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autosummary_generate = False
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
napoleon_attr_annotations = False
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
# Other libraries' documentation is not read here: what is theirs stays unlinked, and so does
# what is private.
nitpick_ignore_regex = [("py:.*", r"(?!jaxwarp).*|.*\._\w+")]

# The pages' looks -------------------------------------------------------------

html_theme = "furo"
html_baseurl = URLS["Documentation"] + "/"
html_theme_options = {
    "source_repository": URLS["Source"],
    "source_branch": "main",
    "source_directory": "",
    "top_of_page_buttons": ["view"],
}
html_math_renderer = "mathml"
html_title = f"jaxwarp {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
pygments_style = "a11y-light"  # comments as dark as text must be
pygments_dark_style = "github-dark"
