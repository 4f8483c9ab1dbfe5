"""Stopping, interrupting and running out of patience, in virtual time."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass

import pytest
from kashvi_sim.world.runtime import SimRuntime

from kashvi.errors import DriverUnavailable, ReplyLost
from kashvi.events import AttemptFailed, AttemptStarted, JobReturned, JobSucceeded, WorkerStopped
from kashvi.registry import Registry

from .conftest import NewWorld
from .test_delivery import Scene


def test_ctrl_c_in_work_hands_the_job_back_uncounted_and_is_raised_again(
    new_world: NewWorld, registry: Registry
) -> None:
    """In the thread the user is in; the job is at the head of the queue."""
    interrupts = [KeyboardInterrupt()]

    @dataclass
    class Interrupted:
        def handle(self) -> None:
            if interrupts:
                raise interrupts.pop()

    registry.register("jobs.Interrupted", Interrupted)
    scene = Scene(new_world, registry)
    scene.queue.dispatch(Interrupted())
    scene.queue.dispatch(scene.job(2))
    raised: list[BaseException] = []

    def user() -> None:
        try:
            scene.queue.work()
        except KeyboardInterrupt as error:
            raised.append(error)

    scene.world.runtime_of(scene.queue).spawn(user, "user")
    scene.world.run(for_s=5)
    assert len(raised) == 1
    assert scene.queue.stats().ready == 2
    scene.world.drain()
    assert [e.attempt for e in scene.world.events if isinstance(e, AttemptStarted)] == [1, 1, 1]
    scene.ended()


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit, GeneratorExit, BaseException])
def test_whatever_a_job_raises_in_a_pool_thread_is_a_failed_attempt(
    new_world: NewWorld, registry: Registry, raised: type[BaseException]
) -> None:
    """None ends a worker."""

    @dataclass
    class Raises:
        def handle(self) -> None:
            raise raised("stop")

    registry.register("jobs.Raises", Raises)
    scene = Scene(new_world, registry, max_attempts=1)
    scene.queue.dispatch(Raises())
    scene.queue.dispatch(scene.job(2))
    scene.queue.start_workers(1)
    scene.world.run(for_s=5)
    assert scene.order() == [2]
    assert [e.error for e in scene.world.events if isinstance(e, AttemptFailed)] == [f"{raised.__name__}: stop"]
    scene.ended()


def test_a_stop_that_times_out_leaves_the_job_leased_until_its_thread_ends(
    new_world: NewWorld, registry: Registry
) -> None:
    """Handing it back would start it twice."""
    scene = Scene(new_world, registry, lease_s=3.0)
    handle = scene.queue.start_workers(2)
    scene.queue.dispatch(scene.job(1, takes=20))
    other = scene.world.process()
    other.start_workers(1)
    results: list[bool] = []

    def stop() -> None:
        scene.world.kernel.sleep(1)
        results.append(handle.stop(timeout=2))
        results.append(handle.stop())

    scene.world.runtime_of(scene.queue).spawn(stop, "stop")
    scene.world.run(for_s=60)
    assert results == [False, True]
    assert scene.order().count(1) == 1
    assert not [e for e in scene.world.events if isinstance(e, JobReturned)]
    scene.ended()


def test_a_worker_that_is_stopped_while_the_server_is_away_gives_up_after_a_lease(
    new_world: NewWorld, registry: Registry
) -> None:
    """Its jobs are anyone's by then; stop() does not hang."""
    away = False

    def fault(point: str, process: object) -> None:
        if away:
            raise DriverUnavailable("away")

    scene = Scene(new_world, registry, lease_s=5.0, fault=fault)
    handle = scene.queue.start_workers(2)
    scene.queue.dispatch(scene.job(1, takes=2))
    scene.world.run(for_s=1)
    away = True
    ended: list[bool] = []
    scene.world.runtime_of(scene.queue).spawn(lambda: ended.append(handle.stop()), "stop")
    scene.world.run(for_s=30)
    assert ended == [True]
    away = False
    scene.world.process().start_workers(1)
    scene.world.run(for_s=20)
    assert scene.order() == [1, 1]
    scene.ended()


def test_an_idle_worker_asks_the_server_at_most_five_times_a_second(new_world: NewWorld, registry: Registry) -> None:
    """A wait, and before it a look at what is delayed; its lease it renews as seldom as a busy one."""
    calls: list[str] = []
    scene = Scene(new_world, registry, fault=lambda point, process: calls.append(point))
    scene.queue.start_workers(10)
    scene.world.run(for_s=10)
    calls.clear()
    scene.world.run(for_s=60)
    asked = Counter(point.removeprefix("before ") for point in calls if point.startswith("before"))
    assert asked == {"wait": 100, "next_due": 93, "exchange": 7, "expired": 6}


def test_suspects_start_one_at_a_time_and_the_worker_does_not_spin_meanwhile(
    new_world: NewWorld, registry: Registry
) -> None:
    """Even when another job is due all the time."""
    calls: list[str] = []
    scene = Scene(new_world, registry, lease_s=5.0, fault=lambda point, process: calls.append(point))
    dying = scene.world.process()
    dying.start_workers(4)
    scene.queue.dispatch_many([scene.job(n, takes=3) for n in range(4)])
    scene.world.run(for_s=1)
    scene.world.kill(dying)
    scene.queue.dispatch_after(scene.job(9), 1)
    calls.clear()
    scene.world.process().start_workers(2)
    scene.world.run(for_s=40)
    starts = [at for at, n in scene.ran[4:] if n < 4]
    assert all(later - earlier >= 3 for earlier, later in itertools.pairwise(starts))
    assert len(calls) < 1000
    scene.ended()


def test_suspects_start_one_at_a_time_though_the_announcement_was_answered_late(
    new_world: NewWorld, registry: Registry
) -> None:
    """Its lease counts from the start, not from when the server was asked."""

    def fault(point: str, process: SimRuntime) -> None:
        if process is slow and point == "after exchange" and 5 < scene.world.kernel.time - began < 15:
            scene.world.kernel.sleep(7)

    slow: SimRuntime | None = None
    scene = Scene(new_world, registry, lease_s=5.0, fault=fault)
    began = scene.world.kernel.time
    early, late = scene.world.process(), scene.world.process()
    early.start_workers(3)
    scene.queue.dispatch_many([scene.job(n, takes=3) for n in range(3)])
    scene.world.run(for_s=1)
    late.start_workers(1)
    scene.queue.dispatch(scene.job(3, takes=20))
    scene.world.kill(early)
    taking_over = scene.world.process()
    slow = scene.world.runtime_of(taking_over)
    taking_over.start_workers(2)
    scene.world.run(for_s=9)
    scene.world.kill(late)  # what it had is found while the answer about the first suspect is on its way
    scene.world.run(for_s=120)
    starts = [at for at, _ in scene.ran[4:]]
    assert len(starts) == 4
    assert all(later - earlier >= 3 for earlier, later in itertools.pairwise(starts))
    scene.ended()


@pytest.mark.parametrize("answers_again", [True, False])
def test_a_worker_that_gives_up_asks_once_more_after_a_lost_reply(
    new_world: NewWorld, registry: Registry, answers_again: bool
) -> None:
    """The settlement may have been carried out: a process says so, or says that it does not know."""
    lost: list[str] = []

    def fault(point: str, process: object) -> None:
        if stopping and point == "after exchange" and (not lost or not answers_again):
            lost.append(point)
            scene.world.kernel.sleep(10)
            raise ReplyLost("timed out")

    stopping = False
    scene = Scene(new_world, registry, lease_s=5.0, fault=fault)
    worker = scene.world.process()
    handle = worker.start_workers(1)
    scene.queue.dispatch(scene.job(1, takes=2))
    scene.world.run(for_s=1)
    stopping = True
    worker.process.spawn(handle.request_stop, "stop")
    scene.world.run(for_s=100)
    assert not handle.is_alive()
    stopped = [event.unsettled for event in scene.world.events if isinstance(event, WorkerStopped)]
    told = [event for event in scene.world.events if isinstance(event, JobSucceeded)]
    assert (stopped, len(told)) == (([0], 1) if answers_again else ([1], 0))
