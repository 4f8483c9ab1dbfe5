"""Follow-ups, where the clauses' examples do not reach: threads, tasks, forks, stops, hooks, traces."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import fakeredis
import pytest
from kashvi_spec.judging import judge
from kashvi_spec.predicates.every import every_predicate

from kashvi import current
from kashvi.drivers.redis import RedisDriver
from kashvi.errors import AttemptOver, NoAttempt, TooManyFollowUps
from kashvi.events import Event, FollowUpKept, JobDispatched, JobFailed, JobSucceeded, SettleRefused
from kashvi.jobs.envelope import seal
from kashvi.ports import Stats
from kashvi.queue import Queue
from kashvi.registry import Registry
from kashvi.worker import attempt, running, settle
from kashvi.worker.hooks import Attempt
from kashvi.worker.running import FollowUps, Timekeeper
from kashvi.worker.settle import Delivery, Kept

ran: list[str] = []


@dataclass
class Child:
    name: str

    def handle(self) -> None:
        ran.append(self.name)


@dataclass
class Does:
    what: str
    path: str = ""

    def handle(self) -> None:
        ACTS[self.what](self)


ACTS: dict[str, Callable[[Does], None]] = {}


def act(name: str) -> Callable[[Callable[[Does], None]], Callable[[Does], None]]:
    def note(does: Callable[[Does], None]) -> Callable[[Does], None]:
        ACTS[name] = does
        return does

    return note


@dataclass
class Gathers:
    async def handle(self) -> None:
        async def one(name: str) -> None:
            current().dispatch(Child(name))

        await asyncio.gather(one("task 1"), one("task 2"))
        await asyncio.to_thread(lambda: current().dispatch(Child("thread")))


@pytest.fixture
def queue() -> Queue:
    ran.clear()
    queue = Queue(registry=Registry(), max_attempts=1)
    for job_class in (Child, Does, Gathers):
        queue.register(f"jobs.{job_class.__name__}", job_class)
    return queue


def test_tasks_and_threads_of_the_attempt_may_dispatch(queue: Queue) -> None:
    """Each has a copy of its context."""
    queue.dispatch(Gathers())
    queue.work(stop_when_empty=True)
    assert ran == ["task 1", "task 2", "thread"]
    assert queue.failed_jobs() == []


def test_a_thread_without_the_context_may_dispatch_by_the_attempt_that_it_was_given(queue: Queue) -> None:
    """``current()`` does not answer there."""
    raised: list[BaseException] = []

    @act("hands its attempt to a thread")
    def _(job: Does) -> None:
        attempt = current()

        def elsewhere() -> None:
            attempt.dispatch(Child("elsewhere"))
            try:
                current()
            except NoAttempt as error:
                raised.append(error)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()

    queue.dispatch(Does("hands its attempt to a thread"))
    queue.work(stop_when_empty=True)
    assert "no attempt runs here" in str(raised[0])
    assert ran == ["elsewhere"]


def test_a_thread_that_outlives_its_attempt_is_told_that_it_is_over(queue: Queue) -> None:
    kept: list[contextvars.Context] = []

    @act("leaves its context")
    def _(job: Does) -> None:
        current().dispatch(Child("in time"))
        kept.append(contextvars.copy_context())

    job_id = queue.dispatch(Does("leaves its context"))
    queue.work(stop_when_empty=True)
    with pytest.raises(AttemptOver, match=f"this attempt at job {job_id} is over"):
        kept[0].run(lambda: current().dispatch(Child("late")))
    queue.work(stop_when_empty=True)
    assert ran == ["in time"]


def test_what_was_taken_is_sent_though_threads_dispatch_while_the_attempt_ends(queue: Queue) -> None:
    """Each of them is told that it is over, or its job is sent."""
    kept: list[str] = []
    threads: list[threading.Thread] = []

    @act("ends while threads dispatch")
    def _(job: Does) -> None:
        attempt, begun = current(), threading.Barrier(4)

        def dispatches() -> None:
            begun.wait(20)
            with contextlib.suppress(AttemptOver, TooManyFollowUps):
                while True:
                    kept.append(attempt.dispatch(Child("one of many")))

        new = [threading.Thread(target=dispatches) for _ in range(3)]
        for thread in new:
            thread.start()
        threads.extend(new)
        begun.wait(20)

    sent: set[str] = set()
    queue.observe(lambda event: sent.add(event.job_id) if isinstance(event, JobDispatched) and event.parent else None)
    for _ in range(30):
        queue.dispatch(Does("ends while threads dispatch"))
        queue.work(stop_when_empty=True)
        for thread in threads:
            thread.join(20)
    assert queue.failed_jobs() == []
    assert set(kept) == sent


LOOKS: list[str] = []


def noted(name: str) -> property:
    def get(self: Watched) -> object:
        LOOKS.append(f"reads {name}")
        return getattr(self, f"_{name}")

    def put(self: Watched, value: object) -> None:
        LOOKS.append(f"sets {name}")
        setattr(self, f"_{name}", value)

    return property(get, put)


class Watched:
    """A running attempt that notes in which order its list and its end are looked at."""

    def __init__(self, delivery: Delivery, timekeeper: Timekeeper, follow_ups: FollowUps) -> None:
        self.delivery, self.timekeeper, self.follow_ups = delivery, timekeeper, follow_ups
        self.size = 0
        self._kept: list[Kept] | None = None
        self._over = False

    kept, over = noted("kept"), noted("over")

    def taken(self) -> tuple[Kept, ...]:
        return self.follow_ups.taken(self)  # type: ignore[arg-type]


def test_no_follow_up_falls_between_the_end_and_the_dispatch(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end is noted, then the list is looked at; a dispatch makes the list, then looks at the end."""
    monkeypatch.setattr(attempt, "Running", Watched)

    @act("does nothing")
    def _(job: Does) -> None: ...

    @act("dispatches a child")
    def _(job: Does) -> None:
        current().dispatch(Child("one"))

    LOOKS.clear()
    queue.dispatch(Does("does nothing"))
    queue.work(stop_when_empty=True)
    assert LOOKS == ["sets over", "reads kept"]
    LOOKS.clear()
    queue.dispatch(Does("dispatches a child"))
    queue.work(stop_when_empty=True)
    assert LOOKS.index("sets kept") < LOOKS.index("reads over")
    assert ran == ["one"]


def test_a_forked_child_has_no_follow_ups(queue: Queue, tmp_path: Path) -> None:
    """Its parent has the job."""

    @act("forks")
    def _(job: Does) -> None:
        if child := os.fork():
            os.waitpid(child, 0)
            current().dispatch(Child("of the parent"))
            return
        try:
            current().dispatch(Child("of the child"))
        except AttemptOver as error:
            Path(job.path).write_text(str(error))
        os._exit(0)

    queue.dispatch(Does("forks", str(tmp_path / "told")))
    queue.work(stop_when_empty=True)
    assert "this is a child process" in (tmp_path / "told").read_text()
    assert ran == ["of the parent"]


def test_a_stop_sends_the_follow_ups_of_what_it_lets_end(queue: Queue) -> None:
    told_to_stop = threading.Event()

    @act("ends after the stop")
    def _(job: Does) -> None:
        current().dispatch(Child("after the stop"))
        workers.request_stop()
        told_to_stop.set()

    workers = queue.start_workers(1)
    queue.dispatch(Does("ends after the stop"))
    assert told_to_stop.wait(20)
    assert workers.join(20)
    assert (queue.stats().ready, queue.stats().held, ran) == (1, 0, [])


def test_a_hook_that_fails_on_the_way_out_drops_the_follow_ups(queue: Queue) -> None:
    """Its commit has failed: what the handler wrote is not there."""

    @queue.around
    @contextmanager
    def commits(attempt: Attempt) -> Iterator[None]:
        yield
        attempt.dispatch(Child("by the hook"))
        raise RuntimeError("no commit")

    @act("dispatches")
    def _(job: Does) -> None:
        current().dispatch(Child("by the handler"))

    queue.dispatch(Does("dispatches"))
    queue.work(stop_when_empty=True)
    assert ran == []
    assert [failed.error for failed in queue.failed_jobs()] == ["RuntimeError: no commit"]


def test_a_hook_may_add_follow_ups(queue: Queue) -> None:
    @queue.around
    @contextmanager
    def audits(attempt: Attempt) -> Iterator[None]:
        yield
        if attempt.type != "jobs.Child":
            attempt.dispatch(Child("audit"))

    @act("nothing")
    def _(job: Does) -> None: ...

    queue.dispatch(Does("nothing"))
    queue.work(stop_when_empty=True)
    assert ran == ["audit"]


def test_an_interrupt_hands_back_and_sends_nothing(queue: Queue) -> None:
    @act("is interrupted")
    def _(job: Does) -> None:
        current().dispatch(Child("no"))
        raise KeyboardInterrupt

    queue.dispatch(Does("is interrupted"))
    with pytest.raises(KeyboardInterrupt):
        queue.work(stop_when_empty=True)
    assert (queue.stats().ready, queue.stats().held) == (1, 0)


def test_the_events_tell_whose_follow_up_a_job_is(queue: Queue) -> None:
    @act("dispatches one")
    def _(job: Does) -> None:
        ids.append(current().dispatch(Child("one")))

    ids: list[str] = []
    seen: list[object] = []
    queue.observe(seen.append)
    parent = queue.dispatch(Does("dispatches one"))
    queue.work(stop_when_empty=True)
    kept = [event for event in seen if isinstance(event, FollowUpKept)]
    sent = [event for event in seen if isinstance(event, JobDispatched) and event.parent]
    assert [(one.job_id, one.parent, one.attempt) for one in kept] == [(ids[0], parent, 1)]
    assert [(one.job_id, one.parent, one.due) for one in sent] == [(ids[0], parent, None)]
    assert not any(isinstance(event, JobFailed) for event in seen)


def test_the_bytes_of_several_calls_add_up(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """One request carries them all, however they were dispatched."""
    monkeypatch.setattr(running, "BYTES_MAX", 1000)

    @act("dispatches three")
    def dispatch_three(does: Does) -> None:
        for n in range(3):
            current().dispatch(Child(f"{n}" * 350))

    queue.dispatch(Does("dispatches three"))
    queue.work(stop_when_empty=True)
    assert [one.error.partition(":")[0] for one in queue.failed_jobs()] == ["TooManyFollowUps"]
    assert ran == []


def test_the_delay_of_a_follow_up_is_counted_from_the_end_of_its_attempt_however_late_it_is_sent() -> None:
    """Its server may have been away for a while."""
    kept = tuple(Kept("", "jobs.Child", b"{}", delay_s) for delay_s in (0.0, 2.0, 5.0))
    parent = settle.delivery(seal("parent", b'"jobs.Does"', b"{}"), "me", str, 90.0)
    sent = settle.succeeded(parent, 100.0, 1.0, kept).sent(103.0)
    assert [one.in_s for one in sent.follow_ups] == [0.0, 0.0, 2.0]


@pytest.mark.parametrize("lost", [0, 1])
def test_a_suspect_whose_follow_up_is_refused_is_settled_at_once(lost: int) -> None:
    """As any other job: it has failed, by all that its events tell, and the worker holds it no longer."""
    client = fakeredis.FakeRedis()
    queue = Queue(RedisDriver(client), registry=Registry(), max_attempts=1)
    queue.register("jobs.Does", Does)
    queue.register("jobs.Child", Child, queue="mail")

    @act("dispatches one")
    def _(job: Does) -> None:
        current().dispatch(Child("one"))

    seen: list[Event] = []
    queue.observe(seen.append)
    client.set("kashvi:queue:mail:delayed", "of another program")
    job_id = queue.dispatch(Does("dispatches one"))
    if lost:
        client.lset("kashvi:queue:jobs", 0, b'%b,"lost":1}' % client.lindex("kashvi:queue:jobs", 0)[:-1])
    queue.work(stop_when_empty=True, max_jobs=2)
    [failed] = queue.failed_jobs()
    assert (failed.id, failed.attempts) == (job_id, 1)
    assert "kashvi:queue:mail:delayed no sorted set" in failed.error
    client.delete("kashvi:queue:mail:delayed")
    assert queue.stats() == Stats(0, 0, 0, 1, 0)
    assert [
        one for one in judge(seen, every_predicate(max_attempts=1)) if one.predicate != "recorded iff exhausted"
    ] == []
    assert not any(isinstance(event, JobSucceeded | SettleRefused) for event in seen)
