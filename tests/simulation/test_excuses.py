"""A fault excuses what it broke, and nothing that it did not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from kashvi_sim.runs.verdict import unwanted
from kashvi_sim.world.excuses import ROLLED_BACK, excuse
from kashvi_sim.world.world import World
from kashvi_spec.judging import Violation

from kashvi import events
from kashvi.registry import Registry


@dataclass
class Quick:
    def handle(self) -> None:
        pass


def world_of_quick_jobs() -> World:
    registry = Registry()
    registry.register("jobs.Quick", Quick)
    return World(registry=registry, lease_s=5.0, virtual_handlers=False)


def judged(world: World) -> tuple[set[str], dict[str, str]]:
    """What is broken, and by which fault what is excused."""
    violations, excused = world.judge()
    return {v.predicate for v in violations}, {one.violation.predicate: one.fault for one in excused}


def test_a_server_that_forgets_when_a_worker_left_gives_its_jobs_away_too_early() -> None:
    """The worker was heard of when it left; the server came back with what it had held before, and an older lease."""
    world = world_of_quick_jobs()
    producer, worker = world.process(), world.process()
    first = producer.dispatch(Quick())
    handle = worker.start_workers(1)

    def hold_back(call: str, process: Any) -> None:
        """Before the first job is settled, the server takes the picture with which it comes back."""
        if call == "before exchange" and any(isinstance(e, events.AttemptSucceeded) for e in world.events):
            world._hook = None
            world.roll_back("restart", after_s=3.0, down_s=0.0)

    world._hook = hold_back
    world.run(for_s=0.5)
    producer.dispatch_after(Quick(), 1.0)
    world.run(for_s=1.5)
    handle.request_stop()
    world.run(for_s=2.0)
    world.process().start_workers(1)
    world.run(for_s=20.0)
    [taken] = [e for e in world.events if isinstance(e, events.JobReturned) and e.job_id == first]
    broken, excused = judged(world)
    assert excused["lease kept"] == "restart"
    assert broken == set()
    assert taken.owner == handle.id


@pytest.mark.parametrize("predicate", sorted(ROLLED_BACK | {"due order"}))
def test_what_the_server_forgot_of_a_job_excuses_that_job_alone(predicate: str) -> None:
    """A delayed job, too, that was done is there again, after one that was due later."""
    world = world_of_quick_jobs()
    world.rolled_back["a"] = "restart"
    world.lost_pushes["a"] = "restart"
    assert excuse(world, Violation(predicate, "a", ""), stored=True) == "restart"
    assert excuse(world, Violation(predicate, "b", ""), stored=True) == ""


def test_a_job_that_the_server_forgot_excuses_the_charge_of_its_neighbour_alone() -> None:
    """The one that may have killed the process is not listed any more. Found by neighbours, seed 222."""
    world = world_of_quick_jobs()
    world.rolled_back["forgotten"] = "restart"
    world.struck["drift"] += 1
    beside = "charged for a death that {} may have caused, in the same process"
    assert excuse(world, Violation("charged alone", "a", beside.format("forgotten")), stored=True) == "restart"
    assert excuse(world, Violation("charged alone", "a", beside.format("another")), stored=True) == ""


def test_a_clock_that_was_set_excuses_what_spans_it_and_by_no_more_than_it_was_set() -> None:
    """A job that came and went before it, or is too early by more, has another reason."""
    world = world_of_quick_jobs()
    world.process().dispatch(Quick())
    [told] = world.events
    assert isinstance(told, events.JobDispatched)
    world.times[:] = [world.kernel.time]
    world.struck["server_forward"] += 1

    def excused(early_s: float, seconds_later: float) -> str:
        world.jumps[:] = [(world.kernel.time + seconds_later, "server_forward", 1.0)]
        why = f"started {early_s:.6f} s before it was due"
        return excuse(world, Violation("never early", told.job_id, why), stored=True)

    assert excused(0.9, seconds_later=-1) == "server_forward"
    assert excused(0.9, seconds_later=-world.lease_s - 1) == ""
    assert excused(0.9, seconds_later=1) == ""
    assert excused(1.1, seconds_later=-1) == ""


def test_a_clock_that_was_set_before_a_job_was_told_of_excuses_it_if_the_server_had_it() -> None:
    """Its worker stood still between the step and its event. Found by cancels, seed 10826."""
    world = world_of_quick_jobs()
    world.process().dispatch(Quick())
    job_id = world.events[0].job_id  # type: ignore[attr-defined]
    world.times[:] = [world.kernel.time + world.lease_s + 2]
    world.jumps[:] = [(world.kernel.time + 1, "server_back", -10.0)]
    violation = Violation("done is done", job_id, "claimed and started 2.500000 s after it had ended")
    assert excuse(world, violation, stored=True) == "server_back"
    world.came[job_id] = world.times[0]
    assert excuse(world, violation, stored=True) == ""


def test_a_clock_that_was_set_back_excuses_a_pause_by_no_more_than_it_was_set() -> None:
    """And orders among jobs in any case, since any of them may be the one from before."""
    world = world_of_quick_jobs()
    world.process().dispatch(Quick())
    job_id = world.events[0].job_id  # type: ignore[attr-defined]
    world.set_clock("server_back", -1.0)
    world.struck["server_back"] += 1

    def excused(predicate: str, about: str, waited_s: float) -> str:
        why = f"attempt 3 started {waited_s:.6f} s after the one before, not 2 s or more"
        return excuse(world, Violation(predicate, about, why), stored=True)

    assert excused("backoff kept", job_id, 1.2) == "server_back"
    assert excused("backoff kept", job_id, 0.9) == ""
    assert excused("FIFO", "another", 0.0) == "server_back"


def test_a_clock_that_was_set_back_excuses_a_wait_for_a_worker_that_knows_the_type() -> None:
    """How long the job has waited is the difference of two times of the server. A storm found this."""
    world = world_of_quick_jobs()
    world.process().dispatch(Quick())
    [told] = world.events
    assert isinstance(told, events.JobDispatched)
    world.times[:] = [world.kernel.time]
    violation = Violation("unknown types wait", told.job_id, "waits 1 s for a worker that knows its type, after 7 s")
    for seconds_later, fault in ((-1, "server_back"), (-world.lease_s - 1, "")):
        world.jumps[:] = [(world.kernel.time + seconds_later, "server_back", -10.0)]
        assert excuse(world, violation, stored=True) == fault


@pytest.mark.parametrize(("forgotten", "broken"), [(True, []), (False, ["none lost"])])
def test_what_another_program_pushed_is_excused_if_the_server_forgot_it(forgotten: bool, broken: list[str]) -> None:
    """A storm found this: no process had pushed it, so nothing said that it was lost."""
    world = world_of_quick_jobs()
    world.roll_back("restart", after_s=1.0, down_s=0.0)
    world.run(for_s=0.5 if forgotten else 2.0)
    world.inject(b"null")
    world.run(for_s=2.0)
    assert [violation.predicate for violation in unwanted(world)] == broken
    world.close()


def test_a_job_that_was_sent_again_is_no_measure_for_the_order_of_others() -> None:
    """It came without its delay, and is claimed before it was due."""
    world = world_of_quick_jobs()
    v = Violation("due order", "another", "claimed after a job that was due 1462.132373 s later")
    assert excuse(world, v, True) == ""
    world.others.repeated.add("one")
    assert excuse(world, v, True) == "repeated_id"
    world.close()


def test_a_clock_set_forward_between_a_claim_and_a_takeover_excuses_what_seems_excused_again() -> None:
    """By the old clock, the other suspect seems to have been claimed before it was taken over."""
    world = world_of_quick_jobs()
    producer = world.process()
    job_id = producer.dispatch(Quick())
    world.run(for_s=1)
    v = Violation("excused for a reason", job_id, "excused again, for another, which had begun 0.000 s before it")
    assert excuse(world, v, True) == ""
    world.set_clock("server_forward", 60.0)
    world.struck["server_forward"] += 1
    world.process().start_workers(1)
    world.run(for_s=5)
    assert excuse(world, v, True) == "server_forward"
    world.close()
