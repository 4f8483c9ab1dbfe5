"""The story of a run: actions and observations with the server's times. Judges read it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

JOBS = "kashvi:queue:jobs"
DELAYED = "kashvi:queue:delayed"
UNRECORDED = "kashvi:queue:unrecorded"
CANCELLED = "kashvi:queue:cancelled"
PREFIX = "kashvi:queue:"
TYPES = {JOBS: "list", DELAYED: "zset", UNRECORDED: "zset"}
"""The types of these keys on the server."""
SHOWN_MAX = 300
"""The most characters of an envelope in evidence."""
LINES_MAX = 40
AFTER_S = 2.0
"""Evidence window after a job's last entry: actions on any worker,"""
AFTER_IN_ITS_WORKER_S = 20.0
"""and actions on the workers that ran it."""

Fate = Literal["done", "failed", "undeliverable", "left", "cancelled"]
"""The required end of a job. left: the kit ends before the job does."""


@dataclass(frozen=True)
class Pushed:
    """A job that the kit put on the queue."""

    name: str
    situation: str
    type: str
    """Empty: its bytes are not an envelope."""
    raw: bytes
    at: float
    due: float | None = None
    """None: pushed to ``kashvi:queue:jobs``."""
    fate: Fate = "done"
    copies: int = 1
    """The number of pushes of these bytes."""


@dataclass(frozen=True)
class Entry:
    """An entry of a job in the log."""

    at: float
    id: str
    job: str
    did: str
    worker: str
    fields: dict[str, str]


@dataclass(frozen=True)
class Waiting:
    """A job in ``kashvi:queue:delayed`` that the kit did not put there."""

    at: float
    job: str
    due: float
    raw: bytes


@dataclass(frozen=True)
class Record:
    """A failure, in the table or in ``kashvi:queue:unrecorded``."""

    at: float
    """The time of its first observation."""
    job: str
    where: Literal["table", "unrecorded"]
    key: str
    """Distinguishes two records of one job."""
    type: str
    payload: str
    error: str
    attempts: int
    failed_at: float | None


@dataclass(frozen=True)
class Happened:
    """An action on a worker process, or its end."""

    at: float
    worker: str
    what: str
    """started, ended, or the name of a signal."""
    code: int | None = None
    asked: bool = True
    """ended: False if it ended by itself."""


@dataclass
class Story:
    """One run of the kit."""

    threads: int
    lease_s: float
    began: float = 0.0
    pushed: dict[str, Pushed] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    waiting: list[Waiting] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    happened: list[Happened] = field(default_factory=list)
    expiring: dict[str, int] = field(default_factory=dict)
    """Keys of the queue that had a time to live, in milliseconds."""
    columns: list[str] = field(default_factory=list)
    """The columns of the failure table; empty if it was missing."""
    no_text: dict[str, str] = field(default_factory=dict)
    """Its columns with bytes that are not UTF-8, and the first job with such a row."""
    wrong_types: dict[str, str] = field(default_factory=dict)
    """Keys of the queue whose type a worker changed, with the new type."""
    asked_idle: list[str] = field(default_factory=list)
    """The commands of an idle worker."""
    idle_s: float = 0.0
    """The seconds of that observation; 0: it was not possible."""
    left: list[tuple[str, bytes]] = field(default_factory=list)
    """Key and bytes of the jobs left on the queue at the end."""
    cancelled: dict[str, float] = field(default_factory=dict)
    """When the kit had marked a job as cancelled, by name."""
    held: int = 0
    """Jobs that a worker had claimed and not started when it was told to stop."""
    handed_back: list[bytes] | None = None
    """``kashvi:queue:jobs`` after the first signal ended the worker, in the order of claims."""
    handed_back_at_once: list[bytes] | None = None
    """The same after the second signal."""
    missed: dict[str, str] = field(default_factory=dict)
    """Situations that could not be created, with the reasons."""
    cut_short: str = ""
    """The reason if the run was cut short."""

    def of(self, *situations: str) -> list[Pushed]:
        return [one for one in self.pushed.values() if one.situation in situations]

    def told(self, job: str, did: str = "start") -> list[Entry]:
        return [one for one in self.entries if one.job == job and one.did == did]

    def recorded(self, job: str) -> list[Record]:
        """The job's records in the table, else in ``unrecorded``."""
        found = [one for one in self.records if one.job == job]
        return [one for one in found if one.where == "table"] or found

    def ended(self, one: Pushed) -> bool:
        """True if the job succeeded or is recorded as failed."""
        return len(self.told(one.name, "end")) + len(self.recorded(one.name)) >= one.copies

    def elsewhere(self, job: str) -> bool:
        """True if a second attempt ran in another process than the first."""
        return len({entry.worker for entry in self.told(job)[:2]}) > 1

    def did(self, what: str, worker: str = "") -> list[Happened]:
        return [one for one in self.happened if one.what == what and worker in ("", one.worker)]

    def evidence(self, jobs: Iterable[str]) -> list[str]:
        """All entries about some jobs, and the actions on workers meanwhile, in the order of time."""
        names = set(jobs)
        lines: list[tuple[float, str]] = [
            (one.at, f"pushed {_pushed(one)}") for one in self.pushed.values() if one.name in names
        ]
        lines += [(one.at, _entry(one)) for one in self.entries if one.job in names]
        lines += [
            (one.at, f"{one.job} seen in {DELAYED}, due at {self.since(one.due)}: {shown(one.raw)}")
            for one in self.waiting
            if one.job in names
        ]
        lines += [
            (one.at, f"{one.job} seen in {_place(one)}: {_said(one)}") for one in self.records if one.job in names
        ]
        since, last = (pick((at for at, _ in lines), default=0.0) for pick in (min, max))
        ran_it = {one.worker for one in self.entries if one.job in names}
        for one in self.happened:
            until = last + (AFTER_IN_ITS_WORKER_S if one.worker in ran_it else AFTER_S)
            lines += [(one.at, _done_to(one))] if since <= one.at <= until else []
        told = [f"{self.since(at)} {text}" for at, text in sorted(lines, key=lambda line: line[0])]
        return told[:LINES_MAX] + ([f"… and {len(told) - LINES_MAX} more lines"] if len(told) > LINES_MAX else [])

    def since(self, at: float) -> str:
        """Seconds since the kit began."""
        return f"{at - self.began:+.3f} s"


def shown(raw: bytes) -> str:
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in raw.decode("utf-8", "backslashreplace"))
    return text if len(text) <= SHOWN_MAX else text[:SHOWN_MAX] + "…"


def document(raw: bytes | str) -> dict[str, Any]:
    """The JSON object in these bytes; empty if they are not one."""
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _done_to(one: Happened) -> str:
    if one.what != "ended":
        return f"{one.worker} {'started' if one.what == 'started' else 'was sent ' + one.what}"
    how = "" if one.code is None else f" with exit code {one.code}" if one.code >= 0 else f" by signal {-one.code}"
    return f"{one.worker} ended{how}" + ("" if one.asked else " by itself")


def _pushed(one: Pushed) -> str:
    times = f", {one.copies} times" if one.copies > 1 else ""
    return f"{one.name} to {JOBS if one.due is None else DELAYED}{times}: {shown(one.raw)}"


def _entry(one: Entry) -> str:
    more = "".join(f", {name} {value}" for name, value in one.fields.items())
    return f"{one.job}: {one.did} in {one.worker}{more}"


def _said(one: Record) -> str:
    return f"{one.attempts} attempts, {one.error!r}, {shown(one.payload.encode())}"


def _place(one: Record) -> str:
    return UNRECORDED if one.where == "unrecorded" else "the failure table"
