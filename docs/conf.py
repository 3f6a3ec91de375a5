"""The documentation site: `sphinx-build -W docs build/docs`."""

import sys
from pathlib import Path

import kdjax

sys.path.insert(0, str(Path(__file__).parent))
import fields

project, author, copyright = "kdjax", "the kdjax authors", "2026, the kdjax authors"
version = release = kdjax.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
html_theme, html_title = "furo", f"kdjax {version}"
exclude_patterns = ["_*"]
suppress_warnings = ["misc.highlighting_failure"]  # the cells of notebooks have ! and %

nb_execution_mode = "off"  # the notebooks are committed executed
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_use_ivar = True


def setup(app):
    """Writes the pages that are made of the code, before the others are read."""
    Path(app.srcdir, "_fields.md").write_text(fields.page())
