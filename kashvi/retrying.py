"""Sending failed jobs back to their queues, and deleting their rows: for the command line and the dashboard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

from .jobs.envelope import bytes_of
from .named import NamedQueues
from .names import DEFAULT
from .ports import Retrying
from .runtime import SystemRuntime
from .worker.row import job_of, lock_of, prefix_of, queue_of

if TYPE_CHECKING:
    from .failures.sql import SqlFailures
    from .failures.table import FailedJobRecord

    Sent = Callable[[FailedJobRecord, str, str], object]
    """Told of a row that was sent back, with the new job's id and its queue."""


class SentBack(NamedTuple):
    """What became of rows."""

    sent: list[int]
    """Their jobs are on the queue, and they are deleted."""
    held: dict[int, str]
    """They stay: rows of unique jobs whose keys are taken, each with the id of the job that has it."""
    elsewhere: Counter[str]
    """How many stay as they are of the queues with these prefixes, which are not the driver's."""


def send_back(
    store: SqlFailures,
    driver: Retrying,
    rows: Sequence[FailedJobRecord],
    told: Sent = lambda row, job_id, queue: None,
) -> SentBack:
    """Push each job to its queue, then delete its row. Idempotent. A driver without named queues has one for all."""
    new_id = SystemRuntime().new_id
    found = SentBack([], {}, Counter())
    done: list[tuple[int, str | None]] = []
    for row in rows:
        if store.keeps_extra and (prefix := prefix_of(row.extra)) != driver.prefix:
            found.elsewhere[prefix] += 1
            continue
        failed_id = row.job_id or store.identify(row.id, new_id())
        job_id = new_id()
        envelope = job_of(row.job_type, bytes_of(row.payload), row.extra, job_id)
        failure = f"{row.id} {failed_id} {row.failed_at and row.failed_at.isoformat()}"
        queue = queue_of(row.queue, row.extra)
        if queue == DEFAULT or not getattr(driver, "names_queues", False):
            answer: bool | str = driver.push_retried(failure, envelope)
        else:
            lock = lock_of(row.extra, job_id)
            answer = cast("NamedQueues", driver).push_retried(failure, envelope, queue, lock)
        if isinstance(answer, str):
            found.held[row.id] = answer
            continue
        if answer:
            told(row, job_id, queue)
        done.append((row.id, failed_id))
    store.remove(done)
    found.sent.extend(row_id for row_id, _ in done)
    return found


def remove(store: SqlFailures, rows: Sequence[FailedJobRecord]) -> set[int]:
    """Delete the rows that are still there; returns their numbers."""
    return store.remove([(row.id, row.job_id) for row in rows])
