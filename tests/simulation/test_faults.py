"""What the newer faults do, each alone, and what holds all the same."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest
from kashvi_sim.runs.arrivals import Regular
from kashvi_sim.runs.durations import Exponential, Fixed
from kashvi_sim.runs.play import Played, play
from kashvi_sim.runs.workload import Crew, JobKind, Workload
from kashvi_sim.world.faults import PlannedFault
from kashvi_sim.world.kernel import EPOCH
from kashvi_sim.world.world import World

from kashvi import events
from kashvi.registry import Registry

BROKEN = JobKind(type="jobs.Broken", fails=1.0)
QUICK = JobKind(type="jobs.Quick", takes=Exponential(mean_s=0.2))
LATER = JobKind(type="jobs.Later", delay=Fixed(seconds=30.0))


@dataclass
class Long:
    n: int = 0

    def handle(self) -> None:
        pass


def played(*kinds: JobKind, fault: str, at_s: float = 1.0, times: int = 1, jobs: int = 12) -> Played:
    """One fault, planned; it strikes at its first chance."""
    return play(
        Workload(
            name="one fault",
            about="",
            arrivals=Regular(jobs=jobs, every_s=0.4),
            job=kinds,
            workers=Crew(processes=2, threads=2, lease_s=5.0),
            faults=tuple(PlannedFault(at_s=at_s + n, fault=fault) for n in range(times)),
        )
    )


def test_a_row_that_the_database_refuses_holds_up_no_other() -> None:
    """It is tried again, and recorded when the database takes it."""
    run = played(BROKEN, fault="row_refused")
    assert run.world.struck["row_refused"] == 1
    [refused] = run.world.refused_rows
    rows = Counter(e.job_id for e in run.world.events if isinstance(e, events.FailureRecorded))
    assert len(rows) == 12
    assert refused in rows
    assert run.violations == []


@pytest.mark.parametrize("fault", ["database_slow", "equal_jobs", "repeated_id", "server_back", "server_forward"])
def test_nothing_is_lost_by_it(fault: str) -> None:
    """And all comes to an end."""
    run = played(BROKEN, QUICK, LATER, fault=fault, times=3)
    assert run.world.struck[fault] == 3
    assert run.violations == []


def test_equal_jobs_without_ids_are_as_many_as_were_pushed() -> None:
    """Whether they succeed, or are retried and fail."""
    run = played(BROKEN, QUICK, fault="equal_jobs", times=3)
    assert run.world.others_ended() == run.world.others.pushed >= 6
    assert run.violations == []


@pytest.mark.parametrize(("at_s", "jump_s"), [(9.8, 20.0), (9.8, -20.0), *((29.0 + n / 10, 0.3) for n in range(10))])
def test_a_worker_finds_out_that_the_clock_of_its_server_was_set(at_s: float, jump_s: float) -> None:
    """And does not ask again and again because of the time that it was."""
    registry = Registry()
    registry.register("jobs.Long", Long)
    world = World(registry=registry, virtual_handlers=False)
    producer, worker = world.process(), world.process()
    worker.start_workers(2)
    producer.dispatch_after(Long(), 30.0)
    world.run(for_s=at_s)
    before = world.calls
    world.server.skew_s += jump_s
    world.run(for_s=60.0, until=lambda: bool(world.spinning))
    [start] = [at for at, e in zip(world.times, world.events, strict=True) if isinstance(e, events.AttemptStarted)]
    assert start - EPOCH == pytest.approx(30.0 - jump_s, abs=0.7)
    assert world.calls - before < 60 * 5


@pytest.mark.parametrize("where", ["before exchange", "after exchange", "before wait", "after wait", "in a wait"])
def test_an_interrupt_of_work_loses_nothing_wherever_it_comes(where: str) -> None:
    """Also in the middle of an exchange, or of a wait that has just claimed a job."""
    registry = Registry()
    registry.register("jobs.Long", Long)
    world = World(registry=registry, lease_s=5.0, virtual_handlers=False)
    producer, worker = world.process(), world.process()
    calls: Counter[str] = Counter()

    def strike(call: str, process: object) -> None:
        calls[call] += process is worker.process
        if call == where and calls[call] == 3 and process is worker.process:
            world.interrupt(worker.process)

    world._hook = strike
    worker.start_working()
    for n in range(8):
        producer.process.spawn(lambda n=n: world.kernel.sleep(0.7 * n) or producer.dispatch(Long(n)), "produce")  # type: ignore[misc]
    world.run(for_s=1.9)
    if where == "in a wait":
        world.interrupt(worker.process)
    world.run(for_s=10.0)
    assert worker.process.main is None
    assert [e for e in world.events if isinstance(e, events.WorkerStopped)]
    world.process().start_workers(1)
    world.run(for_s=30.0)
    assert sum(isinstance(e, events.JobSucceeded) for e in world.events) == 8
    assert world.violations() == []
