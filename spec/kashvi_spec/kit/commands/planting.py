"""``kashvi spec:plant``: run any command with a known bug in kashvi."""

from __future__ import annotations

import difflib
import shlex
import sys
from unittest import mock

import click
from kashvi_sim.commands import options

from kashvi.cli import cli
from kashvi.cli.options import examples

from ..museum import MUSEUM, Exhibit


@examples(
    """
kashvi spec:plant "constant backoff" spec:show RETRY-2
kashvi spec:plant "no worker reclaims" sim:sweep --seeds 50
kashvi spec:plant "early promotion" sim:run storm --faults all --token k2-…
kashvi spec:plant "constant backoff"
kashvi spec:plant
"""
)
@click.command(
    "spec:plant",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    options_metavar="",
)
@click.argument("bug", required=False)
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="COMMAND...")
def plant_command(bug: str | None, command: tuple[str, ...]) -> None:
    """Run another COMMAND of kashvi with BUG, one of the known-bad implementations, planted.

    Without COMMAND, describe the bug; without BUG, list all. Exit codes are the command's.
    """
    if bug is None:
        _list()
        return
    exhibit = named(bug)
    if not command:
        click.echo(f"{exhibit.name}: {exhibit.about}\nbreaks {', '.join(sorted(exhibit.clauses))}")
        return
    words = list(command)
    if words[0] == "sim:sweep":
        # Another process would not have the bug.
        if any(word.partition("=")[0] == "--cores" for word in words):
            raise click.UsageError("a bug is planted in this process alone: leave out --cores")
        words += ["--cores", "1"]
    again = f"kashvi spec:plant {shlex.quote(exhibit.name)}"
    repeated = mock.patch.multiple(options, KASHVI=again, DIRECT=False)
    with exhibit.planted(), repeated:
        cli.main(words, prog_name="kashvi", standalone_mode=False)


def _list() -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("bug", "what it does", "breaks", box=None, header_style="bold", pad_edge=False)
    for exhibit in MUSEUM.values():
        table.add_row(exhibit.name, exhibit.about, ", ".join(sorted(exhibit.clauses)))
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def named(bug: str, hint: str = "BUG") -> Exhibit:
    """The exhibit. Raises click.BadParameter."""
    if exhibit := MUSEUM.get(bug):
        return exhibit
    near = difflib.get_close_matches(bug, MUSEUM, n=3, cutoff=0.4)
    meant = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    raise click.BadParameter(f"no known-bad implementation {bug!r}{meant}", param_hint=hint)
