"""The matrix as one page: clauses down, implementations across, prose and reasons on a click."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from kashvi_sim.show.timeline import Timeline
from kashvi_sim.show.tokens import TOKENS
from markdown_it import MarkdownIt
from markupsafe import Markup

from ...clauses import AREAS, Clause, load, text_of
from ..example.examples import run
from ..example.situation import example_of
from .report import Column

LINES_MAX = 40
"""The most lines of a timeline."""
MARKS = {"passed": "✓", "failed": "✗", "incapable": "–", "unobserved": "?", "untried": "·", "": ""}


def write_html(columns: list[Column], path: Path, strict: bool = False) -> None:
    """Write a self-contained page: no network, no script."""
    markdown = MarkdownIt()
    env = Environment(loader=PackageLoader("kashvi_spec.kit.driver", ""), autoescape=True, undefined=StrictUndefined)
    env.filters["markdown"] = lambda text: Markup(markdown.render(text))
    env.filters["inline"] = lambda text: Markup(markdown.renderInline(text))
    page = env.get_template("matrix.html").render(
        areas=[_area(area, columns) for area in AREAS], columns=columns, strict=strict, marks=MARKS, tokens=TOKENS
    )
    path.write_text(page, encoding="utf-8")


def _area(area: str, columns: list[Column]) -> dict[str, Any]:
    introduction = text_of(area).partition("\n## ")[0].partition("\n")
    return {
        "name": introduction[0].lstrip("# "),
        "prose": introduction[2],
        "clauses": [_row(clause, columns) for clause in load() if clause.area == area],
    }


def _row(clause: Clause, columns: list[Column]) -> dict[str, Any]:
    verdicts = [column.verdicts.get(clause.id) for column in columns]
    return {
        "clause": clause,
        "cells": list(zip(columns, verdicts, strict=True)),
        "broken": any(verdict is not None and verdict.outcome == "failed" for verdict in verdicts),
        "examples": [(text, _timeline(text)) for text in clause.examples],
    }


def _timeline(example: str) -> str:
    """The timeline of an example in memory."""
    world = run(example_of(example)).world
    lines = [_seconds(line) for _, line in Timeline(world.names).lines(world.times, world.events)]
    more = [f"… and {len(lines) - LINES_MAX:,} more"] if len(lines) > LINES_MAX else []
    return "\n".join(lines[:LINES_MAX] + more)


def _seconds(line: str) -> str:
    """The line with its time cut to milliseconds."""
    return re.sub(r"(\.\d{3})000\b", r"\1", line)
