"""The colours of every page, for the head of a page."""

from __future__ import annotations

from importlib.resources import files

from markupsafe import Markup

TOKENS = Markup(files(__package__).joinpath("tokens.css").read_text("utf-8"))
"""CSS variables, light and dark."""
