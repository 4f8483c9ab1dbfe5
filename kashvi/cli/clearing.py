"""``queue:clear`` and ``queue:unlock``."""

from __future__ import annotations

import sys

import click

from ..names import DEFAULT
from ..text import json_line, visible
from .options import a_queue, app_option, examples, json_option, redis_option
from .pausing import shared


@examples(
    """
kashvi queue:clear imports --redis-url redis://localhost:6379/0
kashvi queue:clear --yes --json
"""
)
@click.command("queue:clear")
@click.argument("queue", metavar="[QUEUE]", default=DEFAULT, callback=a_queue)
@click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")
@app_option
@redis_option
@json_option
def clear(queue: str, yes: bool, app: str | None, redis_url: str | None, as_json: bool) -> None:
    """Remove all ready and delayed jobs of the queue, for good. Without a name, of the queue "default".

    Jobs that workers have stay, and retries of theirs come back. The keys of unique jobs are given back. The jobs go in
    steps, so that the server is never held up; jobs that are dispatched meanwhile may stay.
    """
    of = shared(app, redis_url, "queue:clear")
    if not yes:
        there = [(one.ready, one.delayed) for one in of.queue_stats() if one.name == queue]
        ready, delayed = there[0] if there else (0, 0)
        what = f"{ready:,} ready and {delayed:,} delayed jobs of the queue {queue}"
        click.confirm(f"Remove {what}, for good?", abort=True, err=True)
    cleared = of.clear(queue)
    if as_json:
        click.echo(json_line({"queue": queue, "ready": cleared.ready, "delayed": cleared.delayed}))
    else:
        click.echo(f"{cleared.ready:,} ready and {cleared.delayed:,} delayed jobs removed.")


@examples(
    """
kashvi queue:unlock jobs.Export:ada --redis-url redis://localhost:6379/0
kashvi queue:unlock jobs.Export:ada --json
"""
)
@click.command("queue:unlock")
@click.argument("key")
@app_option
@redis_option
@json_option
def unlock(key: str, app: str | None, redis_url: str | None, as_json: bool) -> None:
    """Free the key of a unique job if no queue and no worker has the job: for example, it was deleted by hand.

    KEY is the type, a colon and the text. The command searches all queues. If a job has the key, the command names the
    job, changes nothing, and ends with exit code 1.
    """
    found = shared(app, redis_url, "queue:unlock").unlock(key)
    job = visible(f"{found.type} {found.job_id}")
    if as_json:
        known = {"key": key, "outcome": found.outcome}
        click.echo(json_line(known | ({"job_id": found.job_id} if found.job_id else {})))
    elif found.outcome == "held":
        click.echo(f"{visible(key)} is held: {job} is {found.where}, on the queue {found.queue}. Nothing was changed.")
    elif found.outcome == "freed":
        click.echo(f"{visible(key)} is free again: no queue has the job {visible(found.job_id)} that had it.")
    else:
        click.echo(f"{visible(key)} is free: no job has it.")
    sys.exit(found.outcome == "held")
