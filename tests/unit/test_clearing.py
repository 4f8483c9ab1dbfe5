"""Clearing a queue, and giving a key back, where the clauses' examples do not reach: what moves meanwhile."""

from __future__ import annotations

from dataclasses import dataclass

import fakeredis
import pytest

from kashvi import clearing
from kashvi.clearing import Clearing
from kashvi.drivers.memory import MemoryDriver
from kashvi.drivers.redis import RedisDriver
from kashvi.errors import InvalidSetting
from kashvi.events import JobCancelled
from kashvi.jobs.envelope import seal
from kashvi.ports import NO_LOCK, Settlement, Shares
from kashvi.queue import Queue
from kashvi.registry import Registry

Driver = MemoryDriver | RedisDriver
WANT = Shares(2, (("bulk", 2),))


@dataclass
class Export:
    user: str

    def handle(self) -> None:
        """Never runs here."""


@pytest.fixture(params=["memory", "redis"])
def driver(request: pytest.FixtureRequest) -> Driver:
    return MemoryDriver() if request.param == "memory" else RedisDriver(fakeredis.FakeRedis())


def ready(driver: Driver) -> list[bytes]:
    return [one.envelope for one in driver.show("ready", 100, "bulk")]


def test_a_job_that_is_claimed_or_comes_meanwhile_stays(driver: Driver) -> None:
    """Between the read and the removal: and equal jobs are as many as they were."""
    driver.push([b"a", b"b", b"c", b"c", b"d"], 0.0, ["bulk"] * 5)
    driver.push([b"x", b"y"], 60.0, ["bulk"] * 2)
    read = ready(driver)
    assert driver.exchange("w", 1, 30.0, [], WANT).claimed == [b"a", b"b"]
    driver.exchange(
        "w", 2, 30.0, [Settlement("return", "w", "held", b"b", b"b2", queue="bulk")], Shares(0, WANT.queues)
    )
    driver.push([b"new"], 0.0, ["bulk"])
    assert sorted(driver.take_out_many("ready", "bulk", read, [NO_LOCK] * len(read))[1]) == [2, 3, 4]
    assert ready(driver) == [b"b2", b"new"]
    assert driver.take_out_many("delayed", "bulk", [b"gone", b"y"], [NO_LOCK] * 2)[1] == [1]
    assert [one.envelope for one in driver.show("delayed", 9, "bulk")] == [b"x"]


def test_each_job_that_goes_is_told_with_the_servers_time(driver: Driver) -> None:
    """So a trace does not count it as lost. Bytes that are no envelope have no id to tell."""
    queue = Queue(driver, registry=Registry())
    told: list[JobCancelled] = []
    queue.observe(lambda event: told.append(event) if isinstance(event, JobCancelled) else None)
    driver.push([seal("1", b'"jobs.A"', b"{}"), b"none", seal("2", b'"jobs.B"', b"{}")], 0.0, ["bulk"] * 3)
    driver.push([seal("3", b'"jobs.A"', b"{}")], 60.0, ["bulk"])
    assert queue.clear("bulk") == (3, 1)
    assert sorted((one.job_id, one.type, one.queue) for one in told) == [
        ("1", "jobs.A", "bulk"), ("2", "jobs.B", "bulk"), ("3", "jobs.A", "bulk"),
    ]  # fmt: skip
    assert all(one.server_at > 1e9 for one in told)


def test_no_more_jobs_are_removed_than_there_were(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A producer that is faster than we must not keep us busy for ever."""
    driver.push([b"a", b"b"], 0.0, ["bulk"] * 2)
    real = type(driver).take_out_many

    def and_pushes(self: Driver, *args: object) -> object:
        self.push([b"more", b"more"], 0.0, ["bulk"] * 2)
        return real(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(type(driver), "take_out_many", and_pushes)
    assert clearing.clear(driver, "bulk") == (2, 0)
    assert ready(driver) == [b"more", b"more"]


@pytest.mark.parametrize("where", ["ready", "delayed", "held", "running"])
def test_a_key_of_a_job_anywhere_is_not_given_back(driver: Driver, where: str) -> None:
    queue = Queue(driver, registry=Registry())
    queue.register("jobs.Export", Export, queue="bulk", unique=lambda job: job.user)
    delay = 60 if where == "delayed" else 0
    job_id = queue.dispatch_after(Export("ada"), delay) if delay else queue.dispatch(Export("ada"))
    if where in ("held", "running"):
        [raw] = driver.exchange("w", 1, 30.0, [], WANT).claimed
        starts = [Settlement("start", "w", "held", raw, queue="bulk")] if where == "running" else []
        driver.exchange("w", 2, 30.0, starts, Shares(0, WANT.queues))
    found = queue.unlock("jobs.Export:ada")
    place = "running" if where == "held" else where
    assert found == ("held", job_id, "jobs.Export", "bulk", place)
    assert queue.dispatch(Export("ada")).duplicate  # type: ignore[attr-defined]


def test_a_key_without_its_job_is_given_back(driver: Driver) -> None:
    """Another program deleted the job, and left the key."""
    envelope = b'{"id":"a","type":"jobs.Export","payload":{},"queue":"bulk","unique":"k"}'
    driver.push_unique([envelope], 0.0, ["bulk"], [("k", "a")])
    driver.take_out_many("ready", "bulk", [envelope], [NO_LOCK])
    assert clearing.unlock(driver, "k")[:2] == ("freed", "a")
    assert clearing.unlock(driver, "k")[0] == "unknown"
    assert driver.push_unique([envelope], 0.0, ["bulk"], [("k", "a")])[2] == [""]


def test_a_driver_that_can_not_is_refused() -> None:
    class Other:
        """Has no such methods."""

    assert not isinstance(Other(), Clearing)
    with pytest.raises(InvalidSetting, match="can be cleared"):
        clearing.clear(Other(), "bulk")  # type: ignore[arg-type]
