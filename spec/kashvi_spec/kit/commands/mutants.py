"""``kashvi spec:mutants``: test the clauses against the museum of known-bad implementations."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kashvi.cli.options import examples, json_option
from kashvi.runtime import SystemRuntime
from kashvi.text import json_line

from .conformance import FILE, folder_is_there

if TYPE_CHECKING:
    from rich.console import Console

    from ..museum import Exhibit
    from ..museum.mutants import Matrix, Row


@examples(
    """
kashvi spec:mutants
kashvi spec:mutants --clauses RETRY,DELAY-3
kashvi spec:mutants "retry off by one" "early promotion" --json
kashvi spec:mutants --html mutants.html
"""
)
@click.command("spec:mutants")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--clauses",
    "wanted",
    default="",
    metavar="IDS",
    help="Only exhibits of areas or ids, such as RETRY,DELAY-3.  [default: all]",
)
@json_option
@click.option("--html", type=FILE, callback=folder_is_there, help="Write the matrix as a page.")
def mutants_command(names: tuple[str, ...], wanted: str, as_json: bool, html: Path | None) -> None:
    """Test all clauses on known-bad implementations: its own clauses must reject each, and no unrelated one.

    Each exhibit lists its own clauses, and those that reject a consequence. All clauses must accept legal variants,
    which differ from kashvi. NAME is an exhibit or a variant; the default is all.

    Exit codes: 0 all verdicts are right, 1 a bug survives or an unrelated clause rejects it, a variant is rejected, or
    kashvi itself breaks a clause, 2 wrong usage.
    """
    from ..museum.mutants import Matrix, NotKept

    chosen = _chosen(names, wanted)
    began = SystemRuntime().monotonic()
    try:
        rows = _shown_under_way(Matrix(chosen), len(chosen), quiet=as_json)
    except NotKept as error:
        raise click.ClickException(str(error)) from error
    seconds = SystemRuntime().monotonic() - began
    if html:
        from ..museum.page import write_html

        write_html(rows, html, seconds)
    if as_json:
        click.echo(json_line(_plain(rows, seconds)))
    else:
        _show(rows, seconds)
    if any(row.wrong for row in rows):
        sys.exit(1)


def _chosen(names: tuple[str, ...], wanted: str) -> list[Exhibit]:
    from ...clauses import load
    from ..driver.conformance import selected
    from ..museum import MUSEUM, VARIANTS

    known = MUSEUM | VARIANTS
    if unknown := [name for name in names if name not in known]:
        raise click.BadParameter(f"none is called {unknown[0]!r}; spec:mutants --json has all names", param_hint="NAME")
    try:
        ids = {clause.id for clause in selected(load(), wanted)}
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--clauses") from error
    chosen = [known[name] for name in names] if names else list(known.values())
    chosen = [one for one in chosen if not wanted or one.clauses & ids]
    if not chosen:
        raise click.BadParameter(f"none of them is about {wanted}", param_hint="--clauses")
    return chosen


def _shown_under_way(matrix: Matrix, total: int, *, quiet: bool) -> list[Row]:
    """The rows in the order of the museum, with a progress bar."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    rows: dict[str, Row] = {}
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        console=Console(stderr=True), disable=quiet, auto_refresh=False,
    )  # fmt: skip
    with bar:
        task = bar.add_task("mutants and variants", total=total)
        for row in matrix.rows(os.cpu_count() or 1):
            rows[row.exhibit.name] = row
            wrong = sum(one.wrong != "" for one in rows.values())
            bar.update(task, advance=1, description=f"mutants and variants, {wrong} not as they say", refresh=True)
    return [rows[exhibit.name] for exhibit in matrix.exhibits]


def _plain(rows: list[Row], seconds: float) -> dict[str, object]:
    return {
        "as_they_say": not any(row.wrong for row in rows),
        "seconds": round(seconds, 3),
        "clauses": _by_clause(rows),
        "mutants": [_plain_row(row) for row in rows if not row.exhibit.legal],
        "variants": [_plain_row(row) for row in rows if row.exhibit.legal],
    }


def _by_clause(rows: list[Row]) -> dict[str, list[str]]:
    """The own exhibits that each clause rejects."""
    found: dict[str, list[str]] = {}
    for row in rows:
        for clause in sorted(row.exhibit.clauses & row.rejected.keys()):
            found.setdefault(clause, []).append(row.exhibit.name)
    return dict(sorted(found.items()))


def _plain_row(row: Row) -> dict[str, object]:
    exhibit = row.exhibit
    return {
        "name": exhibit.name,
        "about": exhibit.about,
        "source": exhibit.source,
        "clauses": sorted(exhibit.clauses),
        "also": sorted(exhibit.also),
        "rejected_by": row.rejected,
        "wrong": row.wrong,
        "tried": row.tried,
        "seconds": round(row.seconds, 3),
    }


def _show(rows: list[Row], seconds: float) -> None:
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 120)
    mutants = [row for row in rows if not row.exhibit.legal]
    variants = [row for row in rows if row.exhibit.legal]
    for area in dict.fromkeys(row.exhibit.area for row in mutants):
        _table(console, area, [row for row in mutants if row.exhibit.area == area])
    if variants:
        _table(console, "legal variants", variants)
    for row in rows:
        if row.wrong:
            click.secho(f"\n{row.exhibit.name}: {row.wrong}", fg="red", bold=True)
            for clause, reasons in row.rejected.items():
                click.echo(f"  {clause}: {reasons[0]}")
    click.echo()
    kept = [row for row in mutants if not row.wrong]
    if mutants:
        own = {clause for row in mutants for clause in row.exhibit.clauses}
        click.echo(
            f"{len(kept)} of {len(mutants)} mutants, of {len(own)} clauses, are rejected by their own and no other."
        )
    if variants:
        click.echo(f"{sum(not row.wrong for row in variants)} of {len(variants)} legal variants are accepted by all.")
    click.echo(f"{seconds:.1f} s")


def _table(console: Console, title: str, rows: list[Row]) -> None:
    """Print a table, wrong verdicts first."""
    from rich.table import Table
    from rich.text import Text

    table = Table("mutant", "source", "rejected by", "and", title=title, title_justify="left", box=None, pad_edge=False)
    for row in sorted(rows, key=lambda row: not row.wrong):
        exhibit = row.exhibit
        by = Text(", ".join(_ids(exhibit.clauses & row.rejected.keys())), "green")
        if row.wrong:
            by.append(f" {row.wrong}", "bold red")
        elif exhibit.legal:
            by = Text("no clause", "green")
        follows = Text(", ".join(_ids(row.rejected.keys() - exhibit.clauses)), "dim")
        table.add_row(Text(exhibit.name), Text(exhibit.source, "dim"), by, follows)
    console.print(table)
    console.print()


def _ids(clauses: set[str] | frozenset[str]) -> list[str]:
    return sorted(clauses, key=lambda one: (one.rpartition("-")[0], int(one.rpartition("-")[2])))
