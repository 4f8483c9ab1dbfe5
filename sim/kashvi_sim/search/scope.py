"""What a search searches."""

from __future__ import annotations

import msgspec

from kashvi.worker.machine.steps import SECOND, Until, micros


class Scope(msgspec.Struct, frozen=True):
    """``attempts``: of each job in all. ``crashes``: the most processes that die.

    ``lost``: the most requests and replies that are lost. ``delayed``: how many jobs are dispatched with a delay, the
    last ones. ``long``: any attempt may outlast a lease. ``hangs``: the first job never ends. ``takes_s``: how long an
    attempt takes. ``follow_ups``: how many the first job has, numbered after the other jobs.
    """

    workers: int = 1
    threads: int = 2
    jobs: int = 2
    attempts: int = 2
    crashes: int = 0
    lost: int = 0
    delayed: int = 0
    long: bool = False
    takes_s: float = 0.0
    hangs: bool = False
    until: Until = "stopped"
    """When a worker ends by itself."""
    timeout_s: float = 0.0
    """The time limit of the first job, which hangs: when others had ``patience_s``, its process is replaced."""
    obey_s: float = 0.25
    patience_s: float = 0.5
    follow_ups: int = 0
    lease_s: float = 1.21875
    restart_s: float = 0.40625
    long_s: float = 1.5
    delay_s: float = 0.5

    @property
    def horizon(self) -> int:
        """How long ago, in microseconds, a time makes a difference to a predicate: longer than any wait or window."""
        most_s = max(self.attempts - 1, self.lease_s, 1.0) + self.takes_s + self.long * self.long_s + self.timeout_s
        if self.hangs:
            most_s += 10 * self.lease_s * 2**self.crashes
        return micros(most_s) + SECOND // 100
