"""The data of a server in the plainest form, for the reference queue."""

from __future__ import annotations

from dataclasses import dataclass, field

from kashvi.ports import Lock

AT_ONCE = 500
"""The most due jobs that one exchange promotes."""


@dataclass
class PlainWorker:
    deadline: float
    n: int = 0
    settled_at: float = 0.0
    refused: tuple[int, ...] = ()
    cancelled: tuple[int, ...] = ()
    held: list[bytes] = field(default_factory=list)
    """Oldest first, as ``running``."""
    running: list[bytes] = field(default_factory=list)


@dataclass
class PlainLine:
    jobs: list[bytes] = field(default_factory=list)
    """The next to be claimed first."""
    delayed: dict[bytes, float] = field(default_factory=dict)
    paused: bool = False

    def add(self, envelope: bytes, due: float | None) -> None:
        if due is None:
            self.jobs.append(envelope)
        else:
            self.delayed[envelope] = due

    def promote(self, now: float) -> None:
        due = sorted((at, raw) for raw, at in self.delayed.items() if at <= now)[:AT_ONCE]
        for _, raw in due:
            del self.delayed[raw]
            self.jobs.append(raw)

    def take(self, most: int) -> list[bytes]:
        taken, self.jobs = self.jobs[: max(most, 0)], self.jobs[max(most, 0) :]
        return taken


@dataclass
class PlainQueue:
    """The data of a server."""

    lines: dict[str, PlainLine] = field(default_factory=dict)
    """The queues by name."""
    unrecorded: dict[bytes, float] = field(default_factory=dict)
    workers: dict[str, PlainWorker] = field(default_factory=dict)
    marks: dict[str, float] = field(default_factory=dict)
    """The ids of cancelled jobs, with their marks."""
    unique: dict[str, str] = field(default_factory=dict)
    """The keys of unique jobs, each with the id of the job that has it."""
    ticks: dict[str, float] = field(default_factory=dict)
    """The last tick of each cron entry."""
    relays: dict[str, tuple[str, int, float]] = field(default_factory=dict)
    """Of each outbox the token of its relay, its last number, and until when it is let in."""
    relayed: dict[str, dict[str, tuple[str, str]]] = field(default_factory=dict)

    def taken(self, lock: Lock) -> str:
        """The id of the job that has the key; empty if it was free: then this job has it now."""
        key, job_id = lock
        holder = self.unique.get(key, "")
        if key and not holder:
            self.unique[key] = job_id
        return holder

    def free(self, lock: Lock) -> None:
        key, job_id = lock
        if key and self.unique.get(key) == job_id:
            del self.unique[key]

    def line(self, queue: str) -> PlainLine:
        return self.lines.setdefault(queue, PlainLine())
