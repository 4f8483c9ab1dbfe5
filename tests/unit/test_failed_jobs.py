"""The list of failed jobs in memory."""

from __future__ import annotations

from dataclasses import dataclass

from kashvi.failures.recent import KEPT
from kashvi.queue import MemoryDriver, Queue
from kashvi.registry import Registry


@dataclass
class Fails:
    n: int

    def handle(self) -> None:
        raise ValueError(f"no {self.n}")


def test_the_newest_failures_are_kept_and_say_all_there_is_to_know() -> None:
    """The original kept every one for ever."""
    registry = Registry()
    registry.register("jobs.Fails", Fails)
    queue = Queue(MemoryDriver(), registry=registry, max_attempts=1)
    ids = queue.dispatch_many([Fails(n) for n in range(KEPT + 5)])
    queue.work(stop_when_empty=True)
    failed = queue.failed_jobs()
    assert [f.id for f in failed] == ids[5:]
    newest = failed[-1]
    assert newest.job == Fails(KEPT + 4)
    assert (newest.type, newest.payload, newest.attempts) == ("jobs.Fails", f'{{"n":{KEPT + 4}}}', 1)
    assert newest.error == f"ValueError: no {KEPT + 4}"
    assert newest.failed_at.utcoffset() is not None
