"""``queue:pause`` and ``queue:resume``."""

from __future__ import annotations

import click

from ..drivers.memory import MemoryDriver
from ..errors import RedisRequired
from ..queue import Queue
from .options import app_option, choose_driver, examples, load_app, redis_option


@examples(
    """
kashvi queue:pause --redis-url redis://localhost:6379/0
"""
)
@click.command("queue:pause")
@app_option
@redis_option
def pause(app: str | None, redis_url: str | None) -> None:
    """Let no job of the queue start, in any worker, until queue:resume.

    Jobs may still be dispatched, and become due; running ones end. The server keeps the pause, so it outlives every
    process. May be repeated.
    """
    _shared(app, redis_url, "queue:pause").pause()
    click.echo("The queue is paused: no job starts until queue:resume.")


@examples(
    """
kashvi queue:resume --redis-url redis://localhost:6379/0
"""
)
@click.command("queue:resume")
@app_option
@redis_option
def resume(app: str | None, redis_url: str | None) -> None:
    """End the pause of the queue: idle workers go on within a second. May be repeated."""
    _shared(app, redis_url, "queue:resume").resume()
    click.echo("The queue goes on.")


def _shared(app: str | None, redis_url: str | None, command: str) -> Queue:
    queue = load_app(app)
    choose_driver(queue, redis_url)
    if isinstance(queue.driver, MemoryDriver):
        raise RedisRequired(command)
    return queue
