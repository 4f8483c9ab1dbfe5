"""Named queues: where jobs go, which worker starts them, and in which order."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest

from kashvi import current
from kashvi.drivers.memory import MemoryDriver
from kashvi.errors import InvalidSetting
from kashvi.jobs.envelope import queue_in, read
from kashvi.names import RESERVED, Served, queue_name, served
from kashvi.ports import Settlement, Shares
from kashvi.queues import Queue
from kashvi.registry import Registry
from kashvi.retries import Retry
from kashvi.worker.machine import Machine, shares
from kashvi.worker.machine.steps import Limits

ran: list[tuple[int, str]] = []


@dataclass
class Note:
    n: int

    def handle(self) -> None:
        ran.append((self.n, current().queue))


@dataclass
class Broken:
    n: int

    def handle(self) -> None:
        ran.append((self.n, current().queue))
        raise ValueError("broken")


@dataclass
class Parent:
    n: int

    def handle(self) -> None:
        current().dispatch(Note(self.n))
        current().dispatch_many([Note(self.n + 1)], queue="mail")


@pytest.fixture
def queue() -> Queue:
    ran.clear()
    queue = Queue(MemoryDriver(), registry=Registry())
    queue.register("jobs.Note", Note)
    queue.register("jobs.Mail", type("Mail", (Note,), {}), queue="mail")
    queue.register("jobs.Broken", Broken, queue="mail", retry=Retry(attempts=1))
    queue.register("jobs.Parent", Parent)
    return queue


def mail(queue: Queue, n: int) -> Any:
    return queue.registry.named("jobs.Mail").job_class(n)


def test_a_job_goes_to_the_queue_of_its_dispatch_else_of_its_type_else_to_the_default_one(queue: Queue) -> None:
    queue.dispatch(Note(1))
    queue.dispatch(mail(queue, 2))
    queue.dispatch(mail(queue, 3), queue="default")
    queue.dispatch_many([Note(4), mail(queue, 5)], queue="slow")
    queue.dispatch_many([Note(6), mail(queue, 7)])
    for names, expected in (("slow", [4, 5]), ("mail", [2, 7]), ("default", [1, 3, 6])):
        ran.clear()
        queue.work(queues=names, stop_when_empty=True)
        assert ran == [(n, names) for n in expected]


def test_a_worker_starts_only_jobs_of_the_queues_that_it_serves(queue: Queue) -> None:
    queue.dispatch(Note(1), queue="other")
    queue.dispatch_after(Note(2), 0.0, queue="other")
    queue.work(stop_when_empty=True)
    queue.work(queues="mail,default", stop_when_empty=True)
    assert ran == []
    queue.work(queues="other", stop_when_empty=True)
    assert ran == [(1, "other"), (2, "other")]


def test_a_failed_job_is_recorded_and_the_envelope_tells_its_queue(queue: Queue) -> None:
    queue.dispatch(Broken(1))
    queue.work(queues="mail", stop_when_empty=True)
    assert ran == [(1, "mail")]
    assert [failed.error for failed in queue.failed_jobs()] == ["ValueError: broken"]


def test_follow_ups_go_to_the_queue_that_they_name(queue: Queue) -> None:
    queue.dispatch(Parent(1), queue="slow")
    queue.work(queues="slow", stop_when_empty=True)
    assert ran == []
    queue.work(queues="mail,default", stop_when_empty=True)
    assert ran == [(2, "mail"), (1, "default")]


def test_strictly_in_order_a_later_queue_waits_until_the_earlier_one_is_empty(queue: Queue) -> None:
    for n in range(5):
        queue.dispatch(Note(n))
        queue.dispatch(mail(queue, n))
    queue.work(queues=["mail", "default"], stop_when_empty=True)
    assert [name for _, name in ran] == ["mail"] * 5 + ["default"] * 5


def test_a_paused_queue_gives_nothing_and_the_others_go_on(queue: Queue) -> None:
    queue.dispatch(Note(1))
    queue.dispatch(mail(queue, 2))
    queue.pause("mail")
    assert queue.paused_since("mail") is not None
    assert queue.paused_since() is None
    queue.work(queues="mail,default", stop_when_empty=True)
    assert ran == [(1, "default")]
    queue.resume("mail")
    queue.work(queues="mail,default", stop_when_empty=True)
    assert ran == [(1, "default"), (2, "mail")]


def test_the_jobs_of_a_queue_are_listed_by_its_name(queue: Queue) -> None:
    queue.dispatch(mail(queue, 1))
    queue.dispatch_after(Note(2), 60, queue="mail")
    assert [(job.type, job.queue) for job in queue.jobs(queue="mail")] == [("jobs.Mail", "mail")]
    assert [job.type for job in queue.jobs("delayed", queue="mail")] == ["jobs.Note"]
    assert queue.jobs() == []


# -- the driver ---------------------------------------------------------------------------------------


def test_a_job_belongs_to_the_list_that_it_was_pushed_to_and_says_so_when_it_goes_back() -> None:
    """Whatever its envelope says."""
    driver = MemoryDriver()
    queue = Queue(driver, registry=Registry())
    queue.register("jobs.Broken", Broken)
    driver.push([b'{"id":"1","type":"jobs.Broken","payload":{"n":1},"queue":"mail"}'])
    driver.push([b'{"id":"2","type":"jobs.Broken","payload":{"n":2},"queue":"mail"}'], 0.0, ["slow"])
    queue.work(queues="default,slow", stop_when_empty=True)
    assert queue_in(read(driver.store.delayed[0][1])) == "default"
    assert queue_in(read(driver.store.line("slow").delayed[0][1])) == "slow"


@pytest.mark.parametrize("field", [b"7", b"null", b'["mail"]', b'"../x"', b'"held"', b'"Mail"', b'""', b'"\xc3\xa9"'])
def test_what_no_queue_can_be_called_counts_as_left_out(field: bytes) -> None:
    """It never makes a job undeliverable, nor becomes part of a key."""
    assert queue_in(read(b'{"id":"1","type":"t","payload":{},"queue":%b}' % field)) == "default"


def test_a_worker_of_the_default_queue_puts_a_dead_workers_job_back_into_its_own_queue() -> None:
    driver = MemoryDriver()
    driver.push([b"a"], 0.0, ["mail"])
    driver.exchange("dead", 1, 0.0, [], Shares(1, (("mail", 1),)))
    back = Settlement("return", "dead", "held", b"a", b"a", queue="mail")
    assert driver.exchange("me", 1, 30.0, [back], 5).claimed == []
    assert list(driver.store.line("mail").jobs) == [b"a"]


# -- names and shares ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "a" * 65, "Mail", "a b", "a:b", "../x", "é", *sorted(RESERVED), None, 7])
def test_a_name_that_no_queue_can_have_is_refused(name: Any) -> None:
    with pytest.raises(InvalidSetting):
        queue_name(name)


@pytest.mark.parametrize(
    "text", ["", "a,a", "a,", "a:0", "a:x", "a:-1", "a:1001", "a:1,b", "a:1:2", "a:²", ["a", 7], []]
)
def test_a_list_of_queues_that_can_not_be_served_is_refused(text: Any) -> None:
    with pytest.raises(InvalidSetting):
        served(text)


def test_a_list_of_queues_is_in_order_or_has_weights() -> None:
    assert served("payments, default") == (Served("payments"), Served("default"))
    assert served(["a:3", "b:1"]) == (Served("a", 3), Served("b", 1))


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 10, 300])
def test_by_weight_the_claims_are_within_one_batch_of_each_share(batch: int) -> None:
    machine = Machine.new("me", 1, 30.0, Limits(), 0, has_store=False, queues=served("a:6,b:3,c:1"))
    claimed: Counter[str] = Counter()
    for n in range(1, 500):
        want, machine.credits = shares.divided(machine, batch)
        assert isinstance(want, Shares)
        assert sum(most for _, most in want.queues) == batch
        claimed.update(dict(want.queues))
        for name, weight in (("a", 6), ("b", 3), ("c", 1)):
            assert abs(claimed[name] - n * batch * weight / 10) <= 1


def test_a_driver_without_named_queues_takes_no_job_of_one(queue: Queue) -> None:
    class Old(MemoryDriver):
        names_queues = False

    queue.set_driver(Old())
    for call in (
        lambda: queue.dispatch(Note(1), queue="mail"),
        lambda: queue.pause("mail"),
        lambda: queue.jobs(queue="mail"),
        lambda: queue.start_workers(1, queues="mail"),
    ):
        with pytest.raises(InvalidSetting, match="named queues"):
            call()
    queue.dispatch(Note(1))
