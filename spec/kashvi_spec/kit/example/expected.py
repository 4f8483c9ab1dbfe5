"""Compares the result of an example with its expectation."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from kashvi_sim.world.world import World

from kashvi.events import (
    AttemptStuck,
    AttemptSucceeded,
    JobFailed,
    JobReturned,
    JobSnoozed,
    JobSucceeded,
    PolicyIgnored,
    SettleRefused,
)

from .situation import Example

PARTIAL = frozenset({"attempts_at", "starts_of", "ended", "error", "left"})
"""Expectations that need not name every job."""
TIMER_S = 0.02
"""How late a step may be, since timers are coarse. It may never be early."""
CALLS_MAX = 20_000
"""More calls of server and database than any example needs."""


@dataclass
class Notes:
    """Observations while the example ran."""

    attempts: list[tuple[float, str]] = field(default_factory=list)
    """The starts with their jobs, noted by the handlers, not taken from events."""
    running: int = 0
    most_running: int = 0
    names: dict[str, str] = field(default_factory=dict)
    """The names of jobs, by id."""
    cancelled: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The answers to the cancels of each job."""
    calls: int = 0
    start: float = 0.0
    """The times by the server's clock."""


class Seen:
    """One run, after its end."""

    def __init__(self, example: Example, world: World, notes: Notes) -> None:
        self.example = example
        self.world = world
        self.notes = notes

    def compared(self) -> list[str]:
        """A sentence for each expectation that was not met."""
        found = ["the workers spin: they call the server without end"] if self.notes.calls > CALLS_MAX else []
        for name in self.example.expects:
            wanted, got = getattr(self.example, name), getattr(self, f"_seen_{name}")()
            if name in PARTIAL and isinstance(wanted, dict):
                got = {key: got.get(key) for key in wanted}
            if not (wanted[0] <= got <= wanted[1] if name == "last_start_between" else _as_wanted(got, wanted)):
                found.append(f"{name} is {got!r}, not {wanted!r}")
        return found

    def _seen_attempts_at(self) -> Any:
        if isinstance(self.example.attempts_at, tuple):
            return tuple(at for at, _ in self.notes.attempts)
        by_name: dict[str, tuple[float, ...]] = dict.fromkeys(self.example.all_names(), ())
        for at, name in self.notes.attempts:
            by_name[name] += (at,)
        return by_name

    def _seen_order(self) -> tuple[str, ...]:
        return tuple(name for _, name in self.notes.attempts)

    def _seen_starts(self) -> int:
        return len(self.notes.attempts)

    def _seen_starts_of(self) -> dict[str, int]:
        return dict.fromkeys(self.example.all_names(), 0) | Counter(name for _, name in self.notes.attempts)

    def _seen_last_start_between(self) -> float:
        return max((at for at, _ in self.notes.attempts), default=-1.0)

    def _seen_ended(self) -> dict[str, str]:
        ended = dict.fromkeys(self.example.all_names(), "not")
        for event in self.world.events:
            if isinstance(event, JobSucceeded | JobFailed) and event.job_id in self.notes.names:
                ended[self.notes.names[event.job_id]] = "failed" if isinstance(event, JobFailed) else "succeeded"
        return ended

    def _failed(self) -> dict[str, JobFailed]:
        """The failed jobs by name; jobs of other programs have the name of their kind."""
        return {
            self.notes.names.get(event.job_id, "unknown" if event.type else "garbage"): event
            for event in self.world.events
            if isinstance(event, JobFailed)
        }

    def _seen_failed_after(self) -> dict[str, int]:
        return {name: event.attempts for name, event in self._failed().items()}

    def _seen_failed_at(self) -> dict[str, float]:
        return {name: round((event.server_at or 0.0) - self.notes.start, 6) for name, event in self._failed().items()}

    def _seen_error(self) -> dict[str, str]:
        return {name: event.error for name, event in self._failed().items()}

    def _seen_rows(self) -> dict[str, int]:
        assert self.world.database is not None, "rows need a table"
        with self.world.database.connect() as connection:
            rows = connection.execute(sa.text("SELECT job_id, job_type, attempts FROM kashvi_failed_jobs"))
            return {
                self.notes.names.get(job_id, "unknown" if job_type else "garbage"): attempts
                for job_id, job_type, attempts in rows
            }

    def _seen_at_most_at_once(self) -> int:
        return self.notes.most_running

    def _seen_snoozed(self) -> dict[str, int]:
        told = [event for event in self.world.events if isinstance(event, JobSnoozed)]
        return {self.notes.names[event.job_id]: event.snoozed for event in sorted(told, key=lambda one: one.snoozed)}

    def _seen_late(self) -> dict[str, int]:
        told = [event for event in self.world.events if isinstance(event, AttemptSucceeded) and event.late]
        return Counter(self.notes.names[event.job_id] for event in told)

    def _seen_stuck(self) -> dict[str, int]:
        told = [event for event in self.world.events if isinstance(event, AttemptStuck)]
        return Counter(self.notes.names[event.job_id] for event in told)

    def _seen_cancelled(self) -> dict[str, tuple[str, ...]]:
        return self.notes.cancelled

    def _seen_suspects(self) -> int:
        return sum(isinstance(event, JobReturned) and event.suspect for event in self.world.events)

    def _seen_ignored(self) -> int:
        return sum(isinstance(event, PolicyIgnored) for event in self.world.events)

    def _seen_refused(self) -> int:
        return sum(isinstance(event, SettleRefused) for event in self.world.events)

    def _seen_left(self) -> dict[str, int]:
        stats = self.world.server.driver.stats()
        return {name: getattr(stats, name) for name in ("ready", "delayed", "held", "unrecorded", "workers")}


def _as_wanted(got: Any, wanted: Any) -> bool:
    if isinstance(wanted, float):
        return isinstance(got, float) and 0 <= got - wanted <= TIMER_S
    if isinstance(wanted, dict):
        return got.keys() == wanted.keys() and all(_as_wanted(got[key], wanted[key]) for key in wanted)
    if isinstance(wanted, tuple):
        return len(got) == len(wanted) and all(map(_as_wanted, got, wanted))
    return bool(got == wanted)
