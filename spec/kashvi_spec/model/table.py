"""The required result for a job whose attempt ended: the rules of retry.md, delivery.md and failures.md, row by row.

It has literal rows and no formula that the library could share, so that the same bug can't easily be in both.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

End = Literal["succeeded", "failed", "gave up", "snoozed", "lost", "beside", "void", "died", "returned", "unknown"]
"""The end of an attempt. After its owner's death: lost if it was announced and alone; beside if it was announced and
another job may have caused the death; died if it was not announced. gave up: by the handler or the type's policy.
snoozed: the handler asked for it. void: no attempt was possible. unknown: this worker does not know the type."""
Verdict = Literal["done", "delayed", "unrecorded", "ready"]

ANY = 0


class Row(NamedTuple):
    """One line of the table."""

    end: End
    attempt: int
    """Its number, from 1."""
    limit: int
    to: Verdict
    counts: bool = False
    suspect: bool | None = None
    """Marked or cleared; None: unchanged."""
    wait_s: float = 0.0
    """The wait of a delayed job."""


TABLE: tuple[Row, ...] = (
    Row("succeeded", ANY, ANY, "done", counts=True),
    Row("void", ANY, ANY, "unrecorded"),
    Row("returned", ANY, ANY, "ready"),
    Row("unknown", ANY, ANY, "delayed", wait_s=1),  # at first, and longer later: the walk does not check it
    Row("gave up", ANY, ANY, "unrecorded", counts=True, suspect=False),
    Row("snoozed", ANY, ANY, "delayed", suspect=False),  # its wait is the handler's, so the model leaves it out
    Row("died", ANY, ANY, "ready", suspect=True),
    Row("beside", ANY, ANY, "ready", suspect=True),
    Row("failed", 1, 1, "unrecorded", counts=True, suspect=False),
    Row("failed", 1, 2, "delayed", counts=True, suspect=False, wait_s=1),
    Row("failed", 2, 2, "unrecorded", counts=True, suspect=False),
    Row("failed", 1, 3, "delayed", counts=True, suspect=False, wait_s=1),
    Row("failed", 2, 3, "delayed", counts=True, suspect=False, wait_s=2),
    Row("failed", 3, 3, "unrecorded", counts=True, suspect=False),
    Row("lost", 1, 1, "unrecorded", counts=True, suspect=False),
    Row("lost", 1, 2, "delayed", counts=True, suspect=True, wait_s=1),
    Row("lost", 2, 2, "unrecorded", counts=True, suspect=False),
    Row("lost", 1, 3, "delayed", counts=True, suspect=True, wait_s=1),
    Row("lost", 2, 3, "delayed", counts=True, suspect=True, wait_s=2),
    Row("lost", 3, 3, "unrecorded", counts=True, suspect=False),
)
LIMITS = (1, 2, 3)
"""The limits of attempts that the table covers."""

Decisions = dict[tuple[End, int], Row]
"""The rows by end and attempt."""


def decisions(limit: int, table: tuple[Row, ...] = TABLE) -> Decisions:
    """The rows for one limit of attempts. Raises KeyError for a limit that the table does not cover."""
    if limit not in LIMITS:
        raise KeyError(limit)
    return {
        (row.end, attempt): row
        for row in table
        if row.limit in (limit, ANY)
        for attempt in ([row.attempt] if row.attempt else range(1, limit + 1))
    }
