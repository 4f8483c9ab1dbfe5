"""The scope of a search, as a workload for ``sim:run``: ``2x2x3`` is two workers, two jobs, three attempts."""

from __future__ import annotations

import re

import msgspec

from ..runs.arrivals import AtOnce
from ..runs.workload import Crew, JobKind, Workload

LEASE_S, RESTART_S = 1.21875, 0.40625
"""With it keepers, which act every third of a lease, coincide at every moment, and idle workers at some moments."""
FAULT_TIME_S = 10.0
"""Longer than any run that reaches its end."""
WORKERS_MAX = JOBS_MAX = ATTEMPTS_MAX = 9


class Scope(msgspec.Struct, frozen=True):
    """``attempts``: of each job in all. ``crashes``: the most processes that die."""

    workers: int = 2
    jobs: int = 2
    attempts: int = 2
    crashes: int = 1

    @property
    def name(self) -> str:
        return f"{self.workers}x{self.jobs}x{self.attempts}"

    def workload(self) -> Workload:
        crew = Crew(processes=self.workers, threads=1, lease_s=LEASE_S, max_attempts=self.attempts, restart_s=RESTART_S)
        return Workload(
            name=self.name,
            about="All jobs at once, for a moment each, and any attempt may fail: what sim:explore searches.",
            arrivals=AtOnce(jobs=self.jobs),
            job=(JobKind(type="jobs.Small", fails=0.5),),
            workers=crew,
            fault_time_s=FAULT_TIME_S,
        )


def scope_named(name: str) -> Scope | None:
    """The scope in a workload's name, or None."""
    found = re.fullmatch(r"([1-9])x([1-9])x([1-9])", name)
    return Scope(*map(int, found.groups())) if found else None
