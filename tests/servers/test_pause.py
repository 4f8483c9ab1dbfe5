"""Pausing a queue: on real servers and in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from kashvi.drivers.memory import MemoryDriver
from kashvi.drivers.redis import RedisDriver
from kashvi.errors import DriverError, InvalidSetting
from kashvi.events import Event, QueuePaused, QueueResumed
from kashvi.ports import PAUSED
from kashvi.queue import Queue
from kashvi.registry import Registry

from .launch import RedisServer, until_true


@pytest.fixture(params=["memory", "valkey"])
def driver(request: pytest.FixtureRequest) -> Iterator[Any]:
    """An empty queue."""
    if request.param == "memory":
        yield MemoryDriver()
        return
    server: RedisServer = request.getfixturevalue("valkey")
    server.client().flushall()
    found: Any = RedisDriver(server.url)
    found.url = server.url
    yield found


def again(driver: Any) -> Any:
    """Another process's handle."""
    return (
        MemoryDriver(store=driver.store)
        if isinstance(driver, MemoryDriver)
        else RedisDriver(f"{driver.url}?client_name=ours")
    )


def test_a_pause_holds_for_every_handle_and_after_a_restart(driver: Any) -> None:
    """Its time is the first one's; nothing is claimed, and what is due is promoted all the same."""
    other = again(driver)
    driver.push([b"a"])
    assert driver.paused_since() is None
    since = other.pause()
    assert other.pause() == since == driver.paused_since()
    answer = driver.exchange("w", 1, 30.0, [], 5)
    assert (answer.paused, answer.claimed, answer.ready) == (True, [], 1)
    assert driver.next_due() is PAUSED
    assert other.resume() >= since
    answer = driver.exchange("w", 2, 30.0, [], 5)
    assert (answer.paused, answer.claimed, driver.paused_since()) == (False, [b"a"], None)
    assert driver.next_due() is None


def is_ours_and_waits(client: bytes) -> bool:
    """Not of another test's worker, which may still be there."""
    return b"name=ours " in client and b"cmd=blmove" in client


def test_a_pause_ends_a_wait_that_is_under_way(driver: Any) -> None:
    """Else it would claim the next job. On a busy machine a wait may be over before the pause."""
    got: list[object] = []
    driver.exchange("w", 1, 30.0, [], 1)
    while float not in map(type, got):
        assert len(got) < 5
        driver.resume()
        waiting = threading.Thread(target=lambda: got.append(again(driver).wait("w", 20.0)))
        waiting.start()
        if isinstance(driver, MemoryDriver):
            until_true(lambda: driver.store.waiting == 1, 10)
        else:
            until_true(lambda: any(map(is_ours_and_waits, driver._server.call("CLIENT", "LIST").splitlines())), 10)
        driver.pause()
        waiting.join(10)


@dataclass
class Note:
    """Says that it ran."""

    n: int
    ran: ClassVar[list[int]] = []

    def handle(self) -> None:
        self.ran.append(self.n)


def test_workers_of_a_paused_queue_start_nothing_until_it_is_resumed(driver: Any) -> None:
    """They say so, once each, and go on by themselves."""
    told: list[Event] = []
    asked: list[object] = []
    ask = driver.next_due
    driver.next_due = lambda: asked.append(ask()) or asked[-1]
    queue = Queue(driver, registry=Registry())
    queue.register("jobs.Note", Note)
    queue.observe(told.append)
    Note.ran.clear()
    with queue.start_workers(2):
        queue.dispatch(Note(1))
        until_true(lambda: Note.ran == [1], 10)
        queue.pause()
        until_true(lambda: any(isinstance(one, QueuePaused) and one.worker for one in told), 10)
        queue.dispatch(Note(2))
        asked.clear()
        until_true(lambda: len(asked) >= 3, 10)
        assert (set(asked), Note.ran, queue.stats().ready) == ({PAUSED}, [1], 1)
        queue.resume()
        until_true(lambda: Note.ran == [1, 2], 10)
    for by_worker in (False, True):  # each in its order; which of the two threads tells first is not promised
        told_by = [one for one in told if isinstance(one, QueuePaused | QueueResumed) and bool(one.worker) == by_worker]
        assert [type(one) for one in told_by] == [QueuePaused, QueueResumed]


def test_a_key_of_another_type_is_an_error_and_changes_nothing(valkey: RedisServer) -> None:
    client = valkey.client()
    client.flushall()
    driver = RedisDriver(valkey.url)
    driver.push([b"a"])
    client.set("kashvi:queue:paused", "yes")
    before = sorted((key, client.dump(key)) for key in client.scan_iter())
    for call in (driver.pause, driver.paused_since, driver.next_due, lambda: driver.exchange("w", 1, 30.0, [], 1)):
        with pytest.raises(DriverError, match="WRONGTYPE"):
            call()
    assert sorted((key, client.dump(key)) for key in client.scan_iter()) == before


def test_a_driver_that_cannot_pause_is_named() -> None:
    class Plain:
        """A driver of before."""

        push = exchange = wait = next_due = wake = expired = unrecorded = recorded = stats = lambda self, *words: None

    plain: Any = Plain()
    for call in (Queue(plain).pause, Queue(plain).resume, Queue(plain).paused_since):
        with pytest.raises(InvalidSetting, match=r"pause\(\), resume\(\)"):
            call()
