"""``kashvi spec:model``: every state of the queue as a small model."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from kashvi.cli.options import examples, json_option
from kashvi.runtime import SystemRuntime
from kashvi.text import json_line

from ...model.table import LIMITS

if TYPE_CHECKING:
    from ...model.explore import Explored

WORKERS_MAX, JOBS_MAX, CRASHES_MAX, QUEUES_MAX = 4, 6, 4, 3


@examples(
    """
kashvi spec:model
kashvi spec:model --workers 3 --jobs 4 --crashes 2
kashvi spec:model --queues 2 --pauses 1 --cancels 1
kashvi spec:model --silences 1 --max-retry 3 --json
"""
)
@click.command("spec:model")
@click.option("--workers", type=click.IntRange(1, WORKERS_MAX), default=2, show_default=True)
@click.option("--jobs", type=click.IntRange(1, JOBS_MAX), default=2, show_default=True)
@click.option(
    "--crashes", type=click.IntRange(0, CRASHES_MAX), default=1, show_default=True, help="The most processes that die."
)
@click.option(
    "--silences",
    type=click.IntRange(0, CRASHES_MAX),
    default=0,
    show_default=True,
    help="The most processes that are silent for longer than their lease, and come back.",
)
@click.option(
    "--max-retry", type=click.IntRange(LIMITS[0], LIMITS[-1]), default=2, show_default=True, help="Attempts in all."
)
@click.option("--queues", type=click.IntRange(1, QUEUES_MAX), default=1, show_default=True)
@click.option("--pauses", type=click.IntRange(0, QUEUES_MAX), default=0, show_default=True, help="The most pauses.")
@click.option("--cancels", type=click.IntRange(0, JOBS_MAX), default=0, show_default=True, help="The most cancels.")
@json_option
def model_command(
    workers: int,
    jobs: int,
    crashes: int,
    silences: int,
    max_retry: int,
    queues: int,
    pauses: int,
    cancels: int,
    as_json: bool,
) -> None:
    """Explore the model of the queue to the end: every state, every step, in a small scope.

    The model (spec/model.md) has its own decision table and does not call the library. Each state and step is
    judged, and from each state the end of all jobs must be reachable. Three workers, four jobs and two crashes take
    half a minute; there is no limit, and only equivalent runs are left out.

    Exit codes: 0 explored to the end and every clause holds, 1 one is broken, 2 wrong usage.
    """
    from ...model.explore import Scope, explore

    runtime = SystemRuntime()
    began = runtime.monotonic()
    explored = explore(Scope(workers, jobs, crashes, silences, max_retry, queues, pauses, cancels))
    elapsed_s = runtime.monotonic() - began
    if as_json:
        click.echo(json_line(_plain(explored, elapsed_s)))
    else:
        _show(explored, elapsed_s)
    if explored.broken:
        sys.exit(1)


def _plain(explored: Explored, elapsed_s: float) -> dict[str, object]:
    from ...model.invariants import CLAUSES

    return {
        **explored.scope._asdict(),
        "states": explored.states,
        "steps": explored.steps,
        "depth": explored.depth,
        "kinds": {str(kind): n for kind, n in sorted(explored.kinds.items())},
        "judged": CLAUSES,
        "broken": [broken._asdict() for broken in explored.broken],
        "path": explored.path,
        "elapsed_s": round(elapsed_s, 3),
    }


def _show(explored: Explored, elapsed_s: float) -> None:
    from rich.console import Console
    from rich.table import Table

    from ...model.invariants import CLAUSES

    scope = explored.scope
    table = Table(show_header=False, box=None)
    for row in (
        (
            "scope",
            f"{scope.workers} workers, {scope.jobs} jobs, {scope.limit} attempts, {scope.crashes} crashes, "
            f"{scope.silences} silences, {scope.queues} queues, {scope.pauses} pauses, {scope.cancels} cancels",
        ),
        ("states", f"{explored.states:,}, the farthest {explored.depth} steps away"),
        ("steps", f"{explored.steps:,}, of {len(explored.kinds)} kinds"),
        ("judged", ", ".join(CLAUSES)),
        ("time", f"{elapsed_s:,.2f} s"),
    ):
        table.add_row(*row)
    Console().print(table)
    for broken in explored.broken:
        click.secho(f"\nBROKEN  {broken.clause}: {broken.why}", fg="red", bold=True)
    if explored.broken:
        click.echo("  the shortest path: " + " → ".join(explored.path))
    else:
        click.secho("  all explored, and every clause holds", fg="green")
