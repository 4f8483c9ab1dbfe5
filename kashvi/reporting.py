"""The port of drivers that take reports: what each worker is about, and what ended in each minute."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

REPORT_S = 5.0
"""A worker reports as often as that, if something has changed."""
KEPT_S = 25 * 3600
"""For how long a server keeps a minute."""
BUCKETS_S = (0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 3600.0)
"""The upper bounds of the first eleven buckets of a duration, each included; the twelfth has the rest."""
TYPES_MAX = 200
"""Types beyond these in a report are counted as OTHER."""
COUNTS_MAX = 2_000
"""A minute with 2,000 counts takes none of a new type: they are counted as OTHER."""
TYPE_MAX = 200
"""Of a longer type, the first characters are counted."""
OTHER = "other"


class Counts(NamedTuple):
    """What a worker has counted since its last report."""

    ended: dict[tuple[str, str, str], int]
    """By queue, outcome and type."""
    waits: dict[tuple[str, int], int]
    """By queue and bucket, from 0."""
    runs: dict[tuple[str, int], int]

    def __bool__(self) -> bool:
        return bool(self.ended or self.waits or self.runs)


class Report(NamedTuple):
    """What a driver knows of a worker by its reports."""

    about: bytes
    """JSON, as the worker wrote it."""
    at: float
    """When it came, by the server's clock."""


@runtime_checkable
class Reporting(Protocol):
    """A driver that takes reports. Raises what ``Driver`` raises."""

    def report(self, worker: str, n: int, minute: int, about: bytes, counts: Counts) -> bool:
        """Keep what the worker is about, in place of what it was, and add its counts to those of a minute since 1970:
        one step. With empty ``about``, which is the last report, forget the worker.

        ``n`` grows by one; a repeated or lower number changes nothing (HISTORY-1). False, and nothing changed: the
        worker is not on the server's list.
        """

    def reports(self, workers: list[str]) -> dict[str, Report]:
        """The last report of each of these workers that are on the server's list (HISTORY-2)."""

    def counted(self, minutes: range) -> dict[int, Counts]:
        """The counts of those of these minutes that have some."""
