"""Real threads, switched all the time: what kashvi's locks guard stays whole, and does not without one.

The simulator switches tasks at calls only, so it can't see a lock that is missing. Nothing here sleeps, and the number
of jobs is bounded.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pytest

from kashvi.cli.stdout import JsonStdout
from kashvi.drivers.memory import MemoryDriver
from kashvi.events import Event, JobFailed, JobSucceeded, WorkerStopped
from kashvi.ports import Settlement
from kashvi.queue import Queue
from kashvi.registry import Registry
from kashvi.worker.shell import Worker

SWITCH_S = 1e-6
PATIENCE_S = 15.0
ROUNDS = 200
"""How often a story is told without a lock until it goes wrong."""


class Unlocked:
    """A condition that wakes its waiters, and excludes no other thread."""

    def __init__(self) -> None:
        self._inner = threading.Condition()

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass

    def __enter__(self) -> bool:
        return True

    def __exit__(self, *_: object) -> None:
        pass

    def wait(self, timeout: float | None = None) -> bool:
        with self._inner:  # a wake-up may come before the wait
            return self._inner.wait(min(0.05 if timeout is None else timeout, 0.05))

    def notify(self, n: int = 1) -> None:
        with self._inner:
            self._inner.notify(n)

    def notify_all(self) -> None:
        with self._inner:
            self._inner.notify_all()


@dataclass
class Counts:
    n: int

    def handle(self) -> None:
        RAN.append(self.n)
        if self.n % 10 == 3:
            raise ValueError("as it should")


RAN: list[int] = []
Story = Callable[[bool], list[str]]
"""Tell it with the lock (True) or without; returns what went wrong."""


@pytest.fixture(autouse=True)
def restless() -> Iterator[None]:
    """The interpreter switches threads as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    yield
    sys.setswitchinterval(before)


def at_once(*runs: Callable[[], object]) -> list[str]:
    """Run these in threads that begin together; returns what they raised."""
    raised: list[str] = []
    barrier = threading.Barrier(len(runs))

    def guarded(run: Callable[[], object]) -> None:
        barrier.wait(PATIENCE_S)
        try:
            run()
        except Exception as error:
            raised.append(f"raised {error!r}")

    threads = [threading.Thread(target=guarded, args=(run,), daemon=True) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
        if thread.is_alive():
            raised.append("a thread never ended")
    return raised


def memory_driver(locked: bool) -> list[str]:
    """Two threads push, four claim by exchange and by wait, and settle."""
    driver = MemoryDriver()
    if not locked:
        driver.store.condition = Unlocked()
    claimed: list[bytes] = []
    jobs = [b"%06d" % n for n in range(1200)]

    def push(part: list[bytes]) -> None:
        for one in part:
            driver.push([one])

    def work(name: str) -> None:
        mine: list[bytes] = []
        for n in range(1, 600):
            answer = driver.exchange(name, n, 60.0, [Settlement("done", name, old=one) for one in mine], 3)
            if answer.refused:
                raise AssertionError("a settlement was refused")
            mine = [*answer.claimed]
            if isinstance(waited := driver.wait(name, 0.0), bytes):
                mine.append(waited)
            claimed.extend(mine)
        driver.exchange(name, 1000, 60.0, [Settlement("done", name, old=one) for one in mine], 0)

    wrong = at_once(partial(push, jobs[:600]), partial(push, jobs[600:]), *(partial(work, name) for name in "abcd"))
    stats = driver.stats()
    if Counter(claimed) + Counter(driver.store.jobs) != Counter(jobs):
        wrong.append(f"{len(claimed)} claims of {len(set(claimed))} jobs, {stats.ready} left of {len(jobs)}")
    if stats.held:
        wrong.append(f"{stats.held} held at the end")
    return wrong


def worker(locked: bool) -> list[str]:
    """Three threads dispatch, and eight of one worker run the jobs; each tenth fails."""
    real = Worker.__init__

    def unlocked(self: Worker, *args: object, **named: object) -> None:
        real(self, *args, **named)  # type: ignore[arg-type]
        self.lock = Unlocked()

    RAN.clear()
    queue = Queue(MemoryDriver(), registry=Registry(), max_attempts=1)
    queue.register("jobs.Counts", Counts)
    ended, told, over = Counter[str](), list[Event](), threading.Event()
    total = 3000

    def see(event: Event) -> None:
        told.append(event)
        if isinstance(event, JobSucceeded | JobFailed):
            ended[event.job_id] += 1
            if len(ended) >= total:
                over.set()

    def dispatch(part: range) -> None:
        for n in part:
            queue.dispatch(Counts(n))

    queue.observe(see)
    with pytest.MonkeyPatch.context() as patch, caught() as logged:
        if not locked:
            patch.setattr(Worker, "__init__", unlocked)
        workers = queue.start_workers(8)
        wrong = at_once(*(partial(dispatch, range(first, first + 1000)) for first in (0, 1000, 2000)))
        if not over.wait(PATIENCE_S if locked else 2.0):
            wrong.append(f"{len(ended)} of {total} jobs ended")
        if not workers.stop(PATIENCE_S if locked else 2.0):
            wrong.append("the worker does not stop")
    if sorted(RAN) != list(range(total)):
        wrong.append(f"{len(RAN)} attempts at {len(set(RAN))} of {total} jobs")
    if again := [job_id for job_id, times in ended.items() if times > 1]:
        wrong.append(f"{len(again)} jobs ended more than once")
    if any(isinstance(event, WorkerStopped) and event.unsettled for event in told):
        wrong.append("jobs are left unsettled")
    return wrong + logged


def first_dispatch(locked: bool) -> list[str]:
    """Four threads dispatch into a queue that has no driver yet: all four jobs are on one queue."""
    for _ in range(40):
        queue = Queue(registry=Registry())
        queue.register("jobs.Counts", Counts)
        if not locked:
            queue._lock = Unlocked()
        wrong = at_once(*(partial(queue.dispatch, Counts(n)) for n in range(4)))
        if (ready := queue.stats().ready) != 4:
            return [*wrong, f"{ready} of 4 jobs are on the queue"]
    return []


def json_lines(locked: bool) -> list[str]:
    """Threads write long lines to a pipe: each arrives whole."""
    reading, writing = os.pipe()
    out = JsonStdout.__new__(JsonStdout)
    out._open, out._encoding, out._file = True, "utf-8", writing
    out._lock = threading.Condition() if locked else Unlocked()  # type: ignore[assignment]
    read: list[bytes] = []
    lines = [letter * 100_000 for letter in "abcdef"]

    def write(line: str) -> None:
        for _ in range(5):
            out.write(line)

    def collect() -> None:
        with os.fdopen(reading, "rb") as pipe:
            read.extend(pipe.readline().rstrip() for _ in range(30))

    wrong = at_once(collect, *(partial(write, line) for line in lines))
    os.close(writing)
    if Counter(read) != Counter({line.encode(): 5 for line in lines}):
        wrong.append("lines were mixed")
    return wrong


class caught:
    """Errors that kashvi logs meanwhile."""

    def __enter__(self) -> list[str]:
        self._log, self._lines = logging.getLogger("kashvi"), list[str]()
        self._handler = logging.Handler(logging.ERROR)
        self._handler.emit = lambda record: self._lines.append(record.getMessage())  # type: ignore[method-assign]
        self._log.addHandler(self._handler)
        return self._lines

    def __exit__(self, *_: object) -> None:
        self._log.removeHandler(self._handler)


STORIES: dict[str, Story] = {
    "the memory driver's": memory_driver,
    "the worker's": worker,
    "the queue's, for its first driver": first_dispatch,
    "standard output's": json_lines,
}


@pytest.mark.parametrize("lock", STORIES)
def test_all_is_well_however_threads_are_switched(lock: str) -> None:
    """Nothing twice, nothing lost, nothing raised."""
    for _ in range(2):
        assert STORIES[lock](True) == []


@pytest.mark.parametrize("lock", STORIES)
def test_a_missing_lock_is_seen(lock: str) -> None:
    """Which proves that the story above comes where the lock is needed."""
    assert any(STORIES[lock](False) for _ in range(ROUNDS))
