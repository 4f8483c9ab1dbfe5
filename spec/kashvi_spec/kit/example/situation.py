"""An example block in TOML: jobs, workers, happenings and expectations. Misspelt fields are refused."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec
from kashvi_sim.runs.policy import Policy

from kashvi.cron.entry import Missed
from kashvi.names import DEFAULT

Outcome = Literal["ok", "fail", "refuse", "exit", "give up", "snooze", "obey", "die"]
"""ok: ``handle()`` returns. fail, refuse, exit, give up, snooze: it raises ValueError, ConnectionRefusedError,
SystemExit, GiveUp, Snooze. obey: it calls ``check()`` from time to time, and returns. die: its process dies."""
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e10)]
Number = Annotated[int, msgspec.Meta(ge=1)]
Hook = Literal["plain", "raises first", "raises last", "swallows"]
"""plain: it encloses. raises first, raises last: before the handler, after it. swallows: it hides the error."""
OF_A_WORKER = ("kill", "stop", "pause", "cut off", "reply lost", "tick lost")
OF_OTHERS = ("unknown", "garbage")
"""The names of failed jobs of other programs."""
What = Literal[
    "kill",
    "stop",
    "pause",
    "cut off",
    "reply lost",
    "server down",
    "server clock",
    "tick lost",
    "database down",
    "max attempts",
    "queue paused",
    "queue resumed",
    "cancel",
]


class ExampleJob(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A job: its dispatch time, and its attempts' outcomes. The last outcome applies to all later attempts."""

    at: Seconds = 0
    delay: Seconds | None = None
    """None: ``dispatch``; else ``dispatch_after``."""
    outcomes: Annotated[tuple[Outcome, ...], msgspec.Meta(min_length=1)] = ("ok",)
    takes: Seconds = 0
    snooze: Seconds = 5
    """The seconds of a Snooze."""
    sends: tuple[Seconds, ...] = ()
    """The delays of the follow-ups that each attempt dispatches at its begin: named a.1, a.2 …; 0: no delay."""
    then: tuple[tuple[Outcome, ...], ...] = ()
    """The outcomes of the links after it, if it is the first of a chain, all on its queue: named a+1, a+2 …"""
    limited: bool = True
    """False: of a type without a time limit."""
    name: str = ""
    """By default a, b, c …"""
    copies: Number = 1
    bytes: int = 0
    """By so much it is larger than others."""
    clock_off: float = 0
    """Seconds by which the dispatching host's clock is wrong."""
    raw: str = ""
    """Bytes that another program pushes instead."""
    queue: str = DEFAULT
    sends_to: str = DEFAULT
    """The queue of its follow-ups."""
    key: str = ""
    """It is unique by this key. A duplicate is not there."""


class ExampleCron(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A cron entry, and the name of its jobs. The start is a whole minute."""

    name: str = "tick"
    expression: str = "* * * * *"
    tz: str = "UTC"
    missed: Missed = "once"
    max_late: float = 86400.0


class ExampleWorker(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A worker process."""

    at: Seconds = 0
    threads: Number = 1
    clock_off: float = 0
    knows: bool = True
    """False: its app does not register the type."""
    retry: Policy | None = None
    """The type's policy in its app, if it is another than in the others'."""
    patience: float | None = None
    """Its process is replaced, as under ``queue:work``, when other attempts had so long to end beside a stuck one."""
    queues: str = DEFAULT
    """The queues that it serves, as for ``queue:work --queue``."""
    cron: tuple[ExampleCron, ...] | None = None
    """Its app's cron entries, if they are others than the others'."""


class Happening(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fault or command for a worker (1 is the first), the server or the database."""

    at: Seconds
    what: What
    worker: int = 1
    for_s: Seconds = 0
    value: Number = 3
    by: float = 0
    """The seconds by which the server's clock is set forward; negative: back."""
    queue: str = DEFAULT
    job: str = ""
    """The job that is cancelled."""


class Example(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One example: its situation and expectations. Times are seconds after the start."""

    jobs: tuple[ExampleJob, ...] = ()
    workers: tuple[ExampleWorker, ...] = (ExampleWorker(),)
    happens: tuple[Happening, ...] = ()
    max_attempts: Number = 3
    lease: float = 10
    unknown_for: float = 600
    retry: Policy | None = None
    """The type's retry policy."""
    timeout: float | None = None
    """The type's time limit."""
    obey: float = 5
    """How long a handler may take to obey it."""
    cron: tuple[ExampleCron, ...] = ()
    """The cron entries of all workers."""
    hooks: tuple[Hook, ...] = ()
    """The hooks of all workers, the outermost first."""
    table: bool = False
    """True if there is a failure table."""
    for_s: Seconds | None = None
    """Its duration; by default two leases, at least 20 s, after the last job, worker or happening."""

    attempts_at: dict[str, tuple[float, ...]] | tuple[float, ...] | None = None
    """The begin times of attempts: of the one job, or by name."""
    order: tuple[str, ...] | None = None
    """The order of all attempts."""
    starts: int | None = None
    """The number of all attempts."""
    starts_of: dict[str, int] | None = None
    last_start_between: tuple[float, float] | None = None
    ended: dict[str, Literal["succeeded", "failed", "not"]] | None = None
    failed_after: dict[str, int] | None = None
    """The recorded attempts of each failed job; all failed jobs must be listed."""
    failed_at: dict[str, float] | None = None
    error: dict[str, str] | None = None
    rows: dict[str, int] | None = None
    """The attempts in each row of the failure table, by name; all rows must be listed."""
    at_most_at_once: int | None = None
    """The largest number of attempts under way at one time."""
    snoozed: dict[str, int] | None = None
    """How often the server was told that each job snoozes; all that do must be listed."""
    late: dict[str, int] | None = None
    """How often each job succeeded after its time limit; all that did must be listed."""
    stuck: dict[str, int] | None = None
    """How often each job was told to be stuck; all that were must be listed."""
    suspects: int | None = None
    """How often a job came back to the queue as a suspect."""
    ignored: int | None = None
    """The number of attempts after which the policy was ignored."""
    refused: int | None = None
    """The number of settlements that the server refused."""
    left: dict[Literal["ready", "delayed", "held", "unrecorded", "workers"], int] | None = None
    cancelled: dict[str, tuple[str, ...]] | None = None
    """By job, the answers to its cancels."""

    def job_names(self) -> list[str]:
        """The name of each job, in order."""
        return [job.name or chr(ord("a") + n) for n, job in enumerate(self.jobs)]

    def all_names(self) -> list[str]:
        """The names of jobs and of their follow-ups."""
        jobs = list(zip(self.job_names(), self.jobs, strict=True))
        follow_ups = [f"{name}.{n}" for name, job in jobs for n in range(1, len(job.sends) + 1)]
        links = [f"{name}+{n}" for name, job in jobs for n in range(1, len(job.then) + 1)]
        return self.job_names() + follow_ups + links + sorted({one.name for one in self.all_cron})

    @property
    def all_cron(self) -> tuple[ExampleCron, ...]:
        """The cron entries of all tables."""
        return self.cron + tuple(one for worker in self.workers for one in worker.cron or ())

    @property
    def names_queues(self) -> bool:
        """True if it has other queues than the default one."""
        jobs = {queue for job in self.jobs for queue in (job.queue, job.sends_to)}
        return {*jobs, *(worker.queues for worker in self.workers)} != {DEFAULT}

    @property
    def runs_s(self) -> float:
        """Its duration."""
        if self.for_s is not None:
            return self.for_s
        happened = (one.at + one.for_s for one in self.happens)
        ended = (job.at + (job.delay or 0) + job.takes for job in self.jobs)
        return max(20.0, 2 * self.lease) + max((*(worker.at for worker in self.workers), *happened, *ended))

    def expected_names(self) -> Iterator[str]:
        """The names of jobs of which something is expected."""
        yield from self.order or ()
        for name in self.expects:
            value = getattr(self, name)
            if name != "left" and isinstance(value, dict):
                yield from value

    @property
    def expects(self) -> list[str]:
        """The names of its expectations."""
        return [name for name in EXPECTATIONS if getattr(self, name) is not None]


EXPECTATIONS = (
    "attempts_at", "order", "starts", "starts_of", "last_start_between", "at_most_at_once",
    "ended", "failed_after", "failed_at", "error", "rows", "snoozed", "late", "stuck",
    "suspects", "ignored", "refused", "left", "cancelled",
)  # fmt: skip


def example_of(text: str, *, expects: bool = True) -> Example:
    """The example in a TOML text. Raises ValueError (of TOML or msgspec) with the reason.

    ``expects``: it must have an expectation.
    """
    example = msgspec.convert(tomllib.loads(text), Example)
    names = example.job_names()
    if len(set(names)) != len(names):
        raise ValueError(f"two jobs of one name among {names}")
    if expects and not example.expects:
        raise ValueError("the example expects nothing")
    for policy in (example.retry, *(worker.retry for worker in example.workers)):
        if policy:
            policy.made()
    if any(not 1 <= one.worker <= len(example.workers) for one in example.happens):
        raise ValueError("something happens to a worker that is not there")
    if any(one.at < example.workers[one.worker - 1].at for one in example.happens if one.what in OF_A_WORKER):
        raise ValueError("something happens to a worker before it starts")
    if any(one.what == "cancel" and one.job not in example.all_names() for one in example.happens):
        raise ValueError("a job is cancelled that is not there")
    if strange := {*example.expected_names()}.difference(example.all_names(), OF_OTHERS):
        raise ValueError(f"something is expected of {sorted(strange)}, and there are only {example.all_names()}")
    if example.rows is not None and not example.table:
        raise ValueError("rows are expected, and there is no table: add table = true")
    return example
