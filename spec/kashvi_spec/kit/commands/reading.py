"""``kashvi spec:list`` and ``spec:show``: read the clauses, watch an example run."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import click

from kashvi.cli.options import examples, json_option
from kashvi.cli.output import folded, terminal_width
from kashvi.text import json_line, visible

from ...clauses import AREAS, Clause, load


@examples(
    """
kashvi spec:list
kashvi spec:list retry delay
kashvi spec:list --json
"""
)
@click.command("spec:list")
@click.argument("areas", nargs=-1, metavar="[AREA]...")
@json_option
def list_command(areas: tuple[str, ...], as_json: bool) -> None:
    """List the clauses of some AREAs, or of all, one line each."""
    wanted = [area.lower() for area in areas]
    if unknown := [area for area in wanted if area not in AREAS]:
        raise click.BadParameter(f"no area {unknown[0]!r}; there are {', '.join(AREAS)}", param_hint="AREA")
    clauses = [clause for clause in load() if not wanted or clause.area in wanted]
    if as_json:
        click.echo(json_line(clauses))
        return
    area = ""
    for clause in clauses:
        if clause.area != area:
            area = clause.area
            click.secho(f"\n{area}", bold=True)
        click.echo(folded(f"  {clause.id:<13} {clause.level:<6} {clause.kind:<7} {clause.sentence}", 31))
    counts = Counter(clause.kind for clause in clauses)
    click.echo(f"\n{len(clauses)} clauses: " + ", ".join(f"{n} {kind}" for kind, n in sorted(counts.items())))


@examples(
    """
kashvi spec:show RETRY-2
kashvi spec:show delivery-5 --json
"""
)
@click.command("spec:show")
@click.argument("clause_id", metavar="ID")
@json_option
def show_command(clause_id: str, as_json: bool) -> None:
    """Show one clause: its prose, its examples, and each example's run in virtual time, as a timeline.

    Exit codes: 0 its examples hold, 1 one does not, 2 wrong usage.
    """
    clause = next((clause for clause in load() if clause.id == clause_id.upper()), None)
    if clause is None:
        raise click.BadParameter(f"no clause {clause_id!r}; spec:list has them all", param_hint="ID")
    ran = [_run(text) for text in clause.examples]
    if as_json:
        click.echo(json_line({"clause": clause, "runs": ran}))
    else:
        _show(clause, ran)
    if any(one["mistakes"] or one["violations"] for one in ran):
        sys.exit(1)


def _run(text: str) -> dict[str, Any]:
    from kashvi_sim.show.timeline import Timeline

    from ..example.examples import run
    from ..example.situation import example_of

    ran = run(example_of(text))
    world = ran.world
    return {
        "timeline": [line for _, line in Timeline(world.names).lines(world.times, world.events)],
        "mistakes": ran.mistakes,
        "violations": [violation._asdict() for violation in ran.violations],
    }


def _show(clause: Clause, ran: list[dict[str, Any]]) -> None:
    click.secho(folded(f"{clause.id} {clause.level}: {clause.sentence}"), bold=True)
    click.echo()
    width = min(terminal_width() or 100, 100)
    click.echo(click.wrap_text(clause.why, width=width, initial_indent="  ", subsequent_indent="  "))
    click.echo(f"\n  {clause.kind}" + (f", judged by {clause.predicate!r}" if clause.predicate else ""))
    for promise in clause.promises:
        click.echo(folded(f"  covers: {promise}", 4))
    for test in clause.tests:
        click.echo(folded(f"  test: {test}", 4))
    for code in clause.code:
        click.echo("\n" + _indented(code))
    for text, one in zip(clause.examples, ran, strict=True):
        click.echo("\n" + _indented(text))
        for line in one["timeline"]:
            click.secho(folded(line, 47), dim=True)
        for why in (*one["mistakes"], *(f"{v['predicate']}: {v['why']}" for v in one["violations"])):
            click.secho(folded(visible(f"  BROKEN  {why}"), 4), fg="red", bold=True)
        if not one["mistakes"] and not one["violations"]:
            click.secho("  as expected", fg="green")


def _indented(text: str) -> str:
    return "\n".join(folded(f"  | {line}".rstrip(), 6) for line in text.rstrip().splitlines())
