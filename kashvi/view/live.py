"""``View`` of a running queue: what its driver, its failure table and its outboxes say now."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

from .. import settings
from ..cancelling import Cancelling
from ..errors import InvalidSetting, OutboxUnavailable
from ..names import queue_name
from ..paging import Cursor, Paging, cursor
from ..ports import WHERE, Stats, Where
from ..queued import job_of, states
from ..relaying import Relaying
from ..reporting import Reporting
from . import live_story, reported
from .protocol import EVERYTHING
from .values import (
    LIMIT_MAX,
    MINUTES_MAX,
    NOT_OFFERED,
    Failed,
    FailedPage,
    FailureFilter,
    Job,
    JobPage,
    Minute,
    Missing,
    OutboxState,
    Story,
    Worker,
)

if TYPE_CHECKING:
    from ..cron.listed import Scheduled
    from ..failures.sql import SqlFailures
    from ..queue import Queue
    from ..queued import QueuedJob, QueueState

READS_MAX = 20
"""The most reads for a page of one queue's running jobs, which are among those of all queues."""


class LiveView:
    """A ``View`` of a queue of this process. Drivers without an optional port have parts that say "not offered"."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def now(self) -> datetime:
        driver = self._queue.driver
        at = driver.server_time() if isinstance(driver, Paging) else self._queue.host_time()
        return datetime.fromtimestamp(at, UTC)

    def stats(self) -> Stats:
        return self._queue.driver.stats()

    def queues(self) -> list[QueueState]:
        return states(self._queue.driver)

    def jobs(
        self, where: Where = "ready", queue: str | None = None, *, limit: int = LIMIT_MAX, after: str = ""
    ) -> JobPage | Missing:
        if where not in WHERE:
            raise InvalidSetting("where", where, f"one of {', '.join(WHERE)}")
        _limited("limit", limit, LIMIT_MAX)
        if queue is not None:
            queue_name(queue)
        driver, at = self._queue.driver, cursor(after)
        if not isinstance(driver, Paging):
            return NOT_OFFERED
        found = list[Job]()
        more: Cursor | None = at
        for _ in range(READS_MAX):
            shown, more = driver.page(where, limit - len(found), at, *([] if queue is None else [queue]))
            jobs = [job_of(one, where, queue) for one in shown]
            found += [_job(one) for one in jobs if where != "running" or queue in (None, one.queue)]
            if more is None or len(found) >= limit or where != "running":
                break
            at = more
        return JobPage(tuple(found), "" if more is None else str(more))

    def failures(
        self, wanted: FailureFilter = EVERYTHING, *, before: int | None = None, limit: int = LIMIT_MAX
    ) -> FailedPage | Missing:
        _limited("limit", limit, LIMIT_MAX)
        if (store := self._store()) is None:
            return NOT_OFFERED
        from .failed_rows import page

        return page(store, wanted, before, limit)

    def failure(self, row_id: int) -> Failed | Missing | None:
        if (store := self._store()) is None:
            return NOT_OFFERED
        from .failed_rows import whole

        return next(map(whole, store.rows([row_id])), None)

    def workers(self) -> list[Worker] | Missing:
        driver = self._queue.driver
        if not isinstance(driver, Paging):
            return NOT_OFFERED
        found = driver.worker_states()
        reports = driver.reports([one.id for one in found]) if isinstance(driver, Reporting) else {}
        return [reported.worker(one, reports.get(one.id)) for one in found]

    def counts(self, minutes: int = 60) -> list[Minute] | Missing:
        _limited("minutes", minutes, MINUTES_MAX)
        driver = self._queue.driver
        if not isinstance(driver, Reporting):
            return NOT_OFFERED
        last = int(self.now().timestamp() // 60)
        found = driver.counted(range(last - minutes + 1, last + 1))
        return [reported.minute(at, found[at]) for at in sorted(found)]

    def schedule(self) -> list[Scheduled] | Missing:
        return self._queue.schedule() if getattr(self._queue.driver, "keeps_ticks", False) else NOT_OFFERED

    def outboxes(self) -> list[OutboxState] | Missing:
        found, driver = list[OutboxState](), self._queue.driver
        for outbox in self._queue.outboxes():
            target = outbox.target() if isinstance(driver, Relaying) else ""
            try:
                mine = next((one for one in outbox.counted() if one.target == target), None)
            except OutboxUnavailable as error:
                found.append(OutboxState(repr(outbox), NOT_OFFERED, error=str(error)))
            else:
                found.append(OutboxState(repr(outbox), mine.rows if mine else 0, mine and mine.oldest_s))
            finally:
                outbox.rest()
        return found

    def story(self, job_id: str) -> Story:
        driver = self._queue.driver
        return live_story.told(driver if isinstance(driver, Cancelling) else None, self._store(), job_id)

    def _store(self) -> SqlFailures | None:
        """The failure table, if it is one of a database."""
        store = self._queue.store
        if store is None:
            return None
        from ..failures.sql import SqlFailures

        return store if isinstance(store, SqlFailures) else None


def _limited(what: str, number: object, most: int) -> None:
    settings.at_least(what, cast("int", number), 1)
    if cast("int", number) > most:
        raise InvalidSetting(what, number, f"a whole number from 1 to {most:,}")


def _job(one: QueuedJob) -> Job:
    return Job(
        one.id, one.type, one.queue, one.where, one.payload, one.attempts, one.due, one.worker, one.dispatched_at,
        one.lost,
    )  # fmt: skip
