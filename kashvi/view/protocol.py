"""The questions that pages and exporters ask: ``View``."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from ..ports import Stats, Where
from .values import LIMIT_MAX, Failed, FailedPage, FailureFilter, JobPage, Minute, Missing, OutboxState, Story, Worker

if TYPE_CHECKING:
    from ..cron.listed import Scheduled
    from ..queued import QueueState

EVERYTHING = FailureFilter()


class View(Protocol):
    """A queue as it is at one time: it reads, and changes nothing.

    Answers are values (``kashvi.view.values``), each of one moment; two answers may be of different moments. What can't
    be known is ``Missing``: it says "not recorded" or "not offered".

    Every method may block for a round trip or a query: an ASGI app calls it in a thread, and several threads may call
    one view. Each raises DriverError if the server does not answer, and InvalidSetting for an argument out of range.
    None costs the server more than a few milliseconds, but ``story``, which says what it costs.
    """

    def now(self) -> datetime:
        """The server's time."""

    def stats(self) -> Stats:
        """The numbers of ready, delayed, held and unrecorded jobs, and of workers: of all queues together."""

    def queues(self) -> list[QueueState]:
        """Each queue by name: its jobs, the age of the oldest, whether it is paused and whether a worker serves it."""

    def jobs(
        self, where: Where = "ready", queue: str | None = None, *, limit: int = LIMIT_MAX, after: str = ""
    ) -> JobPage | Missing:
        """A page of up to ``limit`` jobs, 1 to 100.

        queue: of which; None: of the default queue, and running ones of all.
        after: ``JobPage.next`` of the page before; empty: from the start. A cursor of another list, or one that was
            changed, raises InvalidSetting.
        Jobs move between two pages: one may be missing or there twice. Not offered: the driver can't show its jobs.
        """

    def failures(
        self, wanted: FailureFilter = EVERYTHING, *, before: int | None = None, limit: int = LIMIT_MAX
    ) -> FailedPage | Missing:
        """A page of up to ``limit`` failed jobs, 1 to 100, newest first, without payloads.

        before: only rows with a lower number: ``FailedPage.next`` of the page before.
        Not offered: there is no failure table. Raises StoreUnavailable.
        """

    def failure(self, row_id: int) -> Failed | Missing | None:
        """The whole of one failed job; None: there is none of that number. Raises StoreUnavailable."""

    def workers(self) -> list[Worker] | Missing:
        """The workers on the server's list, by id, up to 1,000. Not offered: the driver does not list them."""

    def counts(self, minutes: int = 60) -> list[Minute] | Missing:
        """What ended in each of the last ``minutes``, 1 to 1,440, the current one last; minutes without anything are
        left out. Not offered: the driver takes no reports of workers.
        """

    def schedule(self) -> list[Scheduled] | Missing:
        """The cron entries by name: those of this app, and those that only the server knows. Not offered: the driver
        keeps no ticks."""

    def outboxes(self) -> list[OutboxState] | Missing:
        """The outboxes of this app; an empty list: it has none. One that can't be read says so (``error``)."""

    def story(self, job_id: str) -> Story:
        """One job, by the id that its dispatch returned.

        It is looked for in all places of all queues, which takes the server about 1.5 ms per 1,000 jobs, in calls of
        1,000, and then in the failure table. Raises InvalidSetting for what can be no id: text of more than 256
        bytes, or empty. Raises StoreUnavailable.
        """
