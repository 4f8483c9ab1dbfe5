"""Context for structlog: each line that a handler logs says whose it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from structlog.contextvars import bound_contextvars

from ..queues import Queue
from ..worker.hooks import Attempt


@contextmanager
def bound(attempt: Attempt) -> Iterator[None]:
    """Bind ``job_id``, ``type``, ``attempt`` and ``queue`` around an attempt; afterwards all is as before."""
    with bound_contextvars(job_id=attempt.job_id, type=attempt.type, attempt=attempt.attempt, queue=attempt.queue):
        yield


def bind(queue: Queue) -> None:
    """Bind them around each attempt of this queue. structlog needs ``structlog.contextvars.merge_contextvars``."""
    queue.around(bound)
