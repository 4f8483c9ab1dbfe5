"""Named queues: jobs stay on their queue, whatever strikes, and workers claim by order or by weight."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import msgspec
import pytest
from kashvi_sim.commands.options import workload_named
from kashvi_sim.runs.play import play
from kashvi_sim.runs.sweep import Job, run_block
from kashvi_sim.runs.workload import Workload
from kashvi_spec.kit.museum import MUSEUM

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


FULL = msgspec.convert(
    {
        "name": "full",
        "about": "Three queues that are never empty.",
        "arrivals": {"process": "at_once", "jobs": 150},
        "job": [
            {"type": f"jobs.{name}", "queue": name, "takes": {"kind": "fixed", "seconds": 0.1}}
            for name in ("a", "b", "c")
        ],
        "workers": {"threads": 1, "queues": ["a:6,b:3,c:1"]},
    },
    Workload,
)


@pytest.mark.parametrize(
    ("bug", "promise", "workload"),
    [
        ("the last queue comes first", "strict order", workload_named("queues")),
        ("strict queues take turns", "strict order", workload_named("queues")),
        ("what one queue can't give is not taken of others", "claims what is there", workload_named("queues")),
        ("a retry goes to the default queue", "own queue", workload_named("queues")),
        ("only the default queue can be paused", "pauses kept", workload_named("queues")),
        ("weights empty the first queue", "shares kept", FULL),
        ("shares begin anew at every exchange", "shares kept", FULL),
    ],
)
def test_a_bug_of_named_queues_breaks_its_promise_in_the_simulator(bug: str, promise: str, workload: Workload) -> None:
    """Within a few seeds, without a fault."""
    assert [one for seed in range(2) for one in play(workload, seed=seed).violations] == []
    with MUSEUM[bug].planted():
        broken = {one.predicate for seed in range(4) for one in play(workload, seed=seed).violations}
    assert promise in broken
