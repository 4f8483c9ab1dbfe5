"""The port of drivers that show their jobs page by page, and their workers. What they read, they do not change."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from .errors import InvalidSetting
from .names import DEFAULT
from .ports import Place, Shown, Where

PAGE_MAX_BYTES = 1024 * 1024
"""A page ends with the entry that reaches this total, so that it holds up no server for long."""
WORKERS_MAX = 1_000
"""The most workers that are shown."""


class WorkerState(NamedTuple):
    """A worker on the server's list."""

    id: str
    lease_left_s: float
    """By the server's clock; negative: it ran out."""
    queues: tuple[str, ...]
    """Those it serves, in their order."""
    holds: int
    """The jobs on its two lists."""


class Cursor(NamedTuple):
    """Where a page of jobs begins, by the place in which they are."""

    skip: int = 0
    """ready: counted from the job that is claimed next. delayed: of those with this score. running: of this list."""
    score: float = 0.0
    """delayed."""
    worker: str = ""
    place: Place = "running"
    """running."""

    def __str__(self) -> str:
        parts = (self.skip, repr(self.score), base64.urlsafe_b64encode(self.worker.encode()).decode(), self.place)
        return "~".join(map(str, parts))


START = Cursor(score=float("-inf"))


def cursor(text: str) -> Cursor:
    """The cursor in this text; empty: the start. Raises InvalidSetting."""
    if not text:
        return START
    try:
        skip, score, worker, place = text.split("~")
        found = Cursor(int(skip), float(score), base64.urlsafe_b64decode(worker.encode()).decode())
        if not 0 <= found.skip < 2**53 or found.score != found.score or place not in ("held", "running"):
            raise ValueError(text)
        return found._replace(place="held" if place == "held" else "running")
    except ValueError:
        raise InvalidSetting("the cursor of a page", text, "one that a page before gave") from None


def after_delayed(start: Cursor, found: Sequence[Shown]) -> Cursor:
    """The cursor behind these delayed jobs, which begin at the other one."""
    if not found:
        return start
    score = found[-1].due or 0.0
    same = sum(one.due == score for one in found)
    return Cursor(same + (start.skip if score == start.score else 0), score)


@runtime_checkable
class Paging(Protocol):
    """A driver that can be looked at. Raises what ``Driver`` raises."""

    def server_time(self) -> float:
        """The server's time, in Unix seconds."""

    def page(self, where: Where, limit: int, start: Cursor, queue: str = DEFAULT) -> tuple[list[Shown], Cursor | None]:
        """Up to ``limit`` jobs of a place, or as many as reach PAGE_MAX_BYTES, and where to read on; None: at the end.

        In the order of ``Showing.show``, running ones of all queues by worker and list. A page may be short.
        """

    def worker_states(self) -> list[WorkerState]:
        """The workers by id, up to WORKERS_MAX. May take several reads."""
