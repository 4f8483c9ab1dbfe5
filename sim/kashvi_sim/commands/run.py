"""``kashvi sim:run``: one workload with one seed, as a timeline."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kashvi import events
from kashvi.cli.options import examples, json_option
from kashvi.text import json_line, visible

from . import options
from .options import (
    driver_option,
    faults_option,
    perfetto_option,
    redis_option,
    report_option,
    show_picture,
    workload_named,
)

if TYPE_CHECKING:
    from ..runs.play import Played

LINES = 120


@examples(
    """
kashvi sim:run orders --seed 7
kashvi sim:run sim/workloads/storm.toml --seed 7 --faults all --trace out.jsonl
kashvi sim:run deploy --report deploy.html --perfetto deploy.json
kashvi sim:run storm --faults kill,reply_lost --seed 3 --json
kashvi sim:run storm --faults all --token k2-…
"""
)
@click.command("sim:run")
@click.argument("workload")
@click.option(
    "--seed",
    type=click.IntRange(0),
    help="The seed of all random choices; the same seed gives the same run.  [default: 0]",
)
@click.option("--token", help="Repeat these choices instead, as printed by sim:sweep.")
@driver_option
@redis_option
@click.option("--workers", type=click.IntRange(1), help="Worker processes, instead of the workload's number.")
@faults_option("none")
@click.option(
    "--trace",
    "trace_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write every event to this file, as JSON lines.",
)
@report_option
@perfetto_option
@click.option("-v", "--verbose", is_flag=True, help=f"Print the whole timeline, not only its first {LINES} lines.")
@json_option
def run(
    workload: str,
    seed: int | None,
    token: str | None,
    driver: str,
    redis_url: str | None,
    workers: int | None,
    faults: str,
    trace_file: Path | None,
    report: Path | None,
    perfetto: Path | None,
    verbose: bool,
    as_json: bool,
) -> None:
    """Run WORKLOAD, a .toml file or the name of one of kashvi's, in virtual time, through the real worker.

    Prints the timeline, the figures, and each violation with the command that repeats it.
    Exit codes: 0 all promises kept, 1 one is broken, 2 wrong usage.
    """
    from ..runs.play import play
    from ..world.connect import connect
    from ..world.tape import choices_of
    from ..world.trace import write

    if token is not None and seed is not None:
        raise click.UsageError("a token contains all choices: leave --seed out")
    plan = workload_named(workload)
    choices = choices_of(token) if token is not None else None
    seed = (seed or 0) if token is None else None
    with connect(driver, redis_url) as place:
        played = play(
            plan, seed=seed, choices=choices, faults=faults, processes=workers, direct=options.DIRECT, **place
        )
    if trace_file is not None:
        write(played.world.events, trace_file)
    if report is not None or perfetto is not None:
        from ..show.lanes import picture_of

        picture = picture_of(played.world.times, played.world.events, played.world.names)
        broken = [f"{one.predicate}: {one.job_id} {one.why}" for one in played.violations]
        show_picture(picture, played.figures, report, perfetto, name=plan.name, about=plan.about, broken=broken)
    again = _command(workload, seed, token, driver, workers, faults)
    if as_json:
        click.echo(json_line(_plain(played, seed, driver, again)))
    else:
        _show(played, plan.name, again, verbose)
    if played.violations:
        sys.exit(1)


def _command(workload: str, seed: int | None, token: str | None, driver: str, workers: int | None, faults: str) -> str:
    chance = f"--seed {seed}" if token is None else f"--token {token}"
    staff = f" --workers {workers}" if workers else ""
    place = "" if driver == "memory" else f" --driver {driver}"
    return f"{options.KASHVI} sim:run {shlex.quote(workload)} {chance} --faults {faults}{staff}{place}"


def _plain(played: Played, seed: int | None, driver: str, again: str) -> dict[str, object]:
    from ..world.tape import token_of

    figures = played.figures
    return {
        "seed": seed,
        "driver": driver,
        "trace_sha256": played.trace_sha256,
        "jobs": figures.jobs,
        "succeeded": figures.succeeded,
        "failed": figures.failed,
        "cancelled": figures.cancelled,
        "duplicates": figures.duplicates,
        "violations": [violation._asdict() for violation in played.violations],
        "excused": [one.violation._asdict() | {"fault": one.fault} for one in played.excused],
        "faults": dict(sorted(played.world.struck.items())),
        "virtual_s": figures.virtual_s,
        "wall_s": round(played.wall_s, 3),
        "wait_s": figures.wait_s,
        "utilisation": figures.utilisation,
        "events": len(played.world.events),
        "token": token_of(played.choices),
        "repeat": again,
    }


def _show(played: Played, name: str, again: str, verbose: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    from ..show.timeline import Timeline
    from .broken import show_broken

    broken = {violation.job_id for violation in played.violations}
    names: dict[str, str] = {}
    stories: dict[str, list[str]] = {}
    shown, folded, timeline = 0, 0, Timeline(played.world.names)
    befallen = {e.job_id for e in played.world.events if isinstance(e, events.JobEvent) and not _calm(e)}
    fold = bool(played.world.struck) and not verbose
    for event, line in timeline.lines(played.world.times, played.world.events):
        if fold and isinstance(event, events.JobEvent) and event.job_id not in befallen:
            folded += 1
            continue
        if folded:
            click.secho(f"{'…':>12}  {folded} lines of jobs that nothing befell", dim=True)
        folded = 0
        shown += 1
        if isinstance(event, events.JobEvent) and event.job_id in broken:
            names.setdefault(event.job_id, timeline.name(event))
            stories.setdefault(event.job_id, []).append(line)
        if shown <= LINES or verbose:
            click.secho(line, fg=_color(event), bold=_color(event) == "magenta")
    if shown > LINES and not verbose:
        click.echo(f"{'…':>12}  {shown - LINES:,} lines more: -v shows them, --trace FILE keeps them")
    figures, waits = played.figures, played.figures.wait_s
    table = Table(show_header=False, box=None, title=f"\n{name}", title_justify="left")
    cancelled = f", {figures.cancelled:,} cancelled" if figures.cancelled else ""
    rows: list[tuple[str, str]] = [
        ("jobs", f"{figures.jobs:,} dispatched, {figures.succeeded:,} succeeded, {figures.failed:,} failed{cancelled}"),
        ("attempts made twice", f"{figures.duplicates:,}"),
        ("time", f"{figures.virtual_s:,.3f} s virtual, {played.wall_s:,.3f} s real"),
    ]
    if waits:
        rows.append(
            ("waits", f"p50 {waits.p50:,.3f}  p95 {waits.p95:,.3f}  p99 {waits.p99:,.3f}  max {waits.max:,.3f} s")
        )
    if figures.utilisation is not None:
        rows.append(("utilisation", f"{figures.utilisation:.1%}"))
    if played.world.struck:
        rows.append(("faults", ", ".join(f"{name} {n}" for name, n in sorted(played.world.struck.items()))))
    rows.append(("trace", f"{len(played.world.events):,} events, sha256 {played.trace_sha256[:16]}…"))
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    for one in played.excused:
        excused = one.violation
        click.echo(visible(f"  excused by {one.fault}: {excused.predicate}: {excused.job_id} {excused.why}"))
    show_broken(played.violations, names, stories)
    if played.violations:
        click.echo(f"  to repeat it: {again}")
    else:
        click.secho("  every promise kept", fg="green")


def _calm(event: events.JobEvent) -> bool:
    """True for the events of a job that succeeds at once."""
    if isinstance(event, events.AttemptStarted):
        return event.attempt == 1 and not event.suspect
    return isinstance(event, events.JobDispatched | events.AttemptSucceeded | events.JobSucceeded)


def _color(event: events.Event) -> str | None:
    from ..world.trace import FaultStruck, ProcessKilled, ServerRolledBack

    match event:
        case events.JobSucceeded():
            return "green"
        case FaultStruck() | ProcessKilled() | ServerRolledBack():
            return "magenta"
        case events.AttemptFailed() | events.JobFailed() | events.AttemptLost() | events.SettleRefused():
            return "red"
        case events.RetryScheduled() | events.JobSnoozed() | events.JobPostponed() | events.JobReturned():
            return "yellow"
    return None
