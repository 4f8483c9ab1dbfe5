"""Rare stories that a judge once took for a bug: found in sweeps, and told here by themselves."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from kashvi_sim.runs.play import Run, Swarm
from kashvi_sim.runs.workload import Workload
from kashvi_sim.world.dealings import Dealings
from kashvi_sim.world.excuses import excuse
from kashvi_sim.world.process import SimQueue
from kashvi_sim.world.tape import Tape
from kashvi_sim.world.world import World
from kashvi_spec.judging import Violation

from kashvi import events
from kashvi.ports import Exchange
from kashvi.registry import Registry
from kashvi.worker import Limits

WORLDS: list[World] = []


@dataclass
class Job:
    seconds: float = 0.0
    fails: bool = False

    def handle(self) -> None:
        WORLDS[-1].kernel.sleep(self.seconds)
        if self.fails:
            raise ValueError


@dataclass
class Scene:
    """A producer and workers, with a failure table."""

    world: World = field(init=False)

    def __post_init__(self) -> None:
        registry = Registry()
        registry.register("jobs.Job", Job)
        self.world = World(registry=registry, lease_s=6.0, database="sqlite://", virtual_handlers=False, max_attempts=1)
        WORLDS.append(self.world)
        self.dealings = self.world.dealings = Dealings(self.world)
        self.producer = self.world.process()

    def works(self) -> SimQueue:
        queue = self.world.process()
        queue.start_workers(2)
        return queue


@pytest.fixture
def scene() -> Iterator[Scene]:
    yield Scene()
    WORLDS.pop().close()


def test_a_run_goes_on_for_a_row_though_another_job_of_its_world_was_refused_for_good() -> None:
    """As queues, seeds 13042 and 40590: the refused row was in the table already, or its job never failed."""
    workload = msgspec.convert(
        {
            "name": "one", "about": "One job that fails while the database is down.", "fault_time_s": 1.0,
            "arrivals": {"process": "at_once", "jobs": 1},
            "job": [{"type": "jobs.Fails", "takes": {"kind": "fixed", "seconds": 0.1}, "fails": 1.0}],
            "workers": {"max_attempts": 1},
        },
        Workload,
    )  # fmt: skip
    run = Run(workload, Tape(1), Swarm((), 0.0, 0.0), None, "kashvi:queue", [1], [])
    run.world.refused_rows["another"] = math.inf
    run.world.database_down_until = run.world.kernel.time + 20
    run.play()
    assert len(run.rows()) == 1
    run.world.close()


def test_a_worker_leaves_a_row_to_others_after_its_process_stood_still(scene: Scene) -> None:
    """As queues, seed 14169: by the time it goes on, it has waited for its recorder for long enough."""
    scene.producer.dispatch(Job(0.5, fails=True))
    queue = scene.works()
    scene.world.run(for_s=0.2)
    scene.world.terminate(queue.process)

    def hold(point: str, process: Any) -> None:
        if point == "after record":
            process.stand_still(15.0)
        if point in ("before unrecorded", "after record", "before recorded"):
            scene.world.kernel.sleep(1.0)

    scene.world._hook = hold
    scene.world.run(for_s=20.0)
    assert any(isinstance(event, events.FailureRecorded) for event in scene.world.events)
    assert scene.dealings.violations == []


def test_an_attempt_that_was_taken_over_and_ends_beside_the_next_one_is_no_suspect(scene: Scene) -> None:
    """As unique, seed 50292: the second one, a suspect, has ended and was settled before."""
    queue, about = scene.works(), {"job_id": "a", "type": "jobs.Job", "at": 0.0, "process": "p"}
    start = {"attempt": 1, "worker": "w", "claim": "exchange", **about}
    ended = events.AttemptSucceeded(attempt=1, duration_s=1.0, **about)

    def told(*heard: events.Event, arrives: bool = False) -> None:
        for event in heard:
            scene.dealings.see(event, queue.process)
        if arrives:
            scene.world.run(for_s=0.02)
            scene.dealings.arrived(queue.process, ["a"], False)

    scene.world.run(for_s=1.0)
    told(events.AttemptStarted(**start), events.AttemptStarted(suspect=True, **start), ended)
    scene.dealings.arrived(queue.process, ["a"], False)
    told(ended, arrives=True)
    assert scene.dealings.violations == []
    told(events.AttemptStarted(suspect=True, **start), ended, arrives=True)
    assert [one.predicate for one in scene.dealings.violations] == ["suspects settled"]


def test_a_wait_that_was_interrupted_may_have_claimed_a_job(scene: Scene) -> None:
    """As queues, seed 204110: the worker can't tell, since its server is away by then."""
    about, process = {"worker": "w", "at": 0.0, "process": "p"}, scene.world.process().process

    def stops_after(error: type[BaseException]) -> list[str]:
        def wait() -> bytes | None:
            scene.world.server.driver.wait("w", 0.0)
            raise error

        scene.dealings = scene.world.dealings = Dealings(scene.world)
        scene.producer.dispatch(Job())
        scene.dealings.see(events.WorkerStarted(threads=1, lease_s=6.0, driver="d", **about), process)
        scene.dealings.see(events.WorkerStopping(**about), process)
        with pytest.raises(error):
            scene.dealings.wait(process, wait)
        scene.dealings.of(process).lost = scene.dealings.of(process).told_lost = True
        scene.dealings.see(events.WorkerStopped(unsettled=0, **about), process)
        return [one.predicate for one in scene.dealings.violations if one.predicate == "leaves nothing held"]

    assert stops_after(KeyboardInterrupt) == []
    assert stops_after(ValueError) == ["leaves nothing held"]


def test_what_comes_while_a_worker_at_its_end_stood_still_is_no_news_to_it(scene: Scene) -> None:
    """As unique, seed 104324: it had found the queue empty, and only its keeper looked again."""
    about, nothing = {"worker": "w", "at": 0.0, "process": "p"}, Exchange(0.0, 0.0, (), [], 0, 0, 0, None)

    def ends_after(*wants: int) -> list[str]:
        process, dealings = scene.world.process().process, Dealings(scene.world)
        process.limits = Limits("drained")
        dealings.see(events.WorkerStarted(threads=2, lease_s=6.0, driver="d", **about), process)
        for n, want in enumerate(wants, 1):
            answer = nothing._replace(ready=2 if n > 1 else 0)
            dealings.exchange(process, n, [], want, lambda answer=answer: answer)  # type: ignore[misc]
        dealings.see(events.WorkerStopped(unsettled=0, **about), process)
        return [one.predicate for one in dealings.violations]

    assert ends_after(2, 0) == []
    assert ends_after(2, 2) == ["limits kept"]


def test_a_process_that_died_before_it_told_of_a_suspect_excuses_the_charge(scene: Scene) -> None:
    """As unique, seed 112317: and the suspect's next process stood still before its attempt."""
    violation = Violation("first death free", "a", "its first death counted as an attempt")
    other = Violation("first death free", "a", "taken from a worker that died, and handed back as no suspect")
    scene.world.telling.returns["a"] = [scene.works().process]
    assert excuse(scene.world, violation, stored=True) == ""
    scene.world.telling.returns["a"][0].dead = True
    assert excuse(scene.world, violation, stored=True) == "kill"
    assert excuse(scene.world, other, stored=True) == ""


def test_a_clock_set_back_excuses_what_seems_to_be_left_in_a_charged_process(scene: Scene) -> None:
    """As queues, seed 101507: by the new clock, a later claim seems to be from before the charge."""
    beside = "charged for a death that b may have caused, {}"
    left, same = beside.format("which was left in the process's hands"), beside.format("in the same process")
    assert excuse(scene.world, Violation("charged alone", "a", left), stored=True) == ""
    scene.world.struck["server_back"] += 1
    assert excuse(scene.world, Violation("charged alone", "a", left), stored=True) == "server_back"
    assert excuse(scene.world, Violation("charged alone", "a", same), stored=True) == ""
