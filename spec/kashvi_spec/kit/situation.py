"""What an example block says: jobs, workers, what happens to them, and what is expected. TOML, misspellings refused."""

from __future__ import annotations

import tomllib
from typing import Literal

import msgspec

Outcome = Literal["ok", "fail", "exit", "die"]
"""ok: ``handle()`` returns. fail, exit: it raises ValueError, SystemExit. die: its process is gone."""
What = Literal["kill", "stop", "pause", "cut off", "reply lost", "server down", "database down", "max attempts"]


class ExampleJob(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A job: when it is dispatched, and how its attempts end. The last outcome holds for all attempts after it."""

    at: float = 0
    delay: float | None = None
    """None: ``dispatch``; else ``dispatch_after``."""
    outcomes: tuple[Outcome, ...] = ("ok",)
    takes: float = 0
    name: str = ""
    """By default a, b, c …"""
    copies: int = 1
    clock_off: float = 0
    """Seconds by which the dispatching host's clock is wrong."""
    raw: str = ""
    """Bytes somebody else pushes instead."""


class ExampleWorker(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A worker process."""

    at: float = 0
    threads: int = 1
    clock_off: float = 0
    knows: bool = True
    """False: its app does not register the type."""


class Happening(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something that befalls a worker (1 is the first), the server or the database."""

    at: float
    what: What
    worker: int = 1
    for_s: float = 0
    value: int = 3


class Example(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One example: what is set up, and what is expected. Times are seconds after the start."""

    jobs: tuple[ExampleJob, ...]
    workers: tuple[ExampleWorker, ...] = (ExampleWorker(),)
    happens: tuple[Happening, ...] = ()
    max_attempts: int = 3
    lease: float = 10
    unknown_for: float = 600
    table: bool = False
    """Whether there is a failure table."""
    for_s: float | None = None
    """How long it runs; by default two leases, 20 s at least, from when all that is set up has happened."""

    attempts_at: dict[str, tuple[float, ...]] | tuple[float, ...] | None = None
    """When attempts began: of the one job, or by name."""
    order: tuple[str, ...] | None = None
    """Of all attempts."""
    starts: int | None = None
    """How many attempts began in all."""
    starts_of: dict[str, int] | None = None
    last_start_between: tuple[float, float] | None = None
    ended: dict[str, Literal["succeeded", "failed", "not"]] | None = None
    failed_after: dict[str, int] | None = None
    """The attempts that failed jobs are recorded with: all of them."""
    failed_at: dict[str, float] | None = None
    error: dict[str, str] | None = None
    rows: dict[str, int] | None = None
    """All rows of the failure table, by name: the attempts in it."""
    at_most_at_once: int | None = None
    """The largest number of attempts under way at one time."""
    refused: int | None = None
    """Settlements the server refused."""
    left: dict[Literal["ready", "delayed", "held", "unrecorded"], int] | None = None

    def job_names(self) -> list[str]:
        """Of each job, in order."""
        return [job.name or chr(ord("a") + n) for n, job in enumerate(self.jobs)]

    @property
    def runs_s(self) -> float:
        """How long it runs."""
        if self.for_s is not None:
            return self.for_s
        happened = (one.at + one.for_s for one in self.happens)
        ended = (job.at + (job.delay or 0) + job.takes for job in self.jobs)
        return max(20.0, 2 * self.lease) + max((*(worker.at for worker in self.workers), *happened, *ended))

    @property
    def expects(self) -> list[str]:
        """What it has an opinion on."""
        return [name for name in EXPECTATIONS if getattr(self, name) is not None]


EXPECTATIONS = (
    "attempts_at", "order", "starts", "starts_of", "last_start_between", "at_most_at_once",
    "ended", "failed_after", "failed_at", "error", "rows", "refused", "left",
)  # fmt: skip


def example_of(text: str) -> Example:
    """Raises ValueError (of TOML or msgspec), which says what is wrong."""
    example = msgspec.convert(tomllib.loads(text), Example)
    names = example.job_names()
    if len(set(names)) != len(names):
        raise ValueError(f"two jobs of one name among {names}")
    if not example.expects:
        raise ValueError("the example expects nothing")
    if any(not 1 <= one.worker <= len(example.workers) for one in example.happens):
        raise ValueError("something happens to a worker that is not there")
    return example
