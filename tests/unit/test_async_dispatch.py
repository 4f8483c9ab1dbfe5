"""Dispatching from asyncio: the loop goes on, and a timeout or a cancellation says what may have happened."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from kashvi.drivers.memory import MemoryDriver
from kashvi.errors import InvalidDelay, InvalidSetting, NotAJob, ReplyLost
from kashvi.events import JobDispatched
from kashvi.queue import Queue
from kashvi.registry import Registry


@dataclass
class Note:
    n: int
    tags: list[str] = field(default_factory=list)

    def handle(self) -> None: ...


class Silent(MemoryDriver):
    """A server that answers when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = threading.Event()

    def push(self, envelopes: Sequence[bytes], delay_s: float = 0.0) -> float | None:
        assert self.answers.wait(20)
        return super().push(envelopes, delay_s)


@pytest.fixture
def driver() -> Iterator[Silent]:
    """It answers at the latest when the test ends."""
    silent = Silent()
    yield silent
    silent.answers.set()


@pytest.fixture
def queue(driver: Silent) -> Queue:
    queue = Queue(driver, registry=Registry())
    queue.register("jobs.Note", Note)
    return queue


WAYS: list[tuple[str, Callable[[Queue, Any], Any]]] = [
    ("adispatch", lambda queue, job: queue.adispatch(job, timeout=0.02)),
    ("adispatch_after", lambda queue, job: queue.adispatch_after(job, 60, timeout=0.02)),
    ("adispatch_many", lambda queue, job: queue.adispatch_many([job, job], timeout=0.02)),
]


def test_the_loop_goes_on_while_the_server_is_silent(queue: Queue, driver: Silent) -> None:
    """Other tasks run; the id comes with the answer, and is that of the job."""
    dispatched: list[str] = []
    queue.observe(lambda event: dispatched.append(event.job_id) if isinstance(event, JobDispatched) else None)

    async def main() -> list[str]:
        sending = [asyncio.ensure_future(queue.adispatch(Note(n))) for n in range(3)]
        sending.append(asyncio.ensure_future(queue.adispatch_after(Note(3), 60)))
        many = asyncio.ensure_future(queue.adispatch_many([Note(4), Note(5)]))
        for _ in range(100):
            await asyncio.sleep(0)
        assert not any(one.done() for one in sending)
        driver.answers.set()
        return [*await asyncio.gather(*sending), *await many]

    ids = asyncio.run(main())
    assert sorted(ids) == sorted(dispatched)
    assert (queue.stats().ready, queue.stats().delayed) == (5, 1)


@pytest.mark.parametrize(("name", "way"), WAYS, ids=[name for name, _ in WAYS])
def test_after_its_timeout_a_dispatch_says_that_it_may_be_sent(
    queue: Queue, driver: Silent, name: str, way: Callable[[Queue, Any], Any]
) -> None:
    """With the job's id; and it is sent, as soon as the server answers."""

    async def main() -> ReplyLost:
        with pytest.raises(ReplyLost, match=r"no answer within 0\.02 s") as caught:
            await way(queue, Note(1))
        driver.answers.set()
        return caught.value

    error = asyncio.run(main())  # its end waits for the thread
    assert (error.maybe_sent, bool(error.job_id)) == (True, True)
    assert queue.stats().ready + queue.stats().delayed == (2 if name == "adispatch_many" else 1)


def test_a_cancelled_dispatch_may_be_sent(queue: Queue, driver: Silent) -> None:
    """A thread can't be stopped; the task ends at once."""

    async def main() -> None:
        task = asyncio.ensure_future(queue.adispatch(Note(1)))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        driver.answers.set()

    asyncio.run(main())
    assert queue.stats().ready == 1


def test_what_is_wrong_with_a_job_is_said_at_the_call_and_its_payload_captured_there(
    queue: Queue, driver: Silent
) -> None:
    """Before anything is awaited."""
    driver.answers.set()
    for wrong, error in (
        (lambda: queue.adispatch(None), NotAJob),
        (lambda: queue.adispatch_many([Note(1), None]), NotAJob),
        (lambda: queue.adispatch_after(Note(1), -1), InvalidDelay),
        (lambda: queue.adispatch(Note(1), timeout=0), InvalidSetting),
    ):
        with pytest.raises(error):
            wrong()
    job = Note(1, ["before"])

    async def main() -> None:
        sending = queue.adispatch(job)
        job.tags.append("after")
        await sending

    asyncio.run(main())
    envelope = driver.wait("w", 0)
    assert envelope is not None
    assert envelope.endswith(b'{"n":1,"tags":["before"]}}')


def test_no_jobs_ask_no_server(queue: Queue) -> None:
    """An empty list comes back."""
    assert asyncio.run(queue.adispatch_many([])) == []  # type: ignore[arg-type]


def test_a_producers_own_timeout_is_that_of_its_client() -> None:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        queue = Queue(f"redis://127.0.0.1:{silent.getsockname()[1]}?socket_timeout=0.1", registry=Registry())
        queue.register("jobs.Note", Note)
        began = time.monotonic()
        with pytest.raises(Exception, match=r"can't be reached|did not answer"):
            queue.dispatch(Note(1))
        assert time.monotonic() - began < 5
