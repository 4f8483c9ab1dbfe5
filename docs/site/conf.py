"""Builds the site from the pages of the repository, as they are: ``nox -s docs``."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))

from diagrams import draw  # noqa: E402
from generate import ExampleLexer, write_lessons, write_pages  # noqa: E402

from kashvi import __version__  # noqa: E402

project = "kashvi"
release = version = __version__
root_doc = "docs/site/index"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
include_patterns = [
    "*.md",
    "docs/**.md",
    "spec/*.md",
    "spec/decisions/*.md",
    "sim/README.md",
    "examples/*/README.md",
    "benchmarks/*.md",
]
exclude_patterns = ["RELEASE.md", "CODE_OF_CONDUCT.md", "build/**", ".nox/**"]
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
html_theme = "furo"
html_title = "kashvi"
EXTRA = HERE / "made" / "extra"
EXTRA.mkdir(parents=True, exist_ok=True)  # or Sphinx would leave it out
html_extra_path = ["extra", "made/extra"]
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}
highlight_language = "text"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_use_unqualified_type_names = True
suppress_warnings = ["myst.xref_missing_lexer"]


PARAMETER = re.compile(r"[a-z_]+(, [a-z_]+)*: ")


def as_list(app: Sphinx, kind: str, name: str, about: object, options: object, lines: list[str]) -> None:
    """Make a list of a docstring's lines ``name: text``, each with its indented lines."""
    made: list[str] = []
    inside = False
    for line in lines:
        begins = bool(PARAMETER.match(line)) and not line.endswith("::")
        goes_on = inside and line.startswith("    ")
        if begins != inside and not goes_on and made and made[-1]:
            made.append("")
        inside = begins or goes_on
        made.append(f"- {line}" if begins else line[2:] if goes_on else line)
    lines[:] = made


def drawn(app: Sphinx, page: str, source: list[str]) -> None:
    """Draw the diagrams of a page."""
    source[0] = draw(source[0])


def setup(app: Sphinx) -> None:
    """Add the lexer of the examples, draw the diagrams, and write the pages that are generated."""
    app.add_lexer("example", ExampleLexer)
    app.connect("source-read", drawn)
    app.connect("autodoc-process-docstring", as_list)
    app.connect("builder-inited", lambda app: write_pages(HERE / "made"))
    app.connect("builder-inited", lambda app: write_lessons(EXTRA / "lessons"))
