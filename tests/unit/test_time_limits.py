"""Time limits where the clauses' examples do not reach: policies, pauses, threads that can't be had."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kashvi_sim.world.process import SimQueue
from kashvi_sim.world.world import World

from kashvi import current
from kashvi.errors import AttemptOver, InvalidSetting, TimedOut
from kashvi.events import AttemptFailed, AttemptStarted, AttemptStuck, AttemptSucceeded, JobFailed, JobReturned
from kashvi.queue import Queue
from kashvi.raised import standing_at
from kashvi.registry import Registry
from kashvi.retries import GiveUp, Retry, Snooze
from kashvi.runtime import SystemRuntime
from kashvi.worker.hooks import Attempt
from kashvi.worker.retry import GiveUp as GivesUp
from kashvi.worker.retry import RetryAfter, decide_by

WAITS: list[float | None] = []


@dataclass
class Hangs:
    seconds: float

    def handle(self) -> None:
        WAITS.append(current().remaining_s)
        world().kernel.sleep(self.seconds)


_worlds: list[World] = []


def world() -> World:
    return _worlds[-1]


@pytest.fixture
def limited() -> SimQueue:
    """A process of a world with jobs that may take 3 s, and 5 s more to obey."""
    registry = Registry()
    registry.register("jobs.Hangs", Hangs, timeout=3)
    _worlds.append(World(registry=registry, virtual_handlers=False, max_attempts=2))
    WAITS.clear()
    return world().process()


def told(kind: type[Any]) -> list[Any]:
    return [event for event in world().events if type(event) is kind]


def test_each_attempt_has_the_whole_time_limit(limited: SimQueue) -> None:
    """It counts from the attempt's start, not from the claim or the first one."""
    limited.dispatch_many([Hangs(2), Hangs(2)])
    limited.start_workers(1)
    world().run(for_s=10)
    assert WAITS == [3.0, 3.0]
    assert told(AttemptFailed) == []


def test_a_worker_whose_every_thread_is_stuck_claims_nothing(limited: SimQueue) -> None:
    """Two threads, and two in their places; the fifth job waits for another worker, or until one ends."""
    limited.dispatch_many([Hangs(100) for _ in range(5)])
    limited.start_workers(2)
    world().run(for_s=60)
    assert [event.replaced for event in told(AttemptStuck)] == [True, True, False, False]
    assert len(told(AttemptStarted)) == 4
    assert (limited.stats().ready, limited.stats().held) == (1, 4)
    world().run(for_s=60)
    assert len(told(AttemptStarted)) == 5
    world().close()


def test_when_the_stuck_have_ended_there_are_as_many_threads_as_before(limited: SimQueue) -> None:
    """Each that was opened has ended, and no other."""
    limited.dispatch_many([Hangs(20), Hangs(30)])
    handle = limited.start_workers(2)
    world().run(for_s=40)
    machine: Any = handle._worker.machine
    assert (machine.alive, machine.opened, machine.time_limits) == (2, 0, {})
    world().terminate(limited.process)
    world().run(for_s=5)
    assert not handle.is_alive()


def test_a_stop_waits_for_a_stuck_thread_and_opens_none(limited: SimQueue) -> None:
    """As for any job that runs: the process is its app's."""
    limited.dispatch_many([Hangs(20), Hangs(1)])
    handle = limited.start_workers(1)
    world().run(for_s=4)
    world().terminate(limited.process)
    world().run(for_s=10)
    assert [event.replaced for event in told(AttemptStuck)] == [False]
    assert handle.is_alive()
    world().run(for_s=10)
    assert not handle.is_alive()


def test_a_process_that_stood_still_gives_its_handlers_time(limited: SimQueue) -> None:
    """Its clock went on, and its handlers did not: none is stuck that ends in time after it."""
    limited.dispatch(Hangs(2))
    limited.start_workers(1)
    world().run(for_s=1)
    limited.process.pause(100)
    world().run(for_s=110)
    assert told(AttemptStuck) == []


def test_a_thread_that_can_not_be_opened_is_not_counted(limited: SimQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process has no more threads to give; the worker ends as ever when the stuck one has."""
    limited.dispatch_many([Hangs(20), Hangs(1)])
    handle = limited.start_workers(1)
    real = limited.process.spawn

    def spawn(run: Callable[[], None], name: str) -> Any:
        if "in-place" in name:
            raise RuntimeError("can't start new thread")
        return real(run, name)

    monkeypatch.setattr(limited.process, "spawn", spawn)
    world().run(for_s=30)
    machine: Any = handle._worker.machine
    assert (machine.alive, machine.opened) == (1, 0)
    assert len(told(AttemptStarted)) == 2


def test_work_opens_no_thread() -> None:
    """Its one thread is the caller's."""
    queue, seen, ends = Queue(registry=Registry(), obey_s=0), [], threading.Event()

    @queue.job("jobs.Waits", timeout=0.01)
    @dataclass
    class Waits:
        def handle(self) -> None:
            assert ends.wait(20)

    def observe(event: Any) -> None:
        seen.append(event)
        if isinstance(event, AttemptStuck):
            ends.set()

    queue.observe(observe)
    queue.dispatch(Waits())
    queue.work(stop_when_empty=True)
    assert [event.replaced for event in seen if isinstance(event, AttemptStuck)] == [False]
    assert [event.late for event in seen if hasattr(event, "late")] == [True]


@pytest.fixture
def replaced() -> SimQueue:
    """A process of a world with such jobs, in which a stuck one ends its process when others had 5 s."""
    registry = Registry()
    registry.register("jobs.Hangs", Hangs, timeout=3)
    registry.register("jobs.Free", Free)
    _worlds.append(World(registry=registry, virtual_handlers=False, max_attempts=2, patience_s=5.0))
    return world().process()


@dataclass
class Free(Hangs):
    """It has no time limit."""


def test_a_worker_that_was_told_to_stop_is_not_replaced(replaced: SimQueue) -> None:
    """It leaves the stuck attempt behind all the same, and does not wait for it."""
    replaced.dispatch(Hangs(100))
    handle = replaced.start_workers(1)
    world().run(for_s=4)
    world().terminate(replaced.process)
    world().run(for_s=5)
    assert (handle.stuck, handle.to_replace, handle.is_alive()) == (True, False, False)
    stats = world().server.driver.stats()
    assert (stats.held, stats.delayed) == (0, 1)


def test_a_stuck_attempt_that_ends_within_the_patience_counts_as_it_ended(replaced: SimQueue) -> None:
    """The worker had stopped taking jobs by then, so its process is replaced."""
    replaced.dispatch_many([Hangs(10), Free(11)])
    handle = replaced.start_workers(2)
    world().run(for_s=15)
    assert [event.late for event in told(AttemptSucceeded)] == [True, False]
    assert (handle.stuck, handle.to_replace, handle.is_alive()) == (False, True, False)


def test_another_that_is_stuck_meanwhile_has_failed_too(replaced: SimQueue) -> None:
    """Each by its own limit; and both are told once."""
    replaced.dispatch_many([Hangs(100), Free(100)])
    replaced.dispatch_after(Hangs(100), 2)
    replaced.start_workers(3)
    world().run(for_s=14)
    assert [event.error for event in told(AttemptFailed)] == ["timed out after 3 s: stuck"] * 2
    assert len(told(AttemptStuck)) == 2
    assert [(event.type, event.suspect) for event in told(JobReturned)] == [("jobs.Free", False)]


def test_what_ends_after_it_was_left_behind_counts_for_nothing(replaced: SimQueue) -> None:
    """Its thread may run on for a moment until the process is gone."""
    replaced.dispatch_many([Hangs(14), Free(14)])
    handle = replaced.start_workers(2)
    world().replace = lambda process: None  # type: ignore[method-assign]
    world().run(for_s=30)
    assert handle.stuck
    assert told(AttemptSucceeded) == []
    assert len(told(AttemptFailed)) == 1


def test_an_async_handler_is_cancelled_on_a_real_loop() -> None:
    """Inside hooks, too; and the loop serves the thread's next job."""
    queue, seen, loops = Queue(registry=Registry(), max_attempts=1), [], set()

    @queue.around
    @contextmanager
    def hook(attempt: Attempt) -> Iterator[None]:
        try:
            yield
        except TimedOut as error:
            seen.append(error.timeout_s)
            raise

    @queue.job("jobs.Waits", timeout=0.05)
    @dataclass
    class Waits:
        seconds: float

        async def handle(self) -> None:
            loops.add(asyncio.get_running_loop())
            await asyncio.sleep(self.seconds)

    queue.dispatch_many([Waits(60), Waits(0)])
    queue.work(stop_when_empty=True)
    assert [failed.error for failed in queue.failed_jobs()] == ["timed out after 0.05 s"]
    assert (seen, len(loops)) == ([0.05], 1)


LATE_SNOOZE, LATE_ERROR, LATE_GIVE_UP = TimedOut(3), TimedOut(3), TimedOut(3)
LATE_SNOOZE.__cause__, LATE_ERROR.__cause__, LATE_GIVE_UP.__cause__ = Snooze(5), OSError("e"), GiveUp("no")


@pytest.mark.parametrize(
    ("policy", "error", "tried_again"),
    [
        (None, TimedOut(3), True),
        (None, LATE_GIVE_UP, False),
        (Retry(retry_on=ValueError), TimedOut(3), True),
        (Retry(retry_on=ValueError), LATE_ERROR, True),
        (Retry(give_up_on=TimedOut), TimedOut(3), False),
        (Retry(give_up_on=TimedOut), LATE_SNOOZE, False),
        (Retry(give_up_on=OSError), LATE_ERROR, False),
        (Retry(give_up_on=OSError), TimedOut(3), True),
    ],
)
def test_a_policy_sees_a_timeout_whatever_was_raised(
    policy: Retry | None, error: BaseException, tried_again: bool
) -> None:
    """It is asked by TimedOut, and by what was raised as its cause."""
    assert isinstance(decide_by(policy, 1, 3, error, 4.0, lambda: 0.0), RetryAfter if tried_again else GivesUp)
    assert isinstance(decide_by(policy, 3, 3, error, 4.0, lambda: 0.0), GivesUp)


def test_a_backoff_is_given_the_timeout(limited: SimQueue) -> None:
    """Also where the handler raised something else, too late."""
    given: list[BaseException] = []

    def backoff(attempt: int, error: BaseException, elapsed_s: float, chance: float) -> float:
        given.append(error)
        return 1

    @dataclass
    class Fails(Hangs):
        def handle(self) -> None:
            super().handle()
            raise ValueError("no card")

    world().registry.register("jobs.Fails", Fails, Retry(attempts=2, backoff=backoff), 3)
    limited.dispatch(Fails(4))
    limited.start_workers(1)
    world().run(for_s=20)
    assert [str(error) for error in given] == ["timed out after 3 s"]
    assert isinstance(given[0].__cause__, ValueError)
    assert [event.error for event in told(JobFailed)] == ["timed out after 3 s: ValueError: no card"]


@pytest.mark.parametrize("is_async", [False, True])
def test_where_a_thread_stands_is_told_as_a_traceback(is_async: bool) -> None:
    """Without the frames of the worker and the event loop; a thread that is gone has none."""
    began, ends = threading.Event(), threading.Event()
    numbers: list[int] = []
    runtime = SystemRuntime()

    def waits() -> None:
        numbers.append(runtime.thread())
        began.set()
        assert ends.wait(20)

    async def waits_in_a_loop() -> None:
        waits()

    thread = threading.Thread(target=lambda: asyncio.run(waits_in_a_loop()) if is_async else waits())
    thread.start()
    assert began.wait(20)
    frame = runtime.frame(numbers[0])
    assert frame is not None
    shown = standing_at(frame, "timed out after 1 s: stuck")
    ends.set()
    thread.join(20)
    lines = shown.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert Path(__file__).name in lines[1]
    assert "in waits" in shown
    assert lines[-1] == "timed out after 1 s: stuck"
    assert runtime.frame(numbers[0]) is None


@pytest.mark.parametrize("seconds", [-1, float("nan"), 1e308, pytest.param(10**400, id="huge"), True, "5"])
def test_the_time_to_obey_is_a_number_of_seconds(seconds: Any) -> None:
    with pytest.raises(InvalidSetting, match="obey_s must be a number of seconds, 0 or more"):
        Queue(obey_s=seconds)


@pytest.mark.parametrize("fails", [False, True])
def test_who_outlives_the_attempt_is_told_that_it_is_over(fails: bool) -> None:
    """By a check and by a dispatch, also after an attempt that failed."""
    queue, kept = Queue(registry=Registry(), max_attempts=1), []

    @queue.job("jobs.Ends", timeout=60)
    @dataclass
    class Ends:
        def handle(self) -> None:
            kept.append(current())
            kept[-1].check()
            if fails:
                raise ValueError("no card")

    queue.dispatch(Ends())
    queue.work(stop_when_empty=True)
    [attempt] = kept
    with pytest.raises(AttemptOver):
        attempt.check()
    with pytest.raises(AttemptOver):
        attempt.dispatch(Ends())


def test_a_timeout_of_the_handlers_own_is_told_as_that() -> None:
    """As its client raises it, within the limit."""
    queue = Queue(registry=Registry(), max_attempts=1)

    @queue.job("jobs.Asks", timeout=60)
    @dataclass
    class Asks:
        async def handle(self) -> None:
            raise TimeoutError("the bank does not answer")

    queue.dispatch(Asks())
    queue.work(stop_when_empty=True)
    assert [one.error for one in queue.failed_jobs()] == ["TimeoutError: the bank does not answer"]
