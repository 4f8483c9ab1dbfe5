"""What a job costs: counted, not timed, on a real Valkey, and asserted to the last command and byte.

A change that makes a job dearer fails here; one that makes it cheaper changes these numbers in the same commit.
The clock stands still and the keeper comes last, so that nothing depends on how fast the machine is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from kashvi.drivers.redis import RedisDriver
from kashvi.ports import Task
from kashvi.queue import Queue
from kashvi.registry import Registry
from kashvi.runtime import SystemRuntime

from .launch import RedisServer

JOBS = 3000
SENT = ("evalsha", "eval", "blmove")
"""What a worker sends; everything else is run by these scripts."""
TRIPS = 13
"""One for each three hundred jobs, the first for one (their duration is unknown yet), and the worker's leave."""
REPORT = 1
"""A worker that leaves reports what it has counted; before that it reports every five seconds of real time."""
REPORT_COMMANDS = 9
"""Of which two are EXPIRE; and one HINCRBY for each kind of end, and for each bucket of durations."""
COMMANDS = 3221 + 2 * TRIPS + REPORT_COMMANDS
"""Each exchange asks, once each, whether the queue is paused and whether a job was cancelled."""
ENVELOPE = 66
LOOKS = 2 * (TRIPS - 1)
"""What an exchange asks only where jobs are delayed: which are due, and when the next one is."""
SENT_MORE = 10
"""Of which 0.2 are the keys that say whether the queue is paused and what was cancelled."""
ran: list[int] = []


@dataclass
class Welcome:
    user_id: int
    email: str

    def handle(self) -> None:
        ran.append(self.user_id)


@dataclass
class Hopeless(Welcome):
    def handle(self) -> None:
        raise ValueError


@dataclass
class Hurried(Welcome):
    """Its type has a time limit."""


class Deferred:
    """A thread that runs when it is joined."""

    def __init__(self, run: Callable[[], None]) -> None:
        self._run = run

    def join(self, timeout: float | None = None) -> None:
        self._run()

    def is_alive(self) -> bool:
        return False


class Still(SystemRuntime):
    """Time that does not pass."""

    def monotonic(self) -> float:
        return 1000.0

    def spawn(self, run: Callable[[], None], name: str) -> Task:
        return Deferred(run)


@pytest.fixture
def queue(valkey: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Queue:
    """Its scripts are known to the server. What a worker looks for at its start is no cost of a job."""
    monkeypatch.setattr(RedisDriver, "check", lambda self: [])
    registry = Registry()
    registry.register("jobs.Welcome", Welcome)
    registry.register("jobs.Hopeless", Hopeless)
    queue = Queue(RedisDriver(valkey.url), registry=registry, runtime=Still())
    queue.dispatch(Welcome(0, ""))
    queue.work(stop_when_empty=True)
    ran.clear()
    return queue


def commands(server: RedisServer) -> dict[str, int]:
    """What the server ran since its counters were reset."""
    stats: Any = server.client().info("commandstats")
    names = {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in stats.items()}
    return {name: calls for name, calls in names.items() if "|" not in name and name not in ("info", "hello")}


def drained(server: RedisServer, queue: Queue, job: type[Welcome] = Welcome) -> dict[str, int]:
    queue.dispatch_many([job(10_000 + n, f"user{10_000 + n}@example.com") for n in range(JOBS)])
    server.client().config_resetstat()
    queue.work(stop_when_empty=True)
    return commands(server)


@pytest.mark.parametrize("run", range(10))
def test_a_job_costs_a_three_hundredth_of_a_round_trip_and_one_command(
    queue: Queue, valkey: RedisServer, run: int
) -> None:
    """Claims of three hundred, each with the settlements of the last three hundred."""
    cost = drained(valkey, queue)
    assert ran == [10_000 + n for n in range(JOBS)]
    assert sum(cost.get(name, 0) for name in SENT) == TRIPS + REPORT
    assert sum(cost.values()) - TRIPS - REPORT - cost["hincrby"] == COMMANDS
    assert cost["lrem"] == JOBS


@pytest.mark.parametrize("run", range(3))
def test_what_is_sent_for_a_job_that_is_done_is_its_envelope(queue: Queue, valkey: RedisServer, run: int) -> None:
    """And a few bytes around it, the share of the exchange itself included."""
    queue.dispatch_many([Welcome(10_000 + n, "user@example.com") for n in range(JOBS)])
    client: Any = valkey.client()
    envelope = len(client.lindex("kashvi:queue:jobs", 0))
    client.config_resetstat()
    queue.work(stop_when_empty=True)
    assert client.info("stats")["total_net_input_bytes"] // JOBS == envelope + SENT_MORE


@pytest.mark.parametrize("run", range(3))
def test_a_failed_attempt_costs_two_commands_more(queue: Queue, valkey: RedisServer, run: int) -> None:
    """It is looked for, put where it waits for its next attempt, and removed; no round trip is added."""
    cost = drained(valkey, queue, Hopeless)
    assert sum(cost.get(name, 0) for name in SENT) == TRIPS + REPORT
    assert sum(cost.values()) - TRIPS - REPORT - cost["hincrby"] == COMMANDS + 2 * JOBS + LOOKS


def test_a_time_limit_costs_the_server_nothing(queue: Queue, valkey: RedisServer) -> None:
    """No round trip, no command and no byte: it is in no envelope."""
    queue.register("jobs.Hurried", Hurried, timeout=30)
    plain, hurried = drained(valkey, queue), drained(valkey, queue, Hurried)
    assert {**plain, "hincrby": 0} == {**hurried, "hincrby": 0}
    assert len(ran) == 2 * JOBS


def test_dispatching_is_one_command_and_one_round_trip(queue: Queue, valkey: RedisServer) -> None:
    """However many jobs at a time."""
    client = valkey.client()
    client.config_resetstat()
    for n in range(10):
        queue.dispatch(Welcome(n, ""))
    assert commands(valkey) == {"lpush": 10}
    queue.dispatch_many([Welcome(n, "") for n in range(JOBS)])
    assert commands(valkey) == {"lpush": 11}


def test_a_queued_job_takes_its_envelope_and_a_few_bytes(queue: Queue, valkey: RedisServer) -> None:
    """An envelope is a fixed 66 bytes around the payload and the type's name."""
    client: Any = valkey.client()
    queue.dispatch_many([Welcome(10_000 + n, f"user{10_000 + n}@example.com") for n in range(JOBS)])
    payload = len('{"user_id":10000,"email":"user10000@example.com"}')
    sizes = {len(raw) for raw in client.lrange("kashvi:queue:jobs", 0, -1)}
    assert sizes == {payload + len("jobs.Welcome") + ENVELOPE}
    overhead = client.memory_usage("kashvi:queue:jobs", samples=0) / JOBS - sizes.pop()
    assert overhead < 8
