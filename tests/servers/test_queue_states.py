"""The state of each queue, as ``queue_stats`` returns it: on real servers and in memory."""

from __future__ import annotations

from typing import Any

import pytest

from kashvi.drivers.memory import MemoryDriver
from kashvi.jobs.envelope import seal
from kashvi.ports import Shares
from kashvi.queue import Queue, QueueState

from .test_show import MADE

MADE_AT = 0x019B5E000000 / 1000


def states(driver: Any) -> dict[str, QueueState]:
    return {one.name: one for one in Queue(driver).queue_stats()}


def job(job_id: str) -> bytes:
    return seal(job_id, b'"t"', b"1")


def test_the_age_is_of_the_job_that_is_claimed_next_by_the_servers_clock(driver: Any) -> None:
    """A job that another program made has none, nor have bytes that are no job; it is not below 0."""
    driver.push([job(MADE), b"no envelope", job("of another program"), job("0fffffff-ffff-7000-8000-000000000000")])
    now = driver.pause()
    ages = []
    for n in range(1, 5):
        ages.append(states(driver)["default"].oldest_age_s)
        driver.resume()
        driver.exchange("w", n, 30.0, [], 1)
    assert abs(ages[0] - (now - MADE_AT)) < 60
    assert ages[1:] == [None, None, 0.0]
    assert states(driver)["default"].oldest_age_s is None


def test_the_time_is_the_servers(monkeypatch: pytest.MonkeyPatch, driver: Any) -> None:
    """Whatever this host's clock says."""
    driver.push([job(MADE)])
    where = driver.store if isinstance(driver, MemoryDriver) else driver
    monkeypatch.setattr(where, "now" if where is not driver else "_server_now", lambda: MADE_AT + 5)
    assert states(driver)["default"].oldest_age_s == 5.0


def test_a_queue_is_served_while_a_worker_with_a_lease_names_it(driver: Any) -> None:
    """A worker that names none serves the default queue."""
    driver.push([job(MADE)], 0.0, ["mail"])
    assert {name: one.served for name, one in states(driver).items()} == {"default": False, "mail": False}
    driver.exchange("v", 1, 30.0, [], 0)
    assert {name: one.served for name, one in states(driver).items()} == {"default": True, "mail": False}
    driver.exchange("w", 1, 30.0, [], Shares(0, (("mail", 0),)))
    assert {name: one.served for name, one in states(driver).items()} == {"default": True, "mail": True}
    driver.exchange("w", 2, 0.0, [], Shares(0, (("mail", 0),)))
    assert {name: one.served for name, one in states(driver).items()} == {"default": True, "mail": False}


def test_a_driver_without_named_queues_has_one() -> None:

    class OneQueue(MemoryDriver):
        names_queues = False

    driver = OneQueue()
    driver.push([job(MADE)])
    driver.pause()
    assert Queue(driver).queue_stats() == [QueueState("default", 1, 0, paused=True, served=False)]
