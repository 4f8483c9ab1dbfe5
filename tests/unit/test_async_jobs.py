"""Async handlers on real threads: their loops, interrupts and failures."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass
from threading import Barrier

import pytest

from kashvi import current
from kashvi.queue import Limits, Queue
from kashvi.registry import Registry

loops: list[asyncio.AbstractEventLoop] = []
together = Barrier(2)


@dataclass
class Meets:
    async def handle(self) -> None:
        loops.append(asyncio.get_running_loop())
        await asyncio.get_running_loop().run_in_executor(None, together.wait, 20)


@dataclass
class Interrupts:
    async def handle(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(20)


@dataclass
class Works:
    """A handler that works another queue off, and then goes on."""

    async def handle(self) -> None:
        works()
        await asyncio.sleep(0)
        ids.append(current().job_id)


@dataclass
class WorksInOrder:
    """Likewise, but not on a loop."""

    def handle(self) -> None:
        works()
        ids.append(current().job_id)


@dataclass
class Awaits:
    async def handle(self) -> None:
        loops.append(asyncio.get_running_loop())


ids: list[str] = []


def works() -> None:
    inner = Queue(registry=Registry())
    inner.register("jobs.Inner", Inner)
    inner.dispatch(Inner())
    inner.work(stop_when_empty=True)


@dataclass
class Inner:
    def handle(self) -> None:
        assert current().type == "jobs.Inner"


@dataclass
class Cancels:
    async def handle(self) -> None:
        raise asyncio.CancelledError


@pytest.fixture
def queue() -> Queue:
    loops.clear()
    ids.clear()
    queue = Queue(registry=Registry(), max_attempts=1)
    for job_class in (Meets, Interrupts, Cancels, Works, WorksInOrder, Awaits):
        queue.register(f"jobs.{job_class.__name__}", job_class)
    return queue


def test_each_thread_has_a_loop_of_its_own(queue: Queue) -> None:
    """Two jobs meet, each waiting for the other; afterwards the loops are closed."""
    queue.dispatch_many([Meets(), Meets()])
    assert queue.start_workers(2, limits=Limits("empty")).join(20)
    assert queue.failed_jobs() == []
    assert len({id(loop) for loop in loops}) == 2
    assert all(loop.is_closed() for loop in loops)


def test_ctrl_c_in_work_hands_an_async_job_back(queue: Queue) -> None:
    """Uncounted, as an ordinary one."""
    queue.dispatch(Interrupts())
    with pytest.raises(KeyboardInterrupt):
        queue.work(stop_when_empty=True)
    assert (queue.stats().ready, queue.failed_jobs()) == (1, [])


def test_a_cancelled_handler_has_failed(queue: Queue) -> None:
    """It did not come to its end."""
    queue.dispatch(Cancels())
    queue.work(stop_when_empty=True)
    assert [failed.error for failed in queue.failed_jobs()] == ["CancelledError"]


def test_work_inside_a_running_loop_fails_an_async_job_with_the_reason(queue: Queue) -> None:
    """Python runs no loop within another."""

    async def main() -> None:
        queue.dispatch(Cancels())
        queue.work(stop_when_empty=True)

    asyncio.run(main())
    [failed] = queue.failed_jobs()
    assert "call queue.work() outside of async code" in failed.error


def test_a_handler_that_works_another_queue_off_goes_on_as_the_attempt_it_was(queue: Queue) -> None:
    """The inner work() leaves the outer attempt, and its loop, as they were."""
    dispatched = queue.dispatch_many([Awaits(), Works(), WorksInOrder(), Awaits()])
    queue.work(stop_when_empty=True)
    assert queue.failed_jobs() == []
    assert ids == dispatched[1:3]
    assert loops[0] is loops[1]
    assert loops[0].is_closed()
