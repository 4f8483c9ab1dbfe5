"""Job classes that act by a script: how long an attempt takes, and its outcome."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kashvi import current
from kashvi.errors import TimedOut
from kashvi.retries import GiveUp, Snooze

from ..world.tape import TRIES
from ..world.world import World
from .workload import Acts, Attempt, FollowUps

FIRST_TICK, FIRST_FOLLOW_UP, FIRST_LINK, MANY = 10**8, 10**9, 10**11, 1000
"""The numbers of the first cron entry, follow-up and later link of a chain, and the most of one job; the producer has
lower ones."""


def number_of(first: int, place: int) -> int:
    """The number of a later link, by the first one's and its place."""
    return FIRST_LINK + first * MANY + place


@dataclass
class _Numbered:
    """The base of a script's jobs; a new dataclass for each run would take a twentieth of the run."""

    n: int


def job_class_of(job_type: str, acts: Acts, world: World) -> Any:
    """A job class that acts by the script."""
    kernel = world.kernel

    class Job(_Numbered):
        def act(self) -> Attempt:
            return acts(self.n, world.attempt)

        def ends(self, act: Attempt) -> None:
            if act.sends:
                self.dispatch(act.sends)
            if act.kills:
                task: Any = kernel.current
                world.struck["poison"] += 1
                world.end(task.process)
            elif act.obeys_s is not None:
                raise TimedOut(act.obeys_s)
            elif act.snooze_s is not None:
                raise Snooze(act.snooze_s)
            elif act.error:
                raise GiveUp(act.error) if act.gives_up else RuntimeError(act.error)

        def dispatch(self, sends: FollowUps) -> None:
            """The same attempt at the same job sends the same."""
            first = FIRST_FOLLOW_UP + (self.n * TRIES + world.attempt % TRIES) * MANY
            follow_up = world.registry.named(sends.type).job_class
            for n in range(first, first + sends.jobs):
                current().dispatch_after(follow_up(n), sends.delay_s)

        def handle(self) -> None:
            act = self.act()
            if act.takes_s > 0:
                kernel.sleep(act.takes_s)
            self.ends(act)

    Job.__name__ = Job.__qualname__ = job_type.rpartition(".")[2]
    return Job
