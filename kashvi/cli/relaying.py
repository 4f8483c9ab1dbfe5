"""``queue:relay``: relays outboxes without a worker; and what other commands say about outboxes."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

import click

from ..drivers.memory import MemoryDriver
from ..errors import OutboxUnavailable, RedisRequired
from ..ports import Task
from ..relaying import Relaying
from ..runtime import SystemRuntime
from ..settings import check
from ..text import json_line, visible
from . import logs
from .options import (
    Seconds,
    app_option,
    choose_driver,
    examples,
    json_option,
    load_app,
    redis_option,
)
from .output import padded, write

if TYPE_CHECKING:
    from ..outbox.database import Outbox, Waiting
    from ..queue import Queue

LOOK_S = 0.5
"""How long the main thread waits before it checks for signals."""


@examples(
    """
kashvi queue:relay --app myapp.jobs --redis-url redis://localhost:6379/0
kashvi queue:relay --database-url postgresql://localhost/app --redis-url redis://localhost:6379/0
kashvi queue:relay --app myapp.jobs --list
"""
)
@click.command("queue:relay")
@app_option
@redis_option
@click.option(
    "--database-url",
    envvar="KASHVI_DATABASE_URL",
    show_envvar=True,
    help="SQLAlchemy URL of the outbox, if the app has none.",
)
@click.option("--hold", type=Seconds(0), help="Seconds that a row stays after its job was pushed.  [default: 0]")
@click.option("--list", "listed", is_flag=True, help="Count the rows by queue and age, and relay nothing.")
@json_option
def relay(
    app: str | None, redis_url: str | None, database_url: str | None, hold: float | None, listed: bool, as_json: bool
) -> None:
    """Push committed jobs from the outboxes to the queue's server, until a signal stops it.

    Every worker of an app with an outbox does so too: this is for hosts where workers can't reach the database. One
    relay of an outbox works at a time; more of them wait to take its place. The outboxes are those of the app, else the
    database of --database-url, whose table is made.

    --list counts the rows of every queue: the queue in a row is the prefix of its keys, or the name that the app gave.
    """
    queue = load_app(app)
    choose_driver(queue, redis_url)
    if not queue.outboxes() and not database_url:
        raise click.UsageError("there is no outbox: call queue.outbox(engine) in the app, or pass --database-url.")
    if listed:
        _list(queue.outboxes() or [_outbox_of(database_url or "")], as_json)
        return
    if not queue.outboxes():
        queue.outbox(database_url or "")
    if isinstance(queue.driver, MemoryDriver):
        raise RedisRequired("queue:relay")
    logs.set_up(verbose=False)
    check(queue.driver, relays=True)
    for outbox in queue.outboxes():
        if hold is not None:
            outbox.hold_s = hold
        write(visible(f"  relaying the {outbox!r} to {queue.driver!r}; Ctrl-C stops it"))
    queue.check_threads()
    relays = queue.relays()

    def stop(number: int, frame: object) -> None:
        for one in relays:
            one.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    tasks: list[Task] = [SystemRuntime().spawn(one.run, "kashvi-relay") for one in relays]
    for task in tasks:
        while task.is_alive():
            task.join(LOOK_S)


def _list(outboxes: Sequence[Outbox], as_json: bool) -> None:
    found = [(repr(outbox), outbox.counted()) for outbox in outboxes]
    for outbox in outboxes:
        outbox.rest()
    if as_json:
        lines = [{"outbox": name} | one._asdict() for name, waiting in found for one in waiting]
        click.echo(json_line(lines))
        return
    for name, waiting in found:
        click.echo(visible(f"  {name}"))
        for one in waiting:
            click.echo(f"    {padded(visible(one.target), 40)}  {one.rows:>11,}  {_age(one)}")
        if not waiting:
            click.echo("    no rows")


def _outbox_of(database_url: str) -> Outbox:
    """An outbox to look at; neither its table nor its file is made. Raises BadParameter if there is none."""
    from ..outbox.database import Outbox
    from ..outbox.table import TABLE

    outbox = Outbox(database_url, SystemRuntime(), target=lambda: "")
    if not outbox.exists():
        raise click.BadParameter(
            f"{outbox!r} has no table {TABLE} (queue.outbox makes it)", param_hint="--database-url"
        )
    return outbox


def _age(one: Waiting) -> str:
    return f"oldest {timedelta(seconds=int(one.oldest_s))}"


class Found(NamedTuple):
    """What is in an outbox."""

    outbox: str
    mine: Waiting | None = None
    """The rows of this queue, if there are some."""
    others: Sequence[Waiting] = ()
    error: str | None = None
    """Why it can't be read."""

    def __str__(self) -> str:
        return f"{self.outbox}: {self.error or in_words(self.mine)}"


def look(queue: Queue) -> Iterator[Found]:
    """Look into each outbox."""
    for outbox in queue.outboxes():
        target = outbox.target() if isinstance(queue.driver, Relaying) else ""
        try:
            counted = outbox.counted()
        except OutboxUnavailable as error:
            yield Found(repr(outbox), error=str(error))
            continue
        finally:
            outbox.rest()
        mine = next((one for one in counted if one.target == target), None)
        yield Found(repr(outbox), mine, [one for one in counted if one is not mine])


def in_words(rows: Waiting | None) -> str:
    return f"{rows.rows:,} committed jobs, {_age(rows)}" if rows else "empty"
