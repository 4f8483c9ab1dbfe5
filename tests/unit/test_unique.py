"""Unique jobs: no two jobs with one key are on their queues, and a key is there as long as its job."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import fakeredis
import pytest

from kashvi import current, dispatching, events
from kashvi.drivers.memory import MemoryDriver
from kashvi.drivers.redis import RedisDriver
from kashvi.errors import InvalidSetting
from kashvi.jobs.envelope import lock_in, read
from kashvi.ports import Settlement, Shares
from kashvi.queues import Queue
from kashvi.registry import Registry
from kashvi.retries import Retry, Snooze
from kashvi.testing import recorded
from kashvi.unique import Dispatched

ran: list[Any] = []


@dataclass
class Digest:
    user: int
    mood: str = "well"

    def handle(self) -> None:
        ran.append(self.user)
        if self.mood == "broken":
            raise ValueError(self.mood)
        if self.mood == "sleepy":
            raise Snooze(60)
        if self.mood == "again":
            current().dispatch(Digest(self.user, "well"))


@pytest.fixture(params=["memory", "redis"])
def queue(request: pytest.FixtureRequest) -> Queue:
    ran.clear()
    driver = MemoryDriver() if request.param == "memory" else RedisDriver(fakeredis.FakeRedis())
    queue = Queue(driver, registry=Registry())
    queue.register("jobs.Digest", Digest, queue="mail", unique=lambda job: job.user, retry=Retry(attempts=2))
    return queue


def keys(queue: Queue) -> dict[str, str]:
    """The keys that are taken, each with the id of the job that has it."""
    if isinstance(queue.driver, MemoryDriver):
        return dict(queue.driver.store.unique)
    found: Any = queue.driver._server.call("HGETALL", "kashvi:queue:unique")
    found = found if isinstance(found, dict) else dict(zip(found[::2], found[1::2], strict=True))
    return {key.decode(): job_id.decode() for key, job_id in found.items()}


@contextmanager
def told(queue: Queue, *kinds: type[events.Event]) -> Iterator[list[Any]]:
    seen: list[Any] = []
    end = queue.observe(lambda event: seen.append(event) if isinstance(event, kinds) else None)
    yield seen
    end()


def work(queue: Queue) -> None:
    queue.work(queues="mail", stop_when_empty=True)


def test_a_duplicate_is_not_added_and_the_dispatch_returns_the_id_of_the_job_that_has_the_key(queue: Queue) -> None:
    with told(queue, events.JobDispatched, events.JobDuplicate) as seen:
        first = queue.dispatch(Digest(7))
        second = queue.dispatch(Digest(7, "another payload"))
        other = queue.dispatch(Digest(8))
    assert isinstance(first, Dispatched)
    assert isinstance(second, Dispatched)
    assert (second, first.duplicate, second.duplicate) == (first, False, True)
    assert keys(queue) == {"jobs.Digest:7": first, "jobs.Digest:8": other}
    assert [type(event).__name__ for event in seen] == ["JobDispatched", "JobDuplicate", "JobDispatched"]
    assert (seen[1].holder, seen[1].queue) == (first, "mail")
    assert seen[1].job_id not in (first, other)
    work(queue)
    assert ran == [7, 8]


def test_of_equal_keys_in_one_dispatch_many_the_first_is_added(queue: Queue) -> None:
    first, second, other = queue.dispatch_many([Digest(7), Digest(7, "x"), Digest(8)])
    assert second == first != other
    assert queue.stats().ready == 2


def test_after_the_end_of_the_job_its_key_is_free(queue: Queue) -> None:
    queue.dispatch(Digest(7))
    work(queue)
    assert keys(queue) == {}
    assert not queue.dispatch(Digest(7)).duplicate  # type: ignore[attr-defined]


def test_a_job_that_waits_for_its_next_attempt_has_its_key_until_it_has_failed(queue: Queue) -> None:
    first = queue.dispatch(Digest(7, "broken"))
    work(queue)
    assert keys(queue) == {"jobs.Digest:7": first}
    assert queue.dispatch(Digest(7)) == first
    queue.work(queues="mail", drain=True)
    assert (ran, keys(queue)) == ([7, 7], {})


def test_a_snoozed_and_a_delayed_job_have_their_keys(queue: Queue) -> None:
    first, later = queue.dispatch(Digest(7, "sleepy")), queue.dispatch_after(Digest(8), 60)
    work(queue)
    assert keys(queue) == {"jobs.Digest:7": first, "jobs.Digest:8": later}
    assert queue.dispatch_after(Digest(8), 1) == later


def test_a_job_that_dispatches_itself_goes_on(queue: Queue) -> None:
    """Its key is free when its follow-up takes it."""
    queue.dispatch(Digest(7, "again"))
    work(queue)
    assert (ran, keys(queue)) == ([7, 7], {})


def test_a_follow_up_whose_key_is_taken_is_told_of_as_a_duplicate(queue: Queue) -> None:
    @dataclass
    class Parent:
        def handle(self) -> None:
            current().dispatch_many([Digest(7), Digest(8)])

    queue.register("jobs.Parent", Parent, queue="mail")
    held = queue.dispatch_after(Digest(7), 60)
    with told(queue, events.JobDispatched, events.JobDuplicate) as seen:
        queue.dispatch(Parent())
        work(queue)
    assert [type(event).__name__ for event in seen] == ["JobDispatched", "JobDuplicate", "JobDispatched"]
    assert (ran, keys(queue)) == ([8], {"jobs.Digest:7": held})


def test_a_job_that_can_not_be_run_gives_its_key_back(queue: Queue) -> None:
    lost = Queue(queue.driver, registry=Registry(), unknown_for_s=0.0)
    lost.register("jobs.Other", Digest)
    queue.dispatch(Digest(7))
    lost.work(queues="mail", stop_when_empty=True)
    assert [failed.id for failed in lost.failed_jobs()] != []
    assert keys(queue) == {}


def test_by_type_and_payload_the_key_is_a_hash_that_every_process_makes_alike() -> None:
    @dataclass
    class Tagged:
        tags: set[str]

        def handle(self) -> None:
            """Nothing."""

    registry = Registry()
    registry.register("jobs.Tagged", Tagged, unique=True)
    found = {registry.of(Tagged(set(tags))).lock(Tagged(set(tags))) for tags in ("abc", "cab")}
    assert len(found) == 1
    assert len(found.pop()) == len("jobs.Tagged:") + 64


def test_a_unique_type_needs_a_named_queue(queue: Queue) -> None:
    with pytest.raises(InvalidSetting, match=r"jobs\.Digest, which is unique"):
        queue.dispatch(Digest(7), queue="default")
    assert queue.stats().ready == 0


@pytest.mark.parametrize("found", [None, 1.5, True, "", b"x"])
def test_what_no_key_can_be_made_of_is_refused(queue: Queue, found: Any) -> None:
    queue.register("jobs.Odd", type("Odd", (Digest,), {}), queue="mail", unique=lambda job: found)
    with pytest.raises(InvalidSetting, match="a text or a whole number"):
        queue.dispatch(queue.registry.named("jobs.Odd").job_class(1))
    with pytest.raises(InvalidSetting, match="True, False or a function"):
        queue.register("jobs.Digest2", type("Digest2", (Digest,), {}), unique="until done")  # type: ignore[arg-type]


@pytest.mark.parametrize("field", [b"7", b"null", b'["x"]', b"{}"])
def test_a_key_of_the_wrong_type_in_an_envelope_is_none(field: bytes) -> None:
    assert lock_in(read(b'{"id":"1","type":"t","payload":{},"unique":%b}' % field)) == ""


def test_a_failed_job_is_not_sent_back_while_another_has_its_key() -> None:
    """And it may be sent later."""
    driver = RedisDriver(fakeredis.FakeRedis())
    driver.push_unique([b"a"], 0.0, ["mail"], [("k", "1")])
    assert driver.push_retried("failure 1", b"b", "mail", ("k", "2")) == "1"
    driver.exchange("w", 1, 30.0, [], Shares(1, (("mail", 1),)))
    driver.exchange("w", 2, 30.0, [Settlement("done", "w", "held", b"a", lock=("k", "1"))], 0)
    assert [driver.push_retried("failure 1", b"b", "mail", ("k", "2")) for _ in range(2)] == [True, False]
    assert driver.push_unique([b"c"], 0.0, ["mail"], [("k", "3")])[2] == ["2"]


def test_a_key_of_many_letters_travels_as_a_hash() -> None:
    registry = Registry()
    registry.register("jobs.Digest", Digest, unique=lambda job: "x" * 129)
    assert len(registry.of(Digest(1)).lock(Digest(1))) == len("jobs.Digest:") + 64


def test_one_command_to_the_server_has_no_more_arguments_than_it_takes(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A unique job is four, another one of a named queue is two."""
    monkeypatch.setattr(dispatching, "MANY_MAX", 8)
    queue.register("jobs.Plain", type("Plain", (Digest,), {}), queue="mail")
    plain = queue.registry.named("jobs.Plain").job_class
    queue.dispatch_many([plain(n) for n in range(4)])
    queue.dispatch_many([Digest(1), plain(5)])
    for jobs, most in (([plain(n) for n in range(5)], 4), ([Digest(2), plain(6), plain(7)], 2)):
        with pytest.raises(InvalidSetting, match=f"{most} or less"):
            queue.dispatch_many(jobs)
    assert queue.stats().ready == 6


def test_a_recorded_dispatch_of_a_unique_job_answers_as_a_real_one(queue: Queue) -> None:
    with recorded() as dispatched:
        assert queue.dispatch(Digest(7)).duplicate is False  # type: ignore[attr-defined]
    assert dispatched(Digest) == [Digest(7)]
