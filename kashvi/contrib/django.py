"""Django: close old database connections around each attempt, as Django does around each request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import close_old_connections, reset_queries

from ..queues import Queue
from ..worker.hooks import Attempt


@contextmanager
def connections_closed(attempt: Attempt) -> Iterator[None]:
    """Close those that are broken or older than ``CONN_MAX_AGE``, before and after; forget the log of queries."""
    reset_queries()
    close_old_connections()
    try:
        yield
    finally:
        close_old_connections()


def close_connections(queue: Queue) -> None:
    """Do so around each attempt of this queue. Connections of threads that a handler starts are its own to close."""
    queue.around(connections_closed)
