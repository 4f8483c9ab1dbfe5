"""``kashvi spec:conformance``: test drivers against the clauses."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kashvi.cli.options import examples, json_option
from kashvi.cli.stdout import elsewhere, others_out
from kashvi.errors import KashviError
from kashvi.runtime import SystemRuntime

if TYPE_CHECKING:
    from ...clauses import Clause
    from ..driver.conformance import Verdict
    from ..driver.report import Column

FILE = click.Path(path_type=Path, dir_okay=False, writable=True)


def folder_is_there(context: click.Context, option: click.Parameter, path: Path | None) -> Path | None:
    """Check the folder of an output file before the run. Raises click.BadParameter."""
    if path is not None and not path.parent.is_dir():
        raise click.BadParameter(f"there is no folder {str(path.parent)!r}")
    return path


MARKS = {"passed": ("✓", "green"), "failed": ("✗", "red"), "incapable": ("–", "yellow"), "untried": ("·", "yellow")}
COUNTED = {"passed": "passed", "failed": "failed", "incapable": "incapable", "untried": "not tried here"}
VERBS = {"failed": ("breaks", "red"), "incapable": ("is not held to", "yellow")}


@examples(
    """
kashvi spec:conformance --driver mypackage.conformance:driver
kashvi spec:conformance --driver memory --driver redis://localhost:6379/0 --html matrix.html
kashvi spec:conformance --driver mypackage.conformance:driver --clauses RETRY,DELAY-3 --json
"""
)
@click.command("spec:conformance")
@click.option(
    "--driver",
    "drivers",
    multiple=True,
    required=True,
    metavar="DRIVER",
    help="memory, fakeredis, a redis:// URL, or package.module:factory of a DriverUnderTest. May be repeated.",
)
@click.option(
    "--clauses", "wanted", default="", metavar="IDS", help="Areas or ids, such as RETRY,DELAY-3.  [default: all]"
)
@click.option("--strict", is_flag=True, help="Treat SHOULD as MUST, and a missing ability of the driver as a failure.")
@click.option(
    "--tests",
    type=click.Path(path_type=Path, exists=True),
    multiple=True,
    help="pytest's JUnit file: adds the library itself. A skipped test is a failure if CI is set. May be repeated.",
)
@json_option
@click.option("--junit", type=FILE, callback=folder_is_there, help="Write a JUnit file.")
@click.option("--html", type=FILE, callback=folder_is_there, help="Write the matrix as a page.")
def conformance_command(
    drivers: tuple[str, ...],
    wanted: str,
    strict: bool,
    tests: tuple[Path, ...],
    as_json: bool,
    junit: Path | None,
    html: Path | None,
) -> None:
    """Test drivers against every clause that a driver can keep or break.

    Examples run through the real worker in virtual time, steps call the driver alone. On a Redis, it uses only keys
    that begin with kashvi-spec:.

    Exit codes: 0 all conform, 1 a clause is broken, 2 wrong usage, or a missing driver.
    """
    from ...clauses import load
    from ..driver import report
    from ..driver.conformance import about_drivers, selected

    try:
        clauses = selected(load(), wanted)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--clauses") from error
    of_drivers = about_drivers(clauses)
    if not of_drivers and not tests:
        raise click.BadParameter(f"no clause of {wanted} is about drivers", param_hint="--clauses")
    with elsewhere() if as_json else nullcontext():  # a driver of the user's may print
        columns = [_held(subject, of_drivers, quiet=as_json) for subject in _opened(drivers)]
    if tests:
        columns.append(_library(tests, clauses))
    if junit:
        report.write_junit(columns, junit)
    if html:
        from ..driver.matrix import write_html

        write_html(columns, html, strict)
    if as_json:
        click.echo(report.as_json(columns, strict))
        others_out()
    else:
        _show(columns)
    if not all(column.conforms(strict) for column in columns):
        sys.exit(1)


def _opened(drivers: tuple[str, ...]) -> list[Any]:
    from ..driver.subject import subject_of

    sys.path.insert(0, os.getcwd())  # noqa: PTH109
    if twice := [text for n, text in enumerate(drivers) if text in drivers[:n]]:
        raise click.BadParameter(f"{twice[0]} is there twice", param_hint="--driver")
    try:
        return [subject_of(text) for text in drivers]
    except KashviError as error:
        raise click.BadParameter(str(error), param_hint="--driver") from error


def _held(subject: Any, clauses: list[Clause], *, quiet: bool) -> Column:
    from ..driver.conformance import conformance

    def all_of_it() -> dict[str, Verdict]:
        with click.progressbar(
            conformance(subject, clauses),
            length=len(clauses),
            label=f"{subject.name:<16}",
            file=sys.stderr,
            hidden=quiet,
        ) as verdicts:
            return {verdict.clause.id: verdict for verdict in verdicts}

    return _timed(subject.name, all_of_it)


def _library(tests: tuple[Path, ...], clauses: list[Clause]) -> Column:
    from ..example.itself import library, tests_of

    def verdicts() -> dict[str, Verdict]:
        return {one.clause.id: one for one in library(clauses, tests_of(tests), ci=bool(os.environ.get("CI")))}

    return _timed("kashvi itself", verdicts)


def _timed(name: str, held: Callable[[], dict[str, Verdict]]) -> Column:
    from ..driver.report import Column

    runtime = SystemRuntime()
    began = runtime.monotonic()
    verdicts = held()
    return Column(name, verdicts, runtime.monotonic() - began)


def _show(columns: list[Column]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("clause", "", box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column.name, justify="center")
    clauses = {id_: verdict.clause for column in columns for id_, verdict in column.verdicts.items()}
    for id_, clause in clauses.items():
        cells = [MARKS[c.verdicts[id_].outcome] if id_ in c.verdicts else ("", "") for c in columns]
        table.add_row(id_, Text(clause.sentence), *(f"[{style}]{mark}[/]" if mark else "" for mark, style in cells))
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    for column in columns:
        for verdict in column.verdicts.values():
            for reason in verdict.reasons if verdict.outcome in VERBS else ():
                verb, colour = VERBS[verdict.outcome]
                click.secho(f"\n{column.name} {verb} {verdict.clause.id}: {reason}", fg=colour)
        if untried := [verdict for verdict in column.verdicts.values() if verdict.outcome == "untried"]:
            click.secho(f"\n{column.name}, not tried here:", fg="yellow")
            for verdict in untried:
                click.echo(f"  {verdict.clause.id}: {'; '.join(verdict.reasons)}")
    click.echo()
    for column in columns:
        counted = column.counted()
        said = ", ".join(f"{counted[outcome]} {word}" for outcome, word in COUNTED.items() if counted[outcome])
        click.echo(f"{column.name}: {said} in {column.seconds:.1f} s")
