"""Named queues: jobs stay on their queue, whatever strikes, and workers claim by order or by weight."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest
from kashvi_sim.commands.options import workload_named
from kashvi_sim.runs.sweep import Job, run_block

from kashvi.drivers.memory import MemoryDriver
from kashvi.queue import Queue
from kashvi.registry import Registry

SHARES = {"a": 6, "b": 3, "c": 1}


@pytest.mark.parametrize(
    ("driver", "direct", "seeds"), [("memory", False, 60), ("memory", True, 30), ("fakeredis", False, 8)]
)
def test_no_promise_is_broken_on_four_queues(driver: str, direct: bool, seeds: int) -> None:
    """Strict and weighted workers, and one of one queue; retries, snoozes, follow-ups, pauses, deaths."""
    found = run_block(Job(workload_named("queues"), driver, "all", direct=direct), 0, seeds)
    assert found.failing == []
    assert found.judged["own queue"] > 20 * seeds
    assert found.judged["pauses kept"] == 2 * seeds


@pytest.mark.parametrize("order", ["abc", "cba"])
def test_three_queues_that_are_never_empty_get_their_shares(order: str) -> None:
    """100,000 jobs, within 2 %."""
    ran: Counter[str] = Counter()
    queue = Queue(MemoryDriver(), registry=Registry())

    @queue.job("jobs.Counted")
    @dataclass
    class Counted:
        name: str

        def handle(self) -> None:
            ran[self.name] += 1

    for name, weight in SHARES.items():
        queue.dispatch_many([Counted(name)] * (weight * 10_000 + 2_000), queue=name)
    queue.work(queues=[f"{name}:{SHARES[name]}" for name in order], max_jobs=100_000)
    assert sum(ran.values()) == 100_000
    for name, weight in SHARES.items():
        assert abs(ran[name] - weight * 10_000) <= weight * 200, ran
