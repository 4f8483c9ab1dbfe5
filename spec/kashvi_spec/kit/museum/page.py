"""The kill matrix as one page: clauses down, mutants across, with the verdicts."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from kashvi_sim.show.tokens import TOKENS

from ...clauses import AREAS
from .mutants import Row, judging


def write_html(rows: list[Row], path: Path, seconds: float) -> None:
    """Write a self-contained page: no network, no script."""
    env = Environment(loader=PackageLoader("kashvi_spec.kit.museum", ""), autoescape=True, undefined=StrictUndefined)
    mutants = [row for row in rows if not row.exhibit.legal]
    page = env.get_template("mutants.html").render(
        areas=[(area, [row for row in mutants if row.exhibit.area == area]) for area in AREAS],
        clauses=judging(),
        mutants=mutants,
        variants=[row for row in rows if row.exhibit.legal],
        wrong=[row for row in rows if row.wrong],
        seconds=seconds,
        tokens=TOKENS,
    )
    path.write_text(page, encoding="utf-8")
