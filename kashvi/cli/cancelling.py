"""``queue:cancel``."""

from __future__ import annotations

import sys

import click

from ..text import json_line, visible
from .options import app_option, examples, json_option, redis_option
from .pausing import shared

SAID = {
    "removed": "cancelled: it was on its queue, and is gone.",
    "asked": "cancelled: a worker has it. That attempt may end, and no other starts.",
    "unknown": "not found: no job with this id is on a queue. It has ended, or never was.",
}


@examples(
    """
kashvi queue:cancel 01a21bb9-4403-7068-ae63-dd207e0428fc
kashvi queue:cancel $(kashvi queue:list delayed --json | jq -r '.[].id') --json
"""
)
@click.command("queue:cancel")
@click.argument("job_ids", metavar="JOB_ID...", nargs=-1, required=True)
@app_option
@redis_option
@json_option
def cancel(job_ids: tuple[str, ...], app: str | None, redis_url: str | None, as_json: bool) -> None:
    """Cancel jobs by their ids, as queue:list shows them.

    A cancelled job is no failure, and leaves no row. A job that runs is not interrupted: its handler may ask
    kashvi.current().cancelled. May be repeated. Exit code 1 if a job was not found.
    """
    queue = shared(app, redis_url, "queue:cancel")
    said: dict[str, str] = {}
    try:
        for job_id in dict.fromkeys(job_ids):
            said[job_id] = queue.cancel(job_id)
            if not as_json:
                click.echo(f"{visible(job_id)} {SAID[said[job_id]]}")
    finally:  # if one can't be cancelled, those before it are
        if as_json:
            click.echo(json_line([{"id": job_id, "outcome": one} for job_id, one in said.items()]))
    if "unknown" in said.values():
        sys.exit(1)
