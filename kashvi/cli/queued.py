"""``queue:list``: the jobs on the queue, a line each."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click
import msgspec

from ..drivers.memory import MemoryDriver
from ..errors import RedisRequired
from ..names import DEFAULT
from ..ports import WHERE, Where
from ..text import json_line, visible
from .options import a_queue, app_option, choose_driver, examples, json_option, load_app, redis_option
from .output import padded, shortened, terminal_width

if TYPE_CHECKING:
    from ..queue import Queue
    from ..queued import QueuedJob

SHOWN = 50


@examples(
    """
kashvi queue:list
kashvi queue:list delayed --limit 1000 --redis-url redis://localhost:6379/0
kashvi queue:list ready --queue payments
kashvi queue:list running --app myapp.jobs --json
"""
)
@click.command("queue:list")
@click.argument("where", required=False, type=click.Choice(WHERE), metavar="[ready|delayed|running]")
@click.option("-q", "--queue", "name", callback=a_queue, metavar="NAME", help="The queue.  [default: default]")
@click.option("--limit", type=click.IntRange(1), default=SHOWN, show_default=True, help="The most jobs of each place.")
@app_option
@redis_option
@json_option
def list_jobs(
    where: Where | None, name: str | None, limit: int, app: str | None, redis_url: str | None, as_json: bool
) -> None:
    """List the jobs on the queue: ready ones in their order, delayed ones by due time, running ones by worker.

    Running jobs are those that a worker holds, started or about to be; without --queue they are those of all queues.
    queue:stats counts them as held. Changes nothing; a job that moves meanwhile may be missing, or be there twice. In a
    pipe each line ends with the payload. Times are UTC.
    """
    queue = load_app(app)
    choose_driver(queue, redis_url)
    if isinstance(queue.driver, MemoryDriver):
        raise RedisRequired("queue:list")
    places: tuple[Where, ...] = ("running", "ready", "delayed") if where is None else (where,)
    there = _there(queue, name)
    found = {place: queue.jobs(place, queue=name, limit=limit) for place in places}
    jobs = [job for place in places for job in found[place]]
    if as_json:
        lines = (json_line(msgspec.to_builtins(job)) for job in jobs)
        click.echo("[" + ",\n".join(lines) + "]")
        return
    _print(jobs)
    for place in places:
        if there[place] > len(found[place]) >= limit:
            counted = place != "running" or name is None
            more = f"{limit:,} of {there[place]:,} {place} jobs; --limit shows more."
            click.echo(more if counted else f"{limit:,} {place} jobs; --limit may show more.", err=True)


def _there(queue: Queue, name: str | None) -> dict[Where, int]:
    """How many jobs are in each place of the queue; running ones are counted of all queues."""
    held = queue.stats().held
    of_it = [(one.ready, one.delayed) for one in queue.queue_stats() if one.name == (name or DEFAULT)]
    ready, delayed = of_it[0] if of_it else (0, 0)
    return {"running": held, "ready": ready, "delayed": delayed}


def _print(jobs: list[QueuedJob]) -> None:
    width = terminal_width()
    if not jobs:
        click.echo("No jobs there.")
    elif width is not None:
        click.echo(shortened(f"{'where':7}  {'job id':36}  {'type':18}  tries  ", width))
    for job in jobs:
        name, note = visible(job.type) or "(not an envelope)", _note(job)
        job_id = visible(job.id) or "-"
        if width is not None:
            line = f"{job.where:7}  {padded(job_id, 36)}  {padded(name, 18)}  {job.attempts:>5}  {note}"
            click.echo(shortened(line, width))
        else:
            click.echo("  ".join((job.where, job_id, name, str(job.attempts), note or "-", visible(job.payload))))


def _note(job: QueuedJob) -> str:
    """When it is due, which worker has it (and of which queue, if that is not the default one), or since when it
    waits."""
    if job.where == "running":
        return visible(job.worker) + (f" ({job.queue})" if job.queue != DEFAULT else "")
    return _time(job.due if job.where == "delayed" else job.dispatched_at)


def _time(at: datetime | None) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if at else ""
