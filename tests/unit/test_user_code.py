"""What a worker calls and did not write: observers, logging handlers, failure stores, drivers. None ends a thread."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Thread
from typing import Any

import pytest

from kashvi.drivers.memory import MemoryDriver
from kashvi.events import AttemptSucceeded, Event
from kashvi.ports import Exchange, Failure
from kashvi.queue import Queue
from kashvi.registry import Registry
from kashvi.retries import GiveUp
from kashvi.worker import Limits
from kashvi.worker.hooks import Attempt
from tests.servers.launch import until_true

ran: list[int] = []
RAISED: list[type[BaseException]] = [KeyboardInterrupt, SystemExit, GeneratorExit, BaseException]


def nameless() -> BaseException:
    """An exception whose name and text can't be had."""

    class Odd(type):
        def __getattribute__(cls, name: str) -> Any:
            raise SystemExit("an exception without a name")

    class Nameless(Exception, metaclass=Odd):
        def __str__(self) -> str:
            raise KeyboardInterrupt

    return Nameless()


@dataclass
class Note:
    n: int

    def handle(self) -> None:
        ran.append(self.n)
        if self.n % 4 == 3:
            raise nameless()


@dataclass
class GivesUp:
    def handle(self) -> None:
        raise GiveUp("no such order")


tasks: list[asyncio.Task[None]] = []


@dataclass
class Leaves:
    """A task that it does not await."""

    async def handle(self) -> None:
        tasks.append(asyncio.create_task(asyncio.sleep(60)))


class Hostile:
    """Raises ``kind`` where it is told to."""

    def __init__(self, kind: type[BaseException]) -> None:
        self.kind = kind
        self.times = 0

    def __call__(self, *args: object) -> None:
        self.times += 1
        raise self.kind("hostile")


class HostileHandler(logging.Handler):
    def __init__(self, hostile: Hostile) -> None:
        super().__init__(logging.DEBUG)
        self._hostile = hostile

    def handle(self, record: logging.LogRecord) -> bool:
        self._hostile()
        return True


class HostileStore:
    def __init__(self, hostile: Hostile) -> None:
        self._hostile = hostile

    def record(self, failures: Sequence[Failure]) -> dict[str, Any]:
        self._hostile()
        return {}


class HostileDriver(MemoryDriver):
    """Its name can't be had, and its third exchange raises."""

    def __init__(self, hostile: Hostile) -> None:
        super().__init__()
        self._hostile, self._calls = hostile, 0

    def __repr__(self) -> str:
        self._hostile()
        return ""

    def exchange(self, *args: Any) -> Exchange:
        self._calls += 1
        if self._calls == 3:
            self._hostile()
        return super().exchange(*args)


def observing(queue: Queue, hostile: Hostile) -> None:
    queue.observe(hostile)


def logging_(queue: Queue, hostile: Hostile) -> None:
    log = logging.getLogger("kashvi")
    log.setLevel(logging.DEBUG)
    log.addHandler(HostileHandler(hostile))


def storing(queue: Queue, hostile: Hostile) -> None:
    queue._store = HostileStore(hostile)


def driving(queue: Queue, hostile: Hostile) -> None:
    queue.set_driver(HostileDriver(hostile))


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    log = logging.getLogger("kashvi")
    level, handlers = log.level, log.handlers[:]
    ran.clear()
    tasks.clear()
    yield
    log.setLevel(level)
    log.handlers[:] = handlers


@pytest.fixture
def queue() -> Queue:
    made = Queue(registry=Registry(), max_attempts=1)
    made.register("jobs.Note", Note)
    return made


@pytest.mark.parametrize("raised", RAISED)
@pytest.mark.parametrize("hostile_by", [observing, logging_, storing, driving])
def test_no_thread_ends_and_no_job_runs_twice_whatever_user_code_raises(
    queue: Queue, hostile_by: Callable[[Queue, Hostile], None], raised: type[BaseException]
) -> None:
    """Each job is run once and settled; all threads end when the queue is empty, and not before."""
    hostile = Hostile(raised)
    hostile_by(queue, hostile)
    queue.driver.push([b'{"type":"jobs.Note","payload":{"n":%d}}' % n for n in range(8)])
    workers = queue.start_workers(2)
    until_true(lambda: len(queue.failed_jobs()) == 2 and queue.stats().ready == queue.stats().held == 0, 20)
    queue.driver.push([b'{"type":"jobs.Note","payload":{"n":8}}'])
    until_true(lambda: 8 in ran, 20)
    assert all(task.is_alive() for task in workers._tasks)
    stopping = Thread(target=workers.stop)  # here, a KeyboardInterrupt would be for us
    stopping.start()
    stopping.join(20)
    assert not workers.is_alive()
    assert sorted(ran) == [*range(9)]
    assert hostile.times


def test_ctrl_c_while_the_end_of_an_attempt_is_told_does_not_make_the_job_run_again(queue: Queue) -> None:
    """work() is in the main thread: the interrupt is raised, and the attempt is settled as it ended."""

    def interrupt(event: Event) -> None:
        if isinstance(event, AttemptSucceeded):
            raise KeyboardInterrupt

    queue.driver.push([b'{"type":"jobs.Note","payload":{"n":%d}}' % n for n in (1, 2)])
    end = queue.observe(interrupt)
    with pytest.raises(KeyboardInterrupt):
        queue.work()
    end()
    assert (ran, queue.stats().held, queue.stats().ready) == ([1], 0, 1)
    assert queue.start_workers(1, limits=Limits("empty")).join(20)
    assert ran == [1, 2]


@pytest.mark.parametrize("raised", [RuntimeError, SystemExit, GeneratorExit, BaseException])
def test_a_logging_handler_that_raises_changes_no_outcome(queue: Queue, raised: type[BaseException]) -> None:
    """The job is given up as its handler said, all hooks are left, and no task outlives the async job that began it."""
    left: list[str] = []

    @contextmanager
    def outer(attempt: Attempt) -> Iterator[None]:
        try:
            yield
        finally:
            left.append(attempt.type)

    @contextmanager
    def inner(attempt: Attempt) -> Iterator[None]:
        try:
            yield
        finally:
            if attempt.type == "jobs.GivesUp":
                raise ConnectionError("the commit fails")

    queue.register("jobs.GivesUp", GivesUp)
    queue.register("jobs.Leaves", Leaves)
    queue.set_max_retry(3)
    queue.around(outer)
    queue.around(inner)
    hostile = Hostile(raised)
    logging_(queue, hostile)
    queue.dispatch_many([GivesUp(), Leaves()])
    assert queue.start_workers(1, limits=Limits("empty")).join(20)
    assert [one.error for one in queue.failed_jobs()] == ["GiveUp: no such order"]
    assert queue.stats().delayed == 0
    assert left == ["jobs.GivesUp", "jobs.Leaves"]
    assert [task.cancelled() for task in tasks] == [True]
    assert hostile.times
