"""Chains, where the clauses' examples do not reach: hostile rests, limits, the failure row, what a test sees."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kashvi import current
from kashvi.drivers.memory import MemoryDriver
from kashvi.errors import InvalidSetting, NoFollowUps, NotAJob, PayloadTooLarge
from kashvi.events import JobDispatched, JobFailed
from kashvi.jobs.chain import LINKS_MAX
from kashvi.jobs.envelope import bytes_of, read, seal
from kashvi.queues import Queue
from kashvi.registry import Registry
from kashvi.retries import Retry, Snooze
from kashvi.testing import recorded
from kashvi.worker.row import job_of

ran: list[str] = []


@dataclass
class Step:
    name: str
    raises: int = 0
    """The number of attempts that fail."""
    snoozes: bool = False
    follow_ups: int = 0

    def handle(self) -> None:
        ran.append(self.name)
        if self.snoozes and ran.count(self.name) == 1:
            raise Snooze(0)
        if ran.count(self.name) <= self.raises:
            raise ValueError(f"{self.name} fails")
        current().dispatch_many([Step(f"{self.name}.{n}") for n in range(self.follow_ups)])


@dataclass
class Plain:
    def handle(self) -> None: ...


@pytest.fixture
def queue() -> Queue:
    ran.clear()
    queue = Queue(MemoryDriver(), registry=Registry())
    queue.register("jobs.Step", Step, queue="steps", retry=Retry(attempts=2, backoff=lambda *_: 0.0))
    queue.register("jobs.Plain", Plain)
    return queue


def worked(queue: Queue) -> list[str]:
    queue.work(queues="other,steps,default", drain=True)
    return ran


def envelopes(queue: Queue, name: str = "steps") -> list[dict[str, Any]]:
    driver: Any = queue.driver
    return [json.loads(shown.envelope) for shown in driver.show("ready", 9, name)]


def test_each_link_goes_out_when_the_one_before_it_is_done(queue: Queue) -> None:
    told: list[Any] = []
    queue.observe(lambda event: told.append(event) if isinstance(event, JobDispatched) else None)
    ids = queue.chain(Step("a"), Step("b"), Step("c"))
    [first] = envelopes(queue)
    assert [link["id"] for link in (first, *first["next"])] == ids
    assert [link["payload"]["name"] for link in first["next"]] == ["b", "c"]
    assert {(link["type"], link["queue"], link["max_attempts"]) for link in first["next"]} == {
        ("jobs.Step", "steps", 2)
    }
    queue.work(queues="steps", max_jobs=1)
    [second] = envelopes(queue)
    assert (second["id"], [link["id"] for link in second["next"]]) == (ids[1], ids[2:])
    assert worked(queue) == ["a", "b", "c"]
    assert [(e.job_id, e.parent, e.chain, e.queue) for e in told] == [
        (ids[0], "", tuple(ids[1:]), "steps"),
        (ids[1], ids[0], (), "steps"),
        (ids[2], ids[1], (), "steps"),
    ]


def test_the_own_follow_ups_of_a_link_go_out_before_the_next_link(queue: Queue) -> None:
    queue.chain(Step("a", follow_ups=2), Step("b"))
    assert worked(queue) == ["a", "a.0", "a.1", "b"]


def test_a_link_may_have_all_the_follow_ups_that_an_attempt_may_have(queue: Queue) -> None:
    queue.chain(Step("a", follow_ups=1000), Step("b"))
    assert len(worked(queue)) == 1002
    assert (ran[-1], queue.failed_jobs()) == ("b", [])


def test_the_rest_outlives_a_retry_and_a_snooze(queue: Queue) -> None:
    ids = queue.chain(Step("a", raises=1), Step("b", snoozes=True), Step("c"))
    assert worked(queue) == ["a", "a", "b", "b", "c"]
    assert len(set(ids)) == 3


def test_a_link_that_fails_for_good_ends_the_chain_and_its_row_goes_on_with_it(queue: Queue, tmp_path: Path) -> None:
    queue.use_db(f"sqlite:///{tmp_path}/failed.db")
    driver: Any = queue.driver
    ids = queue.chain(Step("a", raises=2), Step("b"), Step("c"))
    assert worked(queue) == ["a", "a"]
    store: Any = queue.store
    [[row]] = store.pages()
    again = job_of(row.job_type, bytes_of(row.payload), row.extra, "new")
    assert (read(again).id, [link["id"] for link in json.loads(again)["next"]]) == ("new", ids[1:])
    driver.push([again], 0.0, ["steps"])
    assert worked(queue) == ["a", "a", "a", "b", "c"]


def test_a_chain_on_the_default_queue_is_refused(queue: Queue) -> None:
    """A Go worker there would run the first link, and drop the others."""
    with pytest.raises(InvalidSetting, match=r"the queue of jobs.Plain in a chain must be a named one"):
        queue.chain(Step("a"), Plain())
    with pytest.raises(InvalidSetting, match=r"the queue of jobs.Step in a chain must be a named one"):
        queue.chain(Step("a"), queue="default")
    queue.chain(Plain(), Step("b"), queue="other")
    assert worked(queue) == ["b"]
    assert [one["queue"] for one in envelopes(queue, "other")] == []


def test_what_can_not_be_a_chain_is_refused_and_nothing_is_sent(queue: Queue) -> None:
    with pytest.raises(InvalidSetting, match="from 1 to 1,000"):
        queue.chain()
    with pytest.raises(InvalidSetting, match="from 1 to 1,000"):
        queue.chain(*[Step("a")] * (LINKS_MAX + 1))
    with pytest.raises(NotAJob):
        queue.chain(Step("a"), 5)
    queue.payload_limit = 1000
    queue.chain(Step("a" * 600))
    with pytest.raises(PayloadTooLarge, match="the payload of a chain of 2 jobs"):
        queue.chain(Step("a" * 600), Step("b" * 300))
    assert [one["payload"]["name"] for one in envelopes(queue)] == ["a" * 600]


def test_a_driver_without_follow_ups_has_no_chains(queue: Queue) -> None:
    class Without(MemoryDriver):
        follows_up = False

    queue.set_driver(Without())
    with pytest.raises(NoFollowUps):
        queue.chain(Step("a"), Step("b"))


LINK = {"id": "b", "type": "jobs.Step", "payload": {"name": "b"}, "queue": "steps"}


@pytest.mark.parametrize(
    "rest",
    [
        "null",
        "{}",
        '"b"',
        "[null]",
        "[[]]",
        json.dumps([LINK, 5]),
        json.dumps([LINK | {"id": ""}]),
        json.dumps([LINK | {"id": 7}]),
        json.dumps([LINK | {"type": ""}]),
        json.dumps([LINK | {"type": "t" * 256}]),
        json.dumps([{name: LINK[name] for name in ("id", "type", "queue")}]),
        json.dumps([{name: LINK[name] for name in ("id", "type", "payload")}]),
        json.dumps([LINK | {"queue": "default"}]),
        json.dumps([LINK, LINK | {"queue": "held"}]),
        json.dumps([LINK | {"queue": "../x:jobs"}]),
        json.dumps([LINK | {"queue": 7}]),
        json.dumps([LINK | {"max_attempts": 0}]),
        json.dumps([LINK | {"max_attempts": 2**31}]),
        json.dumps([LINK | {"attempts": -1}]),
        json.dumps([LINK | {"next": [LINK]}]),
        json.dumps([LINK | {"unique": "x"}]),
        json.dumps([LINK | {"id": "\ud800"}]),
        json.dumps([LINK] * (LINKS_MAX + 1)),
        "[" + json.dumps(LINK)[:-1] + ',"payload":' + "[" * 50_000 + "]" * 50_000 + "}]",
    ],
)
def test_a_malformed_rest_is_recorded_and_the_handler_is_not_called(queue: Queue, rest: str) -> None:
    """The worker goes on with the next job."""
    driver: Any = queue.driver
    failed: list[JobFailed] = []
    queue.observe(lambda event: failed.append(event) if isinstance(event, JobFailed) else None)
    bad = seal("a", b'"jobs.Step"', b'{"name":"a"}')[:-1] + b',"queue":"steps","next":%b}' % rest.encode()
    driver.push([bad], 0.0, ["steps"])
    queue.dispatch(Step("good"))
    assert worked(queue) == ["good"]
    assert [event.undeliverable for event in failed] == [True]
    assert failed[0].error.startswith(("the rest of its chain (next) is malformed", "not an envelope: "))
    assert set(driver.queue_stats()) <= {"default", "steps", "other"}


def test_an_empty_rest_is_the_end_of_a_chain(queue: Queue) -> None:
    driver: Any = queue.driver
    driver.push([seal("a", b'"jobs.Step"', b'{"name":"a"}')[:-1] + b',"queue":"steps","next":[]}'], 0.0, ["steps"])
    assert worked(queue) == ["a"]


def test_a_link_keeps_its_bytes(queue: Queue) -> None:
    """Those of the payload, too, whatever program wrote them."""
    driver: Any = queue.driver
    link = b'{ "payload":{"name":"\\u0062", "raises": 0,"x":1.0}, "queue":"steps","id":"b" ,"type":"jobs.Step"}'
    driver.push(
        [seal("a", b'"jobs.Step"', b'{"name":"a"}')[:-1] + b',"next":[ %b , %b]}' % (link, link)], 0.0, ["steps"]
    )
    queue.work(queues="steps", max_jobs=1)
    [shown] = driver.show("ready", 9, "steps")
    assert shown.envelope == link[:-1] + b',"next":[' + link + b"]}"


def test_a_test_sees_all_links_as_dispatched() -> None:
    queue = Queue(MemoryDriver(), registry=Registry())
    queue.register("jobs.Step", Step, queue="steps")
    with recorded() as dispatches:
        ids = queue.chain(Step("a"), Step("b"))
        dispatches(Step, times=2)
        assert [(one.job.name, one.job_id) for one in dispatches.all] == [("a", ids[0]), ("b", ids[1])]
    assert queue.stats().ready == 0
