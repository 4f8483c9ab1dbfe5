"""The counts of the last hour or day, added up for tables and charts."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ..view import BUCKETS_S, Minute, Missing
from .shown import added

HOUR = 60
SPANS = {"hour": HOUR, "day": 24 * HOUR}
"""Minutes."""
TREND = 30
"""The columns of a small chart."""
RATE = 5
"""The minutes, the current one among them, over which a rate is taken."""


@dataclass
class Slot:
    """A column of a chart."""

    at: datetime
    done: int = 0
    retried: int = 0
    failed: int = 0


@dataclass
class Sum:
    """What a queue, a type or all of them did."""

    done: int = 0
    retried: int = 0
    failed: int = 0
    other: int = 0
    waits: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    runs: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))

    def add(self, outcome: str, n: int) -> None:
        if outcome in ("done", "retried", "failed"):
            setattr(self, outcome, getattr(self, outcome) + n)
        else:
            self.other += n


def summed(minutes: list[Minute] | Missing, queue: str | None = None) -> dict[str, Sum]:
    """By queue, and of all under the empty name."""
    sums: dict[str, Sum] = defaultdict(Sum)
    for minute in [] if isinstance(minutes, Missing) else minutes:
        for count in minute.counts:
            sums[count.queue].add(count.outcome, count.n)
            sums[""].add(count.outcome, count.n)
        for name, all_of in (("waits", minute.waits), ("runs", minute.runs)):
            for where, histogram in all_of.items():
                for one in (sums[where], sums[""]):
                    setattr(one, name, added((tuple(getattr(one, name)), histogram)))
    return sums if queue is None else {"": sums[queue]}


def rates(minutes: list[Minute] | Missing, now: datetime) -> dict[str, float]:
    """The jobs done a minute of late, by queue."""
    start = _minute(now) - timedelta(minutes=RATE - 1)
    done: dict[str, int] = defaultdict(int)
    for minute in [] if isinstance(minutes, Missing) else minutes:
        for count in minute.counts if minute.at >= start else ():
            done[count.queue] += count.n if count.outcome == "done" else 0
    each = (now - start) / timedelta(minutes=1)
    return {queue: n / each for queue, n in done.items()}


def table(minutes: list[Minute]) -> list[tuple[str, str, Sum]]:
    """By type and queue, the busiest first."""
    sums: dict[tuple[str, str], Sum] = defaultdict(Sum)
    for minute in minutes:
        for count in minute.counts:
            sums[count.type, count.queue].add(count.outcome, count.n)
    rows = [(name, queue, one) for (name, queue), one in sums.items()]
    return sorted(rows, key=lambda row: (-(row[2].done + row[2].failed + row[2].retried), row[0], row[1]))[:200]


def trends(
    minutes: list[Minute] | Missing, now: datetime, span: int = HOUR, columns: int = TREND
) -> dict[str, list[Slot]]:
    """Columns of equal width up to now, by queue, and of all under the empty name."""
    each = span // columns
    start = _minute(now) - timedelta(minutes=span - 1)

    def empty() -> list[Slot]:
        return [Slot(start + timedelta(minutes=each * i)) for i in range(columns)]

    found: dict[str, list[Slot]] = defaultdict(empty)
    found[""] = empty()
    for minute in [] if isinstance(minutes, Missing) else minutes:
        i = int((minute.at - start).total_seconds() // 60) // each
        if not 0 <= i < columns:
            continue
        for count in minute.counts:
            for slot in (found[count.queue][i], found[""][i]):
                if count.outcome in ("done", "retried", "failed"):
                    setattr(slot, count.outcome, getattr(slot, count.outcome) + count.n)
    return found


def _minute(at: datetime) -> datetime:
    """When it began."""
    return at.replace(second=0, microsecond=0)
