"""Waits on real servers: they end for a job that another process delays for less than they would last."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from kashvi.drivers.redis import RedisDriver
from kashvi.ports import FollowUp, Settlement, Shares
from kashvi.relaying import Stored
from kashvi.runtime import SystemRuntime
from kashvi.ticking import Ask, TickJob

from .launch import RedisServer, until_true

LONG_S = 4.0


def blocked(server: RedisServer) -> bool:
    clients: Any = server.client().info("clients")
    return int(clients["blocked_clients"]) > 0


def waiting(server: RedisServer, driver: RedisDriver, meanwhile: Any, queues: Sequence[str] = ("default",)) -> Any:
    """What a wait answers, and whether it ended early, if that happens ``meanwhile``."""
    with ThreadPoolExecutor(1) as pool:
        began = SystemRuntime().monotonic()
        answer = pool.submit(driver.wait, "w", LONG_S, queues)
        until_true(lambda: blocked(server), 20)
        meanwhile()
        return answer.result(), SystemRuntime().monotonic() - began < LONG_S / 2


def test_a_wait_answers_when_a_job_is_due_that_was_delayed_meanwhile(redis_server: RedisServer) -> None:
    """By the server's clock, and long before the wait would have ended."""
    driver, other = RedisDriver(redis_server.url), RedisDriver(redis_server.url)
    assert driver.wait("w", 0.01) is None
    answer, early = waiting(redis_server, driver, lambda: other.push([b"a"], 0.3))
    assert (answer, early) == (driver.next_due(), True)


def test_a_job_that_was_delayed_between_two_waits_ends_the_next(redis_server: RedisServer) -> None:
    """Also before the first, when no thread could hear of it yet."""
    driver, other = RedisDriver(redis_server.url), RedisDriver(redis_server.url)
    first = other.push([b"a"], 0.5)
    assert driver.wait("w", LONG_S) == first
    second = other.push([b"b"], 0.4)
    assert driver.wait("w", LONG_S) == second
    other.take_relay("o", "t", "")
    relayed = other.relay("o", "t", 1, [Stored("c", b"c", 0.3)], [])
    assert relayed is not None
    assert driver.wait("w", LONG_S) == pytest.approx(relayed.done_at + 0.3, abs=0.000002)


def test_a_job_for_another_of_its_queues_ends_a_wait(redis_server: RedisServer) -> None:
    """BLMOVE waits for one list; the answer is a time that is over, so that the worker looks at all of them."""
    driver, other = RedisDriver(redis_server.url), RedisDriver(redis_server.url)
    queues = ("default", "mail", "slow")
    other.take_relay("o", "t", "")
    first = other.tick(Ask("a", "s"))
    other.push([b"h", b"i"], 0.0, ["mail", "mail"])
    other.exchange("v", 1, 60.0, [], Shares(2, (("mail", 2),)))
    done = Settlement("done", "v", old=b"i", follow_ups=[FollowUp(b"f", 0.0, "slow")])
    back = Settlement("return", "v", old=b"h", new=b"h", queue="mail")
    assert isinstance(driver.wait("w", LONG_S, queues), float)  # the first only looks: what came before has not rung
    for meanwhile in (
        lambda: other.push([b"a"], 0.0, ["slow"]),
        lambda: other.push_retried("1", b"b", "mail"),
        lambda: other.pause("mail"),
        lambda: other.relay("o", "t", 1, [Stored("d", b"d", 0.0, "slow")], []),
        lambda: other.tick(Ask("a", "s", first.last, first.last + 0.000001, "mail", [TickJob(first.server_at, b"e")])),
        lambda: other.exchange("v", 2, 60.0, [done], 0),
        lambda: other.exchange("v", 3, 60.0, [back], 0),
    ):
        answer, early = waiting(redis_server, driver, meanwhile, queues)
        assert (isinstance(answer, float), early) == (True, True)
    assert waiting(redis_server, driver, lambda: other.push([b"c"]), queues) == (b"c", True)
    assert driver.wait("w", LONG_S, ("mail",)) == b"h"


def test_a_ready_job_is_claimed_as_ever(redis_server: RedisServer) -> None:
    """By a wait that hears nothing, and by one after it."""
    driver, other = RedisDriver(redis_server.url), RedisDriver(redis_server.url)
    for job in (b"a", b"b"):
        assert waiting(redis_server, driver, lambda job=job: other.push([job])) == (job, True)
    assert redis_server.client().lrange("kashvi:queue:held:w", 0, -1) == [b"b", b"a"]


def test_a_wait_whose_connection_was_closed_in_between_takes_another(redis_server: RedisServer) -> None:
    """Nothing was sent, so nothing is told."""
    driver = RedisDriver(redis_server.url)
    assert driver.wait("w", 0.01) is None
    client: Any = redis_server.client()
    client.client_kill_filter(_type="pubsub")
    driver.push([b"a"])
    assert driver.wait("w", LONG_S) in (b"a", None)
    assert driver.stats().ready == 0


def test_a_user_who_may_not_listen_waits_all_the_same(valkey: RedisServer) -> None:
    """The wait ends when the server ends it, and jobs are claimed."""
    client: Any = valkey.client()
    rights = ["+@all", "-client|unblock", "-subscribe"]
    client.acl_setuser("deaf", enabled=True, passwords=["+pw"], keys=["*"], channels=[], commands=rights)
    try:
        driver = RedisDriver(valkey.url.replace("redis://", "redis://deaf:pw@"))
        driver.push([b"a"], 0.2)
        assert driver.wait("w", 0.05) is None
        assert waiting(valkey, driver, lambda: driver.push([b"b"])) == (b"b", True)
    finally:
        client.acl_deluser("deaf")


def test_only_a_delay_shorter_than_a_wait_rings_the_bell(valkey: RedisServer) -> None:
    """Others are seen in time by the looks between waits, so they cost nothing."""
    rung: Any = valkey.client()
    driver = RedisDriver(valkey.url)
    driver.wait("w", 0.01)
    rung.config_resetstat()
    waiting(valkey, driver, lambda: driver.push([b"a"], 0.2))
    stats: Any = rung.info("commandstats")
    assert (stats["cmdstat_publish"]["calls"], stats["cmdstat_client|unblock"]["calls"]) == (1, 1)
    driver.push([b"b"], 0.7)
    assert rung.info("commandstats")["cmdstat_publish"]["calls"] == 1
