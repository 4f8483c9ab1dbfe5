"""``kashvi sim:replay``: a recording replayed with any number of workers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from kashvi.cli.options import examples, json_option
from kashvi.text import json_line, visible

from . import options
from .options import faults_option, perfetto_option, report_option, show_picture

if TYPE_CHECKING:
    from ..runs.recording import Recording
    from ..runs.replay import Row


def _numbers(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, ...]:
    """The numbers in ``2,4,8``; empty for 0."""
    words = [word.strip() for word in value.split(",")]
    if words == ["0"]:
        return ()
    if not all(word.isdecimal() and int(word) for word in words):
        raise click.BadParameter(f"{value!r} is not a list of numbers from 1 up, such as 2,4,8")
    return tuple(map(int, words))


@examples(
    """
kashvi queue:work --app myapp.jobs --redis-url redis://localhost --trace worker.jsonl      # in production
kashvi sim:replay worker.jsonl web.jsonl
kashvi sim:replay worker-*.jsonl web.jsonl --workers 8 --max-retry 5 --report eight.html
kashvi sim:replay worker.jsonl --workers 8 --faults kill --seed 3 --json
"""
)
@click.command("sim:replay")
@click.argument("traces", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option(
    "--workers",
    callback=_numbers,
    default="2,4,8,16",
    show_default=True,
    metavar="N,…",
    help="Threads that run jobs, in all; a row for each number. 0: only the recording.",
)
@click.option("--threads", type=click.IntRange(1), help="Threads of each process.  [default: as recorded]")
@click.option("--max-retry", type=click.IntRange(1), help="Attempts in all for each job.  [default: as recorded, or 3]")
@click.option("--lease", type=click.FloatRange(0.1), help="As in queue:work, in seconds.  [default: as recorded]")
@faults_option("none")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="The seed of all random choices.")
@report_option
@perfetto_option
@json_option
def replay_command(
    traces: tuple[Path, ...],
    workers: tuple[int, ...],
    threads: int | None,
    max_retry: int | None,
    lease: float | None,
    faults: str,
    seed: int,
    report: Path | None,
    perfetto: Path | None,
    as_json: bool,
) -> None:
    """Replay TRACES of workers (queue:work --trace) and producers: how many workers are enough?

    The recorded jobs run through the real worker in virtual time, with their recorded times, durations and outcomes.
    The first row is the recording. The second, "as it was", is a replay with the recorded processes and kills: the
    difference between the two shows how far the rows below can be trusted.
    The page and the Chrome trace show the first number of --workers; with --workers 0, the recording.
    Exit codes: 0 replayed, 1 a promise was broken, or a file is not a trace, 2 wrong usage.
    """
    from ..runs.recording import record_of
    from ..runs.replay import recorded, replay

    recording = record_of(traces)
    rows = [recorded(recording)]
    for number in (None, *workers):
        struck = faults if number is not None else "none"
        rows.append(
            replay(
                recording, number, threads=threads, max_attempts=max_retry, lease_s=lease, faults=struck, seed=seed,
                direct=options.DIRECT,
            )
        )  # fmt: skip
    if report is not None or perfetto is not None:
        _paint(recording, rows, report, perfetto)
    if as_json:
        click.echo(json_line(_plain(recording, rows)))
    else:
        _show(recording, rows)
    if any(row.played and row.played.violations for row in rows):
        sys.exit(1)


def _paint(recording: Recording, rows: list[Row], report: Path | None, perfetto: Path | None) -> None:
    """Write the pictures: of the recording, or of the first number of workers."""
    from ..show.lanes import picture_of

    row = rows[2] if len(rows) > 2 else rows[0]
    source = row.played.world if row.played else recording
    picture = picture_of(source.times, source.events, source.names)
    name = f"replayed with {row.name} workers" if row.played else "what was recorded"
    broken = [f"{one.predicate}: {one.job_id} {one.why}" for one in row.played.violations] if row.played else None
    about = " ".join(recording.notes)
    show_picture(picture, row.figures, report, perfetto, name=name, about=about, broken=broken, rows=rows)


def _plain(recording: Recording, rows: list[Row]) -> dict[str, object]:
    return {
        "seconds": round(recording.seconds, 6),
        "processes": len(recording.shifts),
        "notes": recording.notes,
        "rows": [
            {
                "workers": row.name,
                **msgspec.to_builtins(row.figures),
                "violations": [violation._asdict() for violation in row.played.violations] if row.played else [],
                "faults": dict(sorted(row.played.world.struck.items())) if row.played else {},
            }
            for row in rows
        ],
    }


def _show(recording: Recording, rows: list[Row]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    real = rows[0].figures
    shifts = recording.shifts
    killed = sum(shift.killed for shift in shifts)
    click.echo(
        f"\n{real.jobs:,} jobs in {recording.seconds:,.1f} s; {len(shifts)} worker processes with "
        f"{recording.threads} threads each" + (f", {killed} of them killed" if killed else "")
    )
    for note in recording.notes:
        click.echo(visible(f"  {note}"))
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        caption="seconds from due to start; drain: after the last job came; hours of all workers",
    )
    table.add_column("workers", no_wrap=True)
    for head in ("mean", "p50", "p95", "p99", "max", "busy", "drain", "hours", "failed"):
        table.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        figures, waits = row.figures, row.figures.wait_s
        cells = [f"{wait:,.3f}" for wait in msgspec.structs.astuple(waits)] if waits else ["–"] * 5
        busy = "–" if figures.utilisation is None else f"{figures.utilisation:.0%}"
        last = [busy, f"{figures.drain_s:,.1f}", f"{figures.worker_hours:,.3f}", f"{figures.failed:,}"]
        table.add_row(row.name, *cells, *last, end_section=row is rows[1])
    Console().print(table)
    again = rows[1].figures.wait_s
    if real.wait_s and again and real.wait_s.mean:
        off = again.mean / real.wait_s.mean - 1
        click.echo(f"  Replayed as it was, jobs wait {abs(off):.1%} {'longer' if off > 0 else 'less'} on average.")
    for row in rows[1:]:
        for violation in row.played.violations if row.played else ():
            told = f"BROKEN  with {row.name}: {violation.predicate}: {violation.job_id} {violation.why}"
            click.secho(visible(told), fg="red")
