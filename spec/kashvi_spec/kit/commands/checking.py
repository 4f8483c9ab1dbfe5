"""``kashvi spec:check``: judge a trace from any source."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import click

from kashvi.cli.options import examples, json_option
from kashvi.text import json_line, visible

from ...clauses import Clause, ids_by_predicate, load
from ...traces import NotATrace, Verdict, judge, read


@examples(
    """
kashvi sim:run storm --seed 7 --trace t.jsonl && kashvi spec:check t.jsonl
kashvi spec:check yesterday.jsonl --unfinished --json
"""
)
@click.command("spec:check")
@click.argument("trace", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--max-attempts", type=click.IntRange(1), help="The limit in force.  [default: the trace's, or 3]")
@click.option("--unfinished", is_flag=True, help="The trace was cut off: do not judge missing events at its end.")
@click.option("--rows-told", is_flag=True, help="The trace has an event of every recorded row: judge missing ones.")
@json_option
def check_command(trace: Path, max_attempts: int | None, unfinished: bool, rows_told: bool, as_json: bool) -> None:
    """Judge TRACE, a file of events as JSON lines, against every clause that a trace can break.

    Unlike sim:run, it excuses no violation by a fault: a server that loses data breaks a promise.
    Exit codes: 0 no clause is broken, 1 a clause is broken, 2 wrong usage, or no event of kashvi in the file.
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
        click.echo(json_line(_plain(clauses, verdict, len(found), passed_over, torn)))
    else:
        _report(clauses, verdict, len(found), passed_over, torn)
    if verdict.broken:
        sys.exit(1)


def _plain(
    clauses: list[Clause], verdict: Verdict, events: int, passed_over: Counter[str], torn: list[int]
) -> dict[str, object]:
    ids = ids_by_predicate()
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
            line += f", {left:,} not judged: events may be missing"
        if n := broken[clause.predicate]:
            click.secho(f"{line}, BROKEN {n:,} times", fg="red", bold=True)
        else:
            click.secho(line, dim=not judged)
    ids = ids_by_predicate()
    for one in verdict.broken:
        told = visible(f"BROKEN  {ids[one.predicate]} ({one.predicate}): {one.job_id} {one.why}")
        click.secho(f"\n{told}", fg="red", bold=True)
    if not verdict.broken:
        click.secho("\n  nothing broken", fg="green")
