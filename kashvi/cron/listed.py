"""The cron entries of a queue as they stand: last and next ticks, by the server's clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from ..ticking import Ticking
from .entry import Entry, Missed

SHOWN = 3


@dataclass(frozen=True, slots=True)
class Scheduled:
    """An entry, as it was a moment ago. Times are in UTC."""

    name: str
    here: bool = False
    """False if the server knows the name, and this app's table does not have it: the fields below are empty then."""
    expression: str = ""
    tz: str = ""
    type: str = ""
    queue: str = ""
    missed: Missed = "once"
    max_late_s: float = 0.0
    last: datetime | None = None
    """The newest tick that was fired or left out; None if there was none."""
    next: tuple[datetime, ...] = ()
    """The next three ticks."""


def scheduled(entries: Mapping[str, Entry], driver: Ticking) -> list[Scheduled]:
    """The app's entries and those that only the server knows, by name. Changes nothing. Raises DriverError."""
    now, last = driver.last_ticks()
    found = [_scheduled(entry, now, last.get(entry.name)) for entry in entries.values()]
    found += [Scheduled(name, last=_tick(at)) for name, at in last.items() if name not in entries]
    return sorted(found, key=lambda one: one.name)


def _scheduled(entry: Entry, now: float, last: float | None) -> Scheduled:
    ticks: list[datetime] = []
    at: float | None = max(now, last or 0.0)
    while len(ticks) < SHOWN and at is not None and (at := entry.schedule.after(at)) is not None:
        ticks.append(datetime.fromtimestamp(at, UTC))
    return Scheduled(
        entry.name, True, entry.schedule.expression, entry.schedule.zone, entry.type, entry.queue, entry.missed,
        entry.max_late_s, None if last is None else _tick(last), tuple(ticks),
    )  # fmt: skip


def _tick(last: float) -> datetime | None:
    """None for the time when the server first saw the name: ticks are whole minutes."""
    try:
        return datetime.fromtimestamp(last, UTC) if last > 0 and last % 60 == 0 else None
    except (ValueError, OverflowError, OSError):
        return None
