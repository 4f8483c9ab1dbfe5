"""What workers report, and what pages show of it: in memory and on a real server."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from kashvi.drivers.memory import MemoryDriver
from kashvi.drivers.redis import RedisDriver
from kashvi.errors import CommandRefused, ReplyLost
from kashvi.jobs.envelope import seal
from kashvi.ports import Settlement
from kashvi.queue import Queue
from kashvi.registry import Registry
from kashvi.reporting import COUNTS_MAX, KEPT_S, OTHER, TYPES_MAX, Counts
from kashvi.view import LiveView, Missing
from kashvi.worker import reporter
from kashvi.worker.settle import delivery, failed, returned, succeeded
from kashvi.worker.tally import Tally

from .launch import RedisServer, until_true

MINUTE = int(datetime.now(UTC).timestamp() // 60)
SOME = Counts({("default", "done", "jobs.Email x"): 3}, {("default", 2): 1}, {("mail", 0): 2})


@pytest.fixture
def driver(driver: Any) -> Any:
    """An empty queue with the worker ``w``."""
    driver.exchange("w", 1, 30.0, [], 0)
    return driver


def test_a_repeated_report_is_counted_once(driver: Any) -> None:
    """[HISTORY-1]"""
    assert driver.report("w", 1, MINUTE, b"one", SOME)
    assert driver.report("w", 1, MINUTE, b"again", SOME)
    assert driver.counted(range(MINUTE, MINUTE + 2)) == {MINUTE: SOME}
    assert driver.reports(["w"])["w"].about == b"one"
    assert driver.report("w", 2, MINUTE, b"two", SOME)
    assert driver.counted(range(MINUTE, MINUTE + 1))[MINUTE].ended == {("default", "done", "jobs.Email x"): 6}
    assert driver.reports(["w", "v"]).keys() == {"w"}


def test_a_worker_off_the_list_is_forgotten(driver: Any) -> None:
    """[HISTORY-2] By its own last report, or by the next one of another worker."""
    assert not driver.report("stranger", 1, MINUTE, b"x", SOME)
    assert driver.counted(range(MINUTE, MINUTE + 1)) == {}
    driver.report("w", 1, MINUTE, b"x", SOME)
    assert driver.report("w", 2, MINUTE, b"", SOME)
    assert driver.reports(["w"]) == {}
    driver.report("w", 3, MINUTE, b"x", SOME)
    driver.exchange("w", 2, 30.0, [Settlement("leave", "w")], 0)
    driver.exchange("v", 1, 30.0, [], 0)
    driver.report("v", 1, MINUTE, b"y", Counts({}, {}, {}))
    driver.exchange("w", 1, 30.0, [], 0)
    assert driver.reports(["v", "w"]).keys() == {"v"}


def test_a_minute_takes_no_more_than_so_many_counts(driver: Any) -> None:
    """[HISTORY-3] New types are ``other`` then; those that are there go on."""
    names = [("default", "done", f"t{n}") for n in range(COUNTS_MAX + 5)]
    driver.report("w", 1, MINUTE, b"x", Counts(dict.fromkeys(names, 1), {}, {}))
    driver.report("w", 2, MINUTE, b"x", Counts({names[0]: 1, names[-1]: 1}, {("default", 1): 1}, {}))
    found = driver.counted(range(MINUTE, MINUTE + 1))[MINUTE]
    assert len(found.ended) <= COUNTS_MAX + 1
    assert (found.ended["default", "done", OTHER], found.ended[names[0]], found.waits) == (6, 2, {("default", 1): 1})


def test_a_minute_is_kept_for_25_hours(valkey: RedisServer) -> None:
    valkey.client().flushall()
    driver = RedisDriver(valkey.url)
    driver.exchange("w", 1, 30.0, [], 0)
    driver.report("w", 1, MINUTE, b"x", SOME)
    client: Any = valkey.client()
    assert KEPT_S - 60 < client.ttl(f"kashvi:queue:counts:{MINUTE}") <= KEPT_S
    assert client.ttl("kashvi:queue:about") == -1


def test_a_report_that_is_refused_leaves_no_counts_for_good(valkey: RedisServer) -> None:
    """[HISTORY-1] Of a user without EXPIRE, each minute would stay on the server."""
    admin: Any = valkey.client()
    admin.flushall()
    admin.execute_command("ACL", "SETUSER", "worker", "reset", "on", ">secret", "~*", "&*", "+@all", "-expire")
    try:
        driver = RedisDriver(valkey.client(username="worker", password="secret"))
        driver.exchange("w", 1, 30.0, [], 0)
        with pytest.raises(CommandRefused):
            driver.report("w", 1, MINUTE, b"x", SOME)
        assert not admin.exists(f"kashvi:queue:counts:{MINUTE}")
        assert driver.reports(["w"]) == {}
    finally:
        admin.execute_command("ACL", "DELUSER", "worker")


FOREIGN = {
    "x": "1", "n": "1", "n default": "1", "n default done": "1", "n default done jobs.Email x": "many",
    "w default": "1", "w default soon": "1", "r default 99": "1", "r default -1": "1", "q default 1": "1",
    b"\xff \xff \xff": "1",
}  # fmt: skip


def test_counts_that_no_worker_wrote_break_no_page(valkey: RedisServer) -> None:
    """[HISTORY-2] Another program may write to the keys."""
    client: Any = valkey.client()
    client.flushall()
    driver = RedisDriver(valkey.url)
    driver.exchange("w", 1, 30.0, [], 0)
    key = f"kashvi:queue:counts:{int(driver.server_time() // 60)}"
    client.hset(key, mapping=FOREIGN)
    view = LiveView(Queue(driver, registry=Registry()))
    found = view.counts(2)
    assert not isinstance(found, Missing)
    assert [(minute.counts, minute.waits, minute.runs) for minute in found] in ([], [((), {}, {})])
    client.delete(key)
    driver.report("w", 1, MINUTE, b"x", SOME)
    client.hset(f"kashvi:queue:counts:{MINUTE}", mapping={"x": "1", "n default": "1", "w default soon": "1"})
    assert driver.counted(range(MINUTE, MINUTE + 1)) == {MINUTE: SOME}


ABOUT = (
    b'{"host":"h","pid":1,"version":"v","threads":1,"queues":[],"running":'
    b'[{"job_id":"a","type":"t","queue":"default","attempt":1,"since":%b}],"suspects":[]}'
)


@pytest.mark.parametrize(
    "written",
    [
        b"", b"1", b"x y z", b"1 2", b"1 2 no JSON", b"1 soon " + ABOUT % b"1.0", b'1 2 {"host":"\xff"}', b"1 2 {}",
        b'1 2 {"z":' + b"[" * 100_000, b"1 2 " + ABOUT % b"1e300", b"1 1e300 " + ABOUT % b"1.0",
        b"1 nan " + ABOUT % b"1.0",
    ],
)  # fmt: skip
def test_a_report_that_no_worker_wrote_counts_as_none(valkey: RedisServer, written: bytes) -> None:
    """[HISTORY-2] The worker is shown without one, and its next report takes the place of the foreign one."""
    client: Any = valkey.client()
    client.flushall()
    driver = RedisDriver(valkey.url)
    driver.exchange("w", 1, 30.0, [], 0)
    view = LiveView(Queue(driver, registry=Registry()))
    client.hset("kashvi:queue:about", "w", written)
    [shown] = view.workers() or []
    assert (shown.id, shown.host, shown.running) == ("w", Missing("not offered"), Missing("not offered"))
    assert driver.report("w", 2, MINUTE, ABOUT % b"1.0", SOME)
    [shown] = view.workers() or []
    assert shown.host == "h"


def test_pages_show_what_a_worker_is_about_and_what_it_did(driver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker of this process, its running job, and its counts once it has left."""
    monkeypatch.setattr(reporter, "REPORT_S", 0.05)
    monkeypatch.setattr(reporter, "LOOK_S", 0.0)
    queue, go = Queue(driver, registry=Registry(), lease_s=0.3), threading.Event()

    @queue.job("jobs.Slow")
    @dataclass
    class Slow:
        def handle(self) -> None:
            assert go.wait(60)

    view = LiveView(queue)
    job_id = queue.dispatch(Slow())
    workers = queue.start_workers(2)

    def reported() -> Any:
        found = view.workers()
        assert not isinstance(found, Missing)
        return next((one for one in found if one.id == workers.id and one.running), None)

    until_true(reported, 60)
    mine = reported()
    assert (mine.pid > 0, bool(mine.host), mine.threads, mine.queues, mine.suspects) == (
        True,
        True,
        2,
        ("default",),
        (),
    )
    [ran] = mine.running
    assert (ran.job_id, ran.type, ran.queue, ran.attempt) == (job_id, "jobs.Slow", "default", 1)
    assert abs((ran.since - datetime.now(UTC)).total_seconds()) < 60
    go.set()
    workers.stop()
    workers.join()
    assert workers.id not in [one.id for one in view.workers() or []]
    assert driver.reports([workers.id]) == {}
    minutes = view.counts(2)
    assert not isinstance(minutes, Missing)
    assert [(one.type, one.outcome, one.n) for minute in minutes for one in minute.counts] == [("jobs.Slow", "done", 1)]
    assert [sum(minute.runs["default"]) for minute in minutes if minute.runs] == [1]
    assert [sum(minute.waits["default"]) for minute in minutes if minute.waits] == [1]


def test_a_lost_reply_is_followed_by_the_same_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """[HISTORY-1] Under its number, so that its counts are there once."""
    monkeypatch.setattr(reporter, "REPORT_S", 0.02)
    monkeypatch.setattr(reporter, "LOOK_S", 0.0)
    driver, sent = MemoryDriver(), list[tuple[int, Counts]]()
    real = driver.report

    def report(worker: str, n: int, minute: int, about: bytes, counts: Counts) -> bool:
        sent.append((n, counts))
        answer = real(worker, n, minute, about, counts)
        if len(sent) <= 2:
            raise ReplyLost("no answer")
        return answer

    driver.report = report  # type: ignore[method-assign]
    queue = Queue(driver, registry=Registry(), lease_s=0.3)

    @queue.job("jobs.Quick")
    @dataclass
    class Quick:
        def handle(self) -> None: ...

    queue.dispatch(Quick())
    with queue.start_workers(1):
        until_true(lambda: len(sent) > 2 and queue.stats().held == 0, 60)
    assert sent[0] == sent[1] == sent[2]
    view = LiveView(queue)
    assert [one.n for minute in view.counts(3) or [] for one in minute.counts] == [1]


def test_an_idle_worker_has_nothing_to_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """[HISTORY-4] But once a minute, as a server may have lost what it knew."""
    driver, sent = MemoryDriver(), list[int]()
    queue = Queue(driver, registry=Registry())
    worker, _ = queue._worker(1, None, "default", interruptible=False)
    driver.exchange(worker.id, 1, 30.0, [], 0)
    real, clock = driver.report, [1000.0]

    class Runtime:
        monotonic = staticmethod(lambda: clock[0])
        host = staticmethod(lambda: "h")
        process = staticmethod(lambda: 7)

    driver.report = lambda worker, n, *rest: sent.append(n) or real(worker, n, *rest)  # type: ignore
    runtime: Any = Runtime()
    one = reporter.Reporter(worker, driver, runtime, "1.0")
    for second in range(200):
        clock[0] = 1000.0 + second
        one.look()
    assert sent == [1, 2, 3, 4]


def settled(*outcomes: Any) -> Counts:
    tally = Tally()
    tally.settled(outcomes, (2, 3, 4, 5), (1,), (2,), None)
    return tally.take()


def of(name: str, queue: str = "default") -> Any:
    return delivery(seal("a", b'"%s"' % name.encode(), b"1"), "w", str, 0.0, queue=queue)


def test_each_way_of_ending_is_counted_and_a_refused_one_is_not() -> None:
    found = settled(
        succeeded(of("a"), 0.0, 0.01),
        succeeded(of("refused"), 0.0, 0.01),
        failed(of("cut"), 0.0, "boom", 3),
        failed(of("b", "mail"), 0.0, "boom", 3),
        failed(of("c"), 0.0, "boom", 1),
        returned(of("d"), 0.0),
    )
    assert found.ended == {
        ("default", "done", "a"): 1,
        ("default", "cancelled", "cut"): 1,
        ("mail", "retried", "b"): 1,
        ("default", "failed", "c"): 1,
    }


def test_a_large_batch_is_counted_whole_by_a_few_of_its_durations() -> None:
    tally = Tally()
    tally.settled([succeeded(of("a" if n % 2 else "b"), 0.0, 0.01) for n in range(101)], (), (), (), "default")
    counts = tally.take()
    assert counts == Counts({("default", "done", "a"): 50, ("default", "done", "b"): 51}, {}, {("default", 2): 101})
    assert not tally.take()
    tally.settled([succeeded(of(f"t{n}"), 0.0) for n in range(TYPES_MAX + 20)], (), (), (), "default")
    assert tally.take().ended["default", "done", OTHER] == 20
