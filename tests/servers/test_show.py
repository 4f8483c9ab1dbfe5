"""What drivers show of their jobs: on real servers and in memory."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from kashvi.drivers.memory import MemoryDriver
from kashvi.drivers.pages import PAGE_MAX
from kashvi.drivers.redis import RedisDriver
from kashvi.errors import InvalidSetting
from kashvi.jobs.envelope import seal
from kashvi.ports import READ_MAX_BYTES, WHERE
from kashvi.queue import Queue

from .launch import RedisServer

MADE = "019b5e00-0000-7000-8000-000000000000"


def job(name: str, size: int = 0) -> bytes:
    return seal(name, b'"t"', b'"%s"' % (b"." * size))


def names(driver: Any, where: Any, limit: int = 100) -> list[str]:
    return [one.id for one in Queue(driver).jobs(where, limit=limit)]


def test_each_job_is_shown_in_its_place_and_order(driver: Any) -> None:
    """Also a thousand, and those of several workers; nothing is changed by it."""
    driver.push([job(f"{n:04d}") for n in range(3 * PAGE_MAX)])
    for n in range(3 * PAGE_MAX, 0, -1):
        driver.push([job(f"late {n:04d}")], 1000.0 + n)
    driver.exchange("v", 1, 30.0, [], 20)
    driver.exchange("w", 1, 30.0, [], 40)
    before = driver.stats()
    assert names(driver, "ready", 10_000) == [f"{n:04d}" for n in range(60, 3 * PAGE_MAX)]
    assert names(driver, "ready", 3) == ["0060", "0061", "0062"]
    assert names(driver, "delayed", 10_000) == [f"late {n:04d}" for n in range(1, 3 * PAGE_MAX + 1)]
    assert names(driver, "running") == [f"{n:04d}" for n in range(60)]
    assert names(driver, "running", 25) == [f"{n:04d}" for n in range(25)]
    assert [len(names(driver, place, 2**70)) for place in WHERE] == [3 * PAGE_MAX - 60, 3 * PAGE_MAX, 60]
    assert driver.stats() == before


def test_a_job_says_when_it_is_due_who_has_it_and_what_became_of_it(driver: Any) -> None:
    due = driver.push([job(MADE)], 60.0)
    driver.push([b'{"id":"a","type":"t","payload":[1],"attempts":2,"lost":1}'])
    driver.exchange("w", 1, 30.0, [], 1)
    queue = Queue(driver)
    (late,), (mine,) = queue.jobs("delayed"), queue.jobs("running")
    assert late.due is not None
    assert abs(late.due.timestamp() - due) < 1e-5
    assert late.dispatched_at == datetime(2025, 12, 27, 4, 10, 16, 960000, UTC)
    assert (mine.worker, mine.attempts, mine.lost, mine.payload, mine.dispatched_at) == ("w", 2, 1, "[1]", None)


def test_what_other_programs_left_is_shown_as_it_is(driver: Any) -> None:
    """Bytes of any kind, a due time that is none, and a job without an id."""
    driver.push([b"\xff\x00", b'{"type":"t","payload":1}', b'{"id":"a","type":"t"'])
    driver.push([job("never")], float("inf")) if isinstance(driver, MemoryDriver) else driver._server.call(
        "ZADD", driver._delayed, "inf", job("never")
    )
    queue = Queue(driver)
    assert [(one.id, one.type, one.payload) for one in queue.jobs()] == [
        ("", "", "base64:/wA="),
        ("", "t", "1"),
        ("", "", '{"id":"a","type":"t"'),
    ]
    assert [(one.id, one.due) for one in queue.jobs("delayed")] == [("never", None)]


def test_large_jobs_are_read_a_few_at_a_time(valkey: RedisServer) -> None:
    """No read is much larger than a page of them."""
    valkey.client().flushall()
    driver = RedisDriver(valkey.url)
    driver.push([job(f"{n:03d}", 1024 * 1024) for n in range(24)])
    reads: list[int] = []
    real = driver._server.call

    def call(*words: Any) -> Any:
        found = real(*words)
        reads.append(sum(map(len, found)))
        return found

    driver._server.call = call  # type: ignore[method-assign]
    assert names(driver, "ready") == [f"{n:03d}" for n in range(24)]
    assert max(reads[1:]) <= READ_MAX_BYTES + 1024 * 1024


@pytest.mark.parametrize("limit", [0, -1, 2.5, "many"])
def test_a_limit_that_is_none_is_refused(limit: Any) -> None:
    with pytest.raises(InvalidSetting, match="limit"):
        Queue().jobs(limit=limit)


def test_a_place_that_is_none_and_a_driver_that_shows_nothing_are_refused() -> None:
    """With what is possible."""
    anything: Any = "gone"
    with pytest.raises(InvalidSetting, match=", ".join(WHERE)):
        Queue().jobs(anything)

    class Plain:
        """A driver of before."""

        push = exchange = wait = next_due = wake = expired = unrecorded = recorded = stats = lambda self, *words: None

    plain: Any = Plain()
    with pytest.raises(InvalidSetting, match=r"show\(where, limit\)"):
        Queue(plain).jobs()
