"""Cancelling a job by its id, on Redis and in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fakeredis
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

import kashvi
from kashvi import cancelling, events
from kashvi.drivers.memory import MemoryDriver
from kashvi.drivers.redis import RedisDriver
from kashvi.errors import AttemptCancelled, InvalidSetting
from kashvi.jobs.envelope import seal
from kashvi.ports import FollowUp, Settlement
from kashvi.queue import Queue
from kashvi.registry import Registry
from kashvi.retries import GiveUp, Snooze


@pytest.fixture(params=["memory", "redis"])
def queue(request: pytest.FixtureRequest) -> Queue:
    driver: Any = MemoryDriver() if request.param == "memory" else RedisDriver(fakeredis.FakeRedis())
    return Queue(driver, registry=Registry())


@contextmanager
def told(queue: Queue, *kinds: type[events.Event]) -> Iterator[list[Any]]:
    seen: list[Any] = []
    end = queue.observe(lambda event: seen.append(event) if isinstance(event, kinds) else None)
    yield seen
    end()


def job_that(on: Queue, does: Callable[[], object], **settings: Any) -> Any:
    @on.job("jobs.Job", **settings)
    @dataclass
    class Job:
        n: int = 0

        def handle(self) -> None:
            does()

    return Job


def nothing() -> None:
    """A handler that does nothing."""


@pytest.mark.parametrize("name", ["default", "mail"])
@pytest.mark.parametrize("delay", [None, 60.0])
def test_a_job_is_cancelled_wherever_it_is(queue: Queue, name: str, delay: float | None) -> None:
    """And no other one: neither its neighbours, nor one that has its id in the payload."""
    job = job_that(queue, nothing)
    with told(queue, events.JobCancelled, events.CancelAsked) as seen:
        ids = [
            queue.dispatch(job(n), queue=name) if delay is None else queue.dispatch_after(job(n), delay, queue=name)
            for n in range(5)
        ]
        queue.driver.push([b'{"id":"other","type":"jobs.Job","payload":{"n":"%b"}}' % ids[2].encode()])
        assert queue.cancel(ids[2]) == "removed"
        assert queue.cancel(ids[2]) == "unknown"
    where = "ready" if delay is None else "delayed"
    assert [one.id for one in queue.jobs(where, queue=name) if one.id != "other"] == [*ids[:2], *ids[3:]]
    [event] = seen
    assert (event.job_id, event.type, event.queue, event.move) == (ids[2], "jobs.Job", name, "")


@pytest.mark.parametrize("raises", [ValueError("bad"), Snooze(5), GiveUp("never")])
def test_an_attempt_hears_that_its_job_is_cancelled(queue: Queue, raises: BaseException) -> None:
    """However it ends, no other attempt starts, and no failure is kept."""
    heard: list[object] = []

    def does() -> None:
        assert kashvi.current().cancelled is False
        job_id = kashvi.current().job_id
        assert queue.cancel(job_id) == "asked"
        [worker] = queue._workers
        worker.machine.told_marks(0, [job_id])  # type: ignore[union-attr]
        heard.append(kashvi.current().cancelled)
        with pytest.raises(AttemptCancelled, match=f"job {job_id} has been cancelled"):
            kashvi.current().check()
        raise raises

    job_id = queue.dispatch(job_that(queue, does)())
    with told(queue, events.JobCancelled, events.CancelAsked, events.JobFailed, events.RetryScheduled) as seen:
        queue.work(stop_when_empty=True)
    assert heard == [True]
    assert [type(one).__name__ for one in seen] == ["CancelAsked", "JobCancelled"]
    assert {one.job_id for one in seen} == {job_id}
    assert (queue.stats().ready, queue.stats().delayed, queue.stats().held, queue.stats().unrecorded) == (0, 0, 0, 0)
    assert queue.failed_jobs() == []


def test_a_cancelled_job_that_succeeds_is_done(queue: Queue) -> None:
    def does() -> None:
        assert queue.cancel(kashvi.current().job_id) == "asked"

    queue.dispatch(job_that(queue, does)())
    with told(queue, events.JobSucceeded, events.JobCancelled) as seen:
        queue.work(stop_when_empty=True)
    assert [type(one).__name__ for one in seen] == ["JobSucceeded"]


def test_a_job_that_a_worker_holds_and_has_not_started_does_not_start(queue: Queue) -> None:
    """It is handed back as soon as the worker has heard of it, and so removed."""
    ran: list[int] = []
    ids: list[str] = []

    def does() -> None:
        ran.append(len(ran))
        if len(ran) == 1:
            queue.cancel(ids[-1])

    job = job_that(queue, does)
    ids += queue.dispatch_many([job(n) for n in range(40)])
    queue.work(stop_when_empty=True)
    queue.work(stop_when_empty=True)
    assert len(ran) in (39, 40)  # it may have begun within a moment
    assert queue.stats().held == 0


def test_a_cancelled_job_gives_its_key_back(queue: Queue) -> None:
    """Ready, delayed, or settled by a worker as anything but done."""

    def does() -> None:
        queue.cancel(kashvi.current().job_id)
        raise ValueError("bad")

    job = job_that(queue, does, queue="mail", unique=True)
    for delay in (0.0, 60.0):
        first = queue.dispatch_after(job(), delay) if delay else queue.dispatch(job())
        assert queue.cancel(first) == "removed"
    last = queue.dispatch(job())
    assert not last.duplicate  # type: ignore[attr-defined]
    queue.work(queues="mail", stop_when_empty=True)
    assert not queue.dispatch(job()).duplicate  # type: ignore[attr-defined]


def test_a_duplicate_names_the_job_to_cancel(queue: Queue) -> None:
    job = job_that(queue, nothing, queue="mail", unique=True)
    queue.dispatch(job())
    assert queue.cancel(queue.dispatch(job())) == "removed"
    assert queue.stats().ready == 0


def test_a_cancelled_link_ends_its_chain_also_if_it_succeeds(queue: Queue) -> None:
    ran: list[str] = []

    def does() -> None:
        ran.append(kashvi.current().job_id)
        queue.cancel(kashvi.current().job_id)

    job = job_that(queue, does, queue="mail")
    ids = queue.chain(job(1), job(2), job(3))
    with told(queue, events.ChainCancelled) as seen:
        queue.work(queues="mail", stop_when_empty=True)
    assert ran == [ids[0]]
    assert [(one.job_id, one.next) for one in seen] == [(ids[0], ids[1])]
    assert queue.cancel(ids[1]) == "unknown"


@pytest.mark.parametrize("wrong", ["", 7, None, b"x", "x" * 257, ["a"], "\ud800"])
def test_what_is_no_id_is_refused(queue: Queue, wrong: Any) -> None:
    with pytest.raises(InvalidSetting, match="the job's id"):
        queue.cancel(wrong)


@pytest.mark.parametrize("odd", ["*", "a b", "%s", "é\u2028", "x" * 256, "[a-z]*", "1/<a>", 'a"\\b', "é", "\0"])
@pytest.mark.parametrize("escape", ["no", "ascii", "more"])
def test_an_odd_id_is_an_id(queue: Queue, odd: str, escape: str) -> None:
    """Of another program, whose JSON may escape it."""
    quoted = json.dumps(odd, ensure_ascii=escape != "no")
    if escape == "more":
        quoted = quoted.replace("/", "\\/").replace("<", "\\u003c").replace(" ", "\\u0020")
    queue.driver.push([b'{"id":%b,"type":"jobs.Job","payload":{}}' % quoted.encode()])
    queue.dispatch(job_that(queue, nothing)())
    assert queue.cancel(odd) == "removed"
    assert queue.cancel(odd) == "unknown"
    assert queue.stats().ready == 1


def test_bytes_that_are_no_envelope_are_left_alone(queue: Queue) -> None:
    queue.driver.push([b"no envelope with the id 123", b'{"id":"123"}', b'{"id":123,"type":"a","payload":{}}'])
    assert queue.cancel("123") == "unknown"
    assert queue.stats().ready == 3


def test_a_driver_without_cancels_is_refused() -> None:
    class Plain:
        def push(self, envelopes: Any, delay_s: float = 0.0) -> None: ...

    with pytest.raises(InvalidSetting, match="one that can cancel jobs"):
        cancelling.cancel(Plain(), "1")  # type: ignore[arg-type]


def test_a_mark_is_kept_for_90_days() -> None:
    now = [1_000.0]
    client = fakeredis.FakeRedis()
    driver = RedisDriver(client, server_now=lambda: now[0])
    driver.mark("old")
    now[0] += 90 * 86400 + 1
    driver.mark("new")
    assert client.zrange("kashvi:queue:cancelled", 0, -1) == [b"new"]


@pytest.mark.parametrize("kind", ["memory", "redis"])
def test_each_mark_is_newer_than_all(kind: str) -> None:
    """Also on a clock that stands or was set back: else workers would not hear of it."""
    now = [1_000.0]
    clock: Any = SimpleNamespace(now=lambda: now[0])
    driver: Any = RedisDriver(fakeredis.FakeRedis(), server_now=clock.now)
    if kind == "memory":
        driver = MemoryDriver()
        driver.store.now = clock.now
    assert driver.mark("a") == 1_000.0
    seen = []
    for back_s in (0.0, 0.0, 100.0):
        now[0] -= back_s
        driver.mark("a" if back_s else "b")
        seen.append(driver.exchange("w", len(seen) + 1, 30.0, [], 0).marked_at)
    assert seen == sorted(set(seen))


def test_a_job_of_a_long_list_of_a_worker_is_found_while_others_go_back() -> None:
    """Jobs that go back leave the list at the end that is read first."""
    client = fakeredis.FakeRedis()
    driver = RedisDriver(client)
    jobs = [seal(f"job-{n:03}", b'"jobs.Job"', b'"%b"' % (b"x" * 100_000)) for n in range(100)]
    driver.push(jobs)
    driver.exchange("w", 1, 30.0, [], 50)
    driver.exchange("w", 2, 30.0, [], 50)
    held = "kashvi:queue:held:w"
    assert client.llen(held) > 60
    found = driver.search(b"job-001", "running")
    real = driver._server.run

    def run(*call: Any) -> Any:
        answer = real(*call)
        while client.llen(held) > 2:
            client.lpop(held)
        return answer

    driver._server.run = run  # type: ignore[method-assign]
    assert list(found) == [jobs[1]]


@pytest.mark.parametrize(("then_claimed", "outcome"), [(False, "removed"), (True, "asked")])
def test_a_job_that_moves_on_during_the_search_is_found(then_claimed: bool, outcome: str) -> None:
    """From delayed to ready, or to a worker, after its place was searched."""
    moved: list[bool] = []

    class Moving(MemoryDriver):
        def take_out(self, *job: Any) -> float | None:
            if not moved:
                moved.append(True)
                self.store.promote(self.store.now() + 60)
                if then_claimed:
                    self.wait("w", 0.0)
            return super().take_out(*job)

    driver = Moving()
    driver.push([seal("1", b'"jobs.Job"', b"{}")], 0.001)
    assert (cancelling.cancel(driver, "1").outcome, moved) == (outcome, [True])


def test_two_cancels_at_once_of_no_job_both_find_none() -> None:
    """Neither takes the other's mark off, and so for a settlement that had removed the job."""

    class Overtaken(MemoryDriver):
        def unmark(self, job_id: str, at: float) -> bool:
            if not answers:
                answers.append("")
                later = self.mark(job_id)
                answers[0] = str(super().unmark(job_id, at))
                answers.append(str(super().unmark(job_id, later)))
                return answers[0] == "True"
            return super().unmark(job_id, at)

    answers: list[str] = []
    driver = Overtaken()
    assert cancelling.cancel(driver, "1").outcome == "unknown"
    assert answers == ["True", "True"]
    assert driver.marked(["1"]) == []


def test_a_job_in_an_outbox_is_unknown_until_the_relay_has_pushed_it(tmp_path: Path) -> None:
    """Then it is on its queue, and is removed."""
    queue = Queue(MemoryDriver(), registry=Registry())
    job = job_that(queue, nothing)
    engine = sa.create_engine(f"sqlite:///{tmp_path}/app.db")
    queue.outbox(engine)
    with Session(engine) as session:
        job_id = queue.dispatch(job(), session=session)
        session.commit()
    assert queue.cancel(job_id) == "unknown"
    assert queue.relays()[0].flush() == 1
    assert queue.cancel(job_id) == "removed"
    engine.dispose()


def test_what_is_removed_gives_no_other_jobs_key_back_and_leaves_no_mark(queue: Queue) -> None:
    """Its key was given back by hand, and another job took it: by a cancel, and when a queue is cleared."""
    driver: Any = queue.driver
    for at, (envelope, name) in enumerate([(b"a", "mail"), (b"c", "bulk")]):
        first, second, key = f"{at}.1", f"{at}.2", f"k{at}"
        driver.push_unique([envelope], 0.0, [name], [(key, first)])
        assert driver.give_back(key, first)
        driver.push_unique([b"another"], 0.0, ["others"], [(key, second)])
        driver.mark(first)
        if name == "mail":
            assert driver.take_out(first, "ready", name, envelope, (key, first)) is not None
            assert driver.marked([first]) == []
        else:
            assert driver.take_out_many("ready", name, [envelope], [(key, first)])[1] == [0]
        assert driver.holder_of(key) == second


def test_a_job_that_is_sent_back_makes_its_queue_known_again() -> None:
    """The server may have forgotten all of a queue since the job failed: a cancel must look there."""
    driver = RedisDriver(fakeredis.FakeRedis())
    assert driver.push_retried("failure 1", seal("7", b'"jobs.Job"', b"{}"), "mail", ("", "")) is True
    assert "mail" in driver.queue_names()
    assert cancelling.cancel(driver, "7").outcome == "removed"


def test_follow_ups_of_a_cancelled_job_that_is_done_go_out_if_none_is_a_link(queue: Queue) -> None:
    """Only the next link of a chain is left out."""
    driver: Any = queue.driver
    driver.push([b"a"])
    driver.exchange("w", 1, 30.0, [], 1)
    driver.mark("1")
    done = Settlement("done", "w", old=b"a", follow_ups=[FollowUp(b"one"), FollowUp(b"two")], job_id="1")
    assert driver.exchange("w", 2, 30.0, [done], 0).refused == ()
    assert driver.exchange("w", 3, 30.0, [], 9).claimed == [b"one", b"two"]
