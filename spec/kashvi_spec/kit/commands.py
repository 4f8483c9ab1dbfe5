"""``kashvi spec:list``, ``spec:show``, ``spec:check``: read the clauses, watch one run, judge a trace."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import click
import msgspec

from kashvi.cli.setup import examples, json_option

from ..clauses import AREAS, Clause, load
from ..traces import NotATrace, Verdict, judge, read


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
    """List the clauses: what must hold of kashvi, one line each; of some areas, or of all."""
    wanted = [area.lower() for area in areas]
    if unknown := [area for area in wanted if area not in AREAS]:
        raise click.BadParameter(f"no area {unknown[0]!r}; there are {', '.join(AREAS)}", param_hint="AREA")
    clauses = [clause for clause in load() if not wanted or clause.area in wanted]
    if as_json:
        click.echo(msgspec.json.encode(clauses).decode())
        return
    area = ""
    for clause in clauses:
        if clause.area != area:
            area = clause.area
            click.secho(f"\n{area}", bold=True)
        click.echo(f"  {clause.id:<13} {clause.level:<6} {clause.kind:<7} {clause.sentence}")
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
        click.echo(msgspec.json.encode({"clause": clause, "runs": ran}).decode())
    else:
        _show(clause, ran)
    if any(one["mistakes"] or one["violations"] for one in ran):
        sys.exit(1)


def _run(text: str) -> dict[str, Any]:
    from kashvi_sim.timeline import Timeline

    from .examples import run
    from .situation import example_of

    ran = run(example_of(text))
    world = ran.world
    return {
        "timeline": [line for _, line in Timeline(world.names).lines(world.times, world.events)],
        "mistakes": ran.mistakes,
        "violations": [violation._asdict() for violation in ran.violations],
    }


def _show(clause: Clause, ran: list[dict[str, Any]]) -> None:
    click.secho(f"{clause.id} {clause.level}: {clause.sentence}", bold=True)
    click.echo()
    click.echo(click.wrap_text(clause.why, width=100, initial_indent="  ", subsequent_indent="  "))
    click.echo(f"\n  {clause.kind}" + (f", judged by {clause.predicate!r}" if clause.predicate else ""))
    for promise in clause.promises:
        click.echo(f"  covers: {promise}")
    for test in clause.tests:
        click.echo(f"  test: {test}")
    for code in clause.code:
        click.echo("\n" + _indented(code))
    for text, one in zip(clause.examples, ran, strict=True):
        click.echo("\n" + _indented(text))
        for line in one["timeline"]:
            click.secho(line, dim=True)
        for why in (*one["mistakes"], *(f"{v['predicate']}: {v['why']}" for v in one["violations"])):
            click.secho(f"  BROKEN  {why}", fg="red", bold=True)
        if not one["mistakes"] and not one["violations"]:
            click.secho("  as expected", fg="green")


def _indented(text: str) -> str:
    return "\n".join(f"  | {line}".rstrip() for line in text.rstrip().splitlines())


@examples(
    """
kashvi sim:run storm --seed 7 --trace t.jsonl && kashvi spec:check t.jsonl
kashvi spec:check yesterday.jsonl --unfinished --json
"""
)
@click.command("spec:check")
@click.argument("trace", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option(
    "--max-attempts", type=click.IntRange(1), help="The limit in force.  [default: what the trace says, or 3]"
)
@click.option("--unfinished", is_flag=True, help="The trace was cut off: don't judge what is missing at its end.")
@click.option("--rows-told", is_flag=True, help="Every recorded failure is told of: judge those that are not.")
@json_option
def check_command(trace: Path, max_attempts: int | None, unfinished: bool, rows_told: bool, as_json: bool) -> None:
    """Judge TRACE, a file of events as JSON lines, against every clause that a trace can break.

    What a fault of the simulator excuses in sim:run is not excused here: a server that forgets is a broken promise.
    Exit codes: 0 nothing broken, 1 a clause is broken, 2 wrong usage, or no event of kashvi in the file.
    """
    passed_over: Counter[str] = Counter()
    torn: list[int] = []
    try:
        with trace.open("rb") as lines:
            found = list(read(lines, passed_over, torn))
    except NotATrace as error:
        raise click.BadParameter(f"{trace}: {error}", param_hint="TRACE") from error
    if not found:
        raise click.BadParameter(f"{trace} holds no event of kashvi", param_hint="TRACE")
    verdict = judge(found, max_attempts=max_attempts, unfinished=unfinished, rows_told=rows_told)
    clauses = [clause for clause in load() if clause.predicate]
    if as_json:
        click.echo(msgspec.json.encode(_plain(clauses, verdict, len(found), passed_over, torn)).decode())
    else:
        _report(clauses, verdict, len(found), passed_over, torn)
    if verdict.broken:
        sys.exit(1)


def _plain(
    clauses: list[Clause], verdict: Verdict, events: int, passed_over: Counter[str], torn: list[int]
) -> dict[str, object]:
    ids = {clause.predicate: clause.id for clause in clauses}
    return {
        "events": events,
        "passed_over": dict(sorted(passed_over.items())),
        "torn_lines": torn,
        "judged": {clause.id: verdict.judged[clause.predicate] for clause in clauses},
        "broken": [{"clause": ids[one.predicate], **one._asdict()} for one in verdict.broken],
        "not_judged": [{"clause": ids[one.predicate], **one._asdict()} for one in verdict.open],
    }


def _report(clauses: list[Clause], verdict: Verdict, events: int, passed_over: Counter[str], torn: list[int]) -> None:
    broken = Counter(one.predicate for one in verdict.broken)
    unknown = Counter(one.predicate for one in verdict.open)
    click.echo(f"{events:,} events, {sum(passed_over.values()):,} of other kinds passed over")
    if torn:
        click.echo(f"begun and not ended, as by a process that was killed: line {', '.join(map(str, torn))}")
    click.echo()
    for clause in clauses:
        judged = verdict.judged[clause.predicate]
        line = f"  {clause.id:<13} {clause.predicate:<24} judged {judged:>9,} times"
        if left := unknown[clause.predicate]:
            line += f", {left:,} not judged: nobody was left to tell"
        if n := broken[clause.predicate]:
            click.secho(f"{line}, BROKEN {n:,} times", fg="red", bold=True)
        else:
            click.secho(line, dim=not judged)
    ids = {clause.predicate: clause.id for clause in clauses}
    for one in verdict.broken:
        click.secho(f"\nBROKEN  {ids[one.predicate]} ({one.predicate}): {one.job_id} {one.why}", fg="red", bold=True)
    if not verdict.broken:
        click.secho("\n  nothing broken", fg="green")
