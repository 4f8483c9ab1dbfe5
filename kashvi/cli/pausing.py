"""``queue:pause`` and ``queue:resume``."""

from __future__ import annotations

import click

from ..drivers.memory import MemoryDriver
from ..errors import RedisRequired
from ..names import DEFAULT
from ..queue import Queue
from .options import a_queue, app_option, choose_driver, examples, load_app, redis_option


@examples(
    """
kashvi queue:pause --redis-url redis://localhost:6379/0
kashvi queue:pause payments --redis-url redis://localhost:6379/0
"""
)
@click.command("queue:pause")
@click.argument("queue", metavar="[QUEUE]", default=DEFAULT, callback=a_queue)
@app_option
@redis_option
def pause(queue: str, app: str | None, redis_url: str | None) -> None:
    """Let no job of the queue start, in any worker, until queue:resume. Without a name, of the queue "default".

    Jobs may still be dispatched, and become due; running ones end. The server keeps the pause, so it outlives every
    process. May be repeated.
    """
    shared(app, redis_url, "queue:pause").pause(queue)
    name = "" if queue == DEFAULT else f" {queue}"
    click.echo(f"The queue{name} is paused: no job{' of it' if name else ''} starts until queue:resume{name}.")


@examples(
    """
kashvi queue:resume --redis-url redis://localhost:6379/0
kashvi queue:resume payments --redis-url redis://localhost:6379/0
"""
)
@click.command("queue:resume")
@click.argument("queue", metavar="[QUEUE]", default=DEFAULT, callback=a_queue)
@app_option
@redis_option
def resume(queue: str, app: str | None, redis_url: str | None) -> None:
    """End the pause of the queue: idle workers go on within a second. Without a name, of the queue "default".

    May be repeated.
    """
    shared(app, redis_url, "queue:resume").resume(queue)
    click.echo(f"The queue{'' if queue == DEFAULT else f' {queue}'} goes on.")


def shared(app: str | None, redis_url: str | None, command: str) -> Queue:
    queue = load_app(app)
    choose_driver(queue, redis_url)
    if isinstance(queue.driver, MemoryDriver):
        raise RedisRequired(command)
    return queue
