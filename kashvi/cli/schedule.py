"""``queue:schedule``: the cron entries, a line each."""

from __future__ import annotations

from datetime import UTC, datetime

import click
import msgspec

from ..cron.listed import Scheduled
from ..drivers.memory import MemoryDriver
from ..errors import RedisRequired
from ..queue import Queue
from ..text import json_line, visible
from .options import app_option, choose_driver, examples, json_option, load_app, redis_option
from .output import padded, shortened, terminal_width


@examples(
    """
kashvi queue:schedule --app myapp.jobs
kashvi queue:schedule --app myapp.jobs --redis-url redis://localhost:6379/0 --json
kashvi queue:schedule --app myapp.jobs --redis-url redis://localhost:6379/0 --forget jobs.OldReport
"""
)
@click.command("queue:schedule")
@click.option(
    "--forget", "forgotten", metavar="NAME", help="Make the server forget an entry that no table has any more."
)
@app_option
@redis_option
@json_option
def schedule(forgotten: str | None, app: str | None, redis_url: str | None, as_json: bool) -> None:
    """List the cron entries of the app, with the last and the next tick of each. Times are UTC.

    Entries that the server knows and the app does not have are listed, too: of another app on this queue, or removed;
    they fire nothing. Without Redis there are no last ticks. Changes nothing, unless --forget is given.
    """
    queue = load_app(app)
    choose_driver(queue, redis_url)
    if forgotten is not None:
        _forget(queue, forgotten)
        return
    entries = queue.schedule()
    if as_json:
        click.echo("[" + ",\n".join(json_line(msgspec.to_builtins(one)) for one in entries) + "]")
    elif not entries:
        click.echo("No cron entries there.")
    else:
        _print(entries)


def _forget(queue: Queue, name: str) -> None:
    if isinstance(queue.driver, MemoryDriver):
        raise RedisRequired("queue:schedule --forget")
    if any(one.here for one in queue.schedule() if one.name == name):
        raise click.UsageError(
            f"The app has the entry {name!r}: remove it there first, or its workers start it afresh."
        )
    if not queue.forget_ticks(name):
        raise click.UsageError(f"The server knows no cron entry {name!r}: queue:schedule lists them.")
    click.echo(f"Forgotten: {visible(name)}.")


def _print(entries: list[Scheduled]) -> None:
    width = terminal_width()
    if width is not None:
        click.echo(shortened(f"{'name':20}  {'last, UTC':17}  {'next, UTC':17}  schedule", width))
    for one in entries:
        name, last, soon = visible(one.name), _time(one.last), _time(one.next[0] if one.next else None)
        what = visible(f"{one.expression}  {one.tz}  {one.type}") if one.here else "of no table here"
        if width is not None:
            click.echo(shortened(f"{padded(name, 20)}  {last:17}  {soon:17}  {what}", width))
        else:
            click.echo(f"{name}  {last}  {soon}  {what}")


def _time(at: datetime | None) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%MZ") if at else "-"
