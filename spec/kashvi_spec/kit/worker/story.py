"""What was done to a worker, and what was seen of it: facts, with the server's times. Judges read it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

JOBS = "kashvi:queue:jobs"
DELAYED = "kashvi:queue:delayed"
UNRECORDED = "kashvi:queue:unrecorded"
PREFIX = "kashvi:queue:"
TYPES = {JOBS: "list", DELAYED: "zset", UNRECORDED: "zset"}
"""What they are on the server."""
SHOWN_MAX = 300
"""Characters of an envelope, as evidence."""
LINES_MAX = 40
AFTER_S = 2.0
"""What was done to workers so soon after the last of a job may have to do with it;"""
AFTER_IN_ITS_WORKER_S = 20.0
"""and to the workers that ran it, so long after."""

Fate = Literal["done", "failed", "undeliverable", "left"]
"""What has to become of a job. left: the kit ends before it does."""


@dataclass(frozen=True)
class Pushed:
    """A job that the kit put on the queue."""

    name: str
    situation: str
    type: str
    """Empty: its bytes are no envelope."""
    raw: bytes
    at: float
    due: float | None = None
    """None: pushed to ``kashvi:queue:jobs``."""
    fate: Fate = "done"
    copies: int = 1
    """So many times these very bytes."""


@dataclass(frozen=True)
class Entry:
    """What a job wrote to the log."""

    at: float
    id: str
    job: str
    did: str
    worker: str
    fields: dict[str, str]


@dataclass(frozen=True)
class Waiting:
    """A job that was seen in ``kashvi:queue:delayed``, other than the kit put it there."""

    at: float
    job: str
    due: float
    raw: bytes


@dataclass(frozen=True)
class Record:
    """A failure, in the table or in ``kashvi:queue:unrecorded``."""

    at: float
    """When it was seen first."""
    job: str
    where: Literal["table", "unrecorded"]
    key: str
    """Tells two records of one job apart."""
    type: str
    payload: str
    error: str
    attempts: int
    failed_at: float | None


@dataclass(frozen=True)
class Happened:
    """Something that was done to a worker process, or its end."""

    at: float
    worker: str
    what: str
    """started, ended, or the name of a signal."""
    code: int | None = None
    asked: bool = True
    """ended: False if nobody had told it to."""


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
    """Of the failure table; empty: it was not there."""
    no_text: dict[str, str] = field(default_factory=dict)
    """Its columns in which bytes stood that are no UTF-8, and the first job in whose row."""
    wrong_types: dict[str, str] = field(default_factory=dict)
    """Keys of the queue that a worker has made something else, and what."""
    asked_idle: list[str] = field(default_factory=list)
    """What an idle worker asked the server."""
    idle_s: float = 0.0
    """How long that was watched; 0: it could not be."""
    left: list[tuple[str, bytes]] = field(default_factory=list)
    """Key and bytes of what lay on the queue when all should have been done."""
    held: int = 0
    """Jobs that a worker had taken and not started when it was told to stop."""
    handed_back: list[bytes] | None = None
    """``kashvi:queue:jobs`` after the first signal ended the worker, the next to be taken first."""
    handed_back_at_once: list[bytes] | None = None
    """The same after the second signal."""
    missed: dict[str, str] = field(default_factory=dict)
    """Situations that could not be brought about, and why."""
    cut_short: str = ""
    """Why the kit did not come to its end."""

    def of(self, *situations: str) -> list[Pushed]:
        return [one for one in self.pushed.values() if one.situation in situations]

    def told(self, job: str, did: str = "start") -> list[Entry]:
        return [one for one in self.entries if one.job == job and one.did == did]

    def recorded(self, job: str) -> list[Record]:
        """In the table if it is there, else as it waits for one."""
        found = [one for one in self.records if one.job == job]
        return [one for one in found if one.where == "table"] or found

    def ended(self, one: Pushed) -> bool:
        """It succeeded, or is recorded as failed."""
        return len(self.told(one.name, "end")) + len(self.recorded(one.name)) >= one.copies

    def elsewhere(self, job: str) -> bool:
        """A second attempt, in another process than the first."""
        return len({entry.worker for entry in self.told(job)[:2]}) > 1

    def did(self, what: str, worker: str = "") -> list[Happened]:
        return [one for one in self.happened if one.what == what and worker in ("", one.worker)]

    def evidence(self, jobs: Iterable[str]) -> list[str]:
        """All that is known of some jobs, and what was done to workers meanwhile, in the order of time."""
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
    """The JSON object that it is; empty if it is none."""
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _done_to(one: Happened) -> str:
    if one.what != "ended":
        return f"{one.worker} {'started' if one.what == 'started' else 'was sent ' + one.what}"
    how = "" if one.code is None else f" with exit code {one.code}" if one.code >= 0 else f" by signal {-one.code}"
    return f"{one.worker} ended{how}" + ("" if one.asked else ", which nobody had asked for")


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
