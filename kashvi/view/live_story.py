"""One job of a running queue: looked for in all places of all queues, then in the failure table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..cancelling import ID_MAX_BYTES, Cancelling, found
from ..errors import InvalidSetting
from ..jobs.envelope import Envelope, queue_in, text_of
from ..ports import Where
from ..queued import made_at
from ..worker.row import queue_of
from .values import NOT_RECORDED, Story

if TYPE_CHECKING:
    from ..failures.sql import SqlFailures


def told(driver: Cancelling | None, store: SqlFailures | None, job_id: str) -> Story:
    """Its story. ``driver``: None if it can't be searched."""
    text = job_id.encode("utf-8", "ignore") if isinstance(job_id, str) else b""
    if not 0 < len(text) <= ID_MAX_BYTES or text.decode() != job_id:
        raise InvalidSetting("the job's id", job_id, f"the text that dispatch() returned, up to {ID_MAX_BYTES} bytes")
    story = _on_a_queue(driver, job_id) if driver is not None else None
    if story is None and store is not None:
        story = _failed(store, job_id)
    return story or Story(job_id, "unknown", dispatched_at=made_at(job_id))


def _on_a_queue(driver: Cancelling, job_id: str) -> Story | None:
    """A job moves from delayed to ready to a worker, and from there back to delayed: so the search ends there, too."""
    places: tuple[Where, ...] = ("delayed", "ready", "running", "delayed")
    for where in places:
        for queue in driver.queue_names() if where != "running" else [""]:
            for _, one in found(driver, job_id, where, queue):
                return _story(driver, one, where, queue or queue_in(one))
    return None


def _story(driver: Cancelling, one: Envelope, where: Where, queue: str) -> Story:
    error = NOT_RECORDED if one.attempts else ""
    return Story(
        one.id, where, one.type, queue, one.attempts, error, text_of(bytes(one.payload)),
        dispatched_at=made_at(one.id), lost=one.lost, cancelled=bool(driver.marked([one.id])),
    )  # fmt: skip


def _failed(store: SqlFailures, job_id: str) -> Story | None:
    for row in store.rows([], [job_id], limit=1):
        queue = queue_of(row.queue, row.extra)
        return Story(
            job_id, "failed", row.job_type, queue, row.attempts, row.error or "", row.payload,
            dispatched_at=made_at(job_id), row_id=row.id,
        )  # fmt: skip
    return None
