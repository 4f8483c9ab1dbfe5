"""Cron entries in simulated worlds: each tick once, whatever processes, clocks, deploys and the network do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from random import Random
from typing import Any

import pytest
from kashvi_sim.runs.play import play
from kashvi_sim.world.kernel import EPOCH
from kashvi_sim.world.process import SimQueue
from kashvi_sim.world.runtime import SimRuntime
from kashvi_sim.world.world import World
from kashvi_spec.kit.museum import MUSEUM

from kashvi import current
from kashvi.cron.schedule import Schedule
from kashvi.drivers.lines import MemoryStore
from kashvi.drivers.memory import MemoryDriver
from kashvi.errors import CommandRefused, ReplyLost
from kashvi.events import AnyEvent, JobDispatched, ScheduleReset, TickRefused, TicksMissed
from kashvi.queues import Queue
from kashvi.registry import Registry
from kashvi.runtime import SystemRuntime
from kashvi.worker.ticker import Ticker

from .test_workloads import workload_named

ran: list[datetime | None] = []
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0


@dataclass
class Report:
    what: str = "daily"

    def handle(self) -> None:
        ran.append(current().tick)


@pytest.fixture
def world(registry: Registry) -> World:
    ran.clear()
    registry.register("jobs.Report", Report)
    return World(registry=registry)


def worker(world: World, expression: str = "* * * * *", skew_s: float = 0.0, **options: Any) -> SimQueue:
    """A process with one entry and one thread."""
    queue = world.process(skew_s=skew_s)
    queue.cron(expression, Report(), **options)
    queue.start_workers(1)
    return queue


def fired(world: World) -> list[float]:
    """The ticks that were dispatched, in seconds after the start, in the order of their events."""
    return [one.tick - EPOCH for one in world.events if isinstance(one, JobDispatched) and one.cron]


def ticks(expression: str, after: float, until: float, zone: str = "UTC") -> list[int]:
    return Schedule(expression, zone).between(after, until, 10**9)[0]


def test_a_tick_fires_once_and_the_first_start_fires_nothing(
    new_world: Callable[..., World], registry: Registry
) -> None:
    """Five workers, three of them with wrong clocks, on each driver. A tick runs at its time."""
    registry.register("jobs.Report", Report)
    world = new_world()
    ran.clear()
    for skew_s in (0.0, 0.0, HOUR, -HOUR, 5.0):
        worker(world, skew_s=skew_s)
    world.run(for_s=5 * MINUTE + 1)
    assert fired(world) == [60.0, 120.0, 180.0, 240.0, 300.0]
    assert ran == [datetime.fromtimestamp(EPOCH, UTC) + timedelta(minutes=n) for n in range(1, 6)]
    assert world.broken() == []


def test_a_worker_without_entries_asks_nothing(world: World) -> None:
    """No call, and no thread."""
    calls: Counter[str] = Counter()
    world._hook = lambda point, process: calls.update([point])
    queue = world.process()
    queue.start_workers(1)
    world.run(for_s=90)
    assert calls["before tick"] == 0
    assert not any("cron" in task.name for task in world.kernel.tasks())


def test_a_stopped_worker_fires_no_more_and_its_thread_ends(world: World) -> None:
    queue = worker(world)
    world.run(for_s=61)
    world.terminate(queue.process)
    world.run(for_s=200)
    assert fired(world) == [60.0]
    assert world.kernel.tasks() == []


def test_a_drained_worker_does_not_wait_for_ticks(world: World) -> None:
    """Nor does one that stops when its queue is empty."""
    queue = world.process()
    queue.cron("0 0 1 1 *", Report())
    queue.dispatch(Report())
    world.drain(queue)
    assert world.elapsed_s < 5
    assert ran == [None]


def test_idle_days_are_leapt_over_and_each_tick_comes(world: World) -> None:
    """As in the fixture ``sim``."""
    worker(world, "0 9 * * *")
    worker(world, "0 9 * * *")
    world.advance(10 * DAY)
    assert fired(world) == [tick - EPOCH for tick in ticks("0 9 * * *", EPOCH, EPOCH + 10 * DAY)]
    assert len(ran) == 10


def test_a_lost_reply_and_a_dead_process_lose_no_tick_and_double_none(world: World) -> None:
    """The worker whose tick was carried out asks again, and is told so."""
    struck: Counter[str] = Counter()

    def fault(point: str, process: SimRuntime) -> None:
        if point in ("before tick", "after tick"):
            struck[point] += 1
            if struck[point] % 3 == 0:
                raise ReplyLost("lost", "the server") if point == "after tick" else CommandRefused("OOM", "the server")

    world._hook = fault
    queues = [worker(world) for _ in range(3)]
    world.run(for_s=10 * MINUTE)
    world.kill(queues[0])
    world.run(for_s=10 * MINUTE + 30)
    assert Counter(ran) == Counter(datetime.fromtimestamp(EPOCH, UTC) + timedelta(minutes=n) for n in range(1, 21))
    assert any(isinstance(one, TickRefused) for one in world.events)


@pytest.mark.parametrize(
    ("missed", "fires", "cut"),
    [
        ("once", [21600.0], 5),
        ("all", [3600.0 * n for n in range(1, 7)], 0),
        ("skip", [], 6),
    ],
)
def test_missed_ticks_fire_as_the_entry_says(world: World, missed: Any, fires: list[float], cut: int) -> None:
    """After six hours and a half without a worker; what is left out is told once."""
    queue = worker(world, "0 * * * *", missed=missed)
    world.run(for_s=1)
    world.kill(queue)
    world.kernel.leap(6.5 * HOUR)
    for _ in range(2):
        worker(world, "0 * * * *", missed=missed)
    world.run(for_s=10)
    assert fired(world) == fires
    assert sum(one.count for one in world.events if isinstance(one, TicksMissed)) == cut
    world.advance(HOUR)
    assert fired(world) == [*fires, 7 * HOUR]


def test_no_tick_is_older_than_max_late_and_at_most_a_thousand_fire(world: World) -> None:
    for name, late in (("short", timedelta(hours=2)), ("long", 1000 * DAY)):
        queue = worker(world, "* * * * *", missed="all", max_late=late, name=name)
        world.run(for_s=1)
        world.kill(queue)
    world.kernel.leap(DAY)
    queue = world.process()
    for name, late in (("short", timedelta(hours=2)), ("long", 1000 * DAY)):
        queue.cron("* * * * *", Report(), missed="all", max_late=late, name=name)
    queue.start_workers(4)
    world.run(for_s=20)
    by_name = Counter(one.cron for one in world.events if isinstance(one, JobDispatched))
    assert by_name == {"short": 120, "long": 1000}
    told = {one.name: (one.count, one.more) for one in world.events if isinstance(one, TicksMissed)}
    assert told == {"short": (881, True), "long": (1, True)}


def test_a_server_clock_that_was_ahead_is_reset_once(world: World) -> None:
    """It stood in 2030 for a while. The entry starts afresh within an hour, and says so."""
    for _ in range(2):
        worker(world, "*/10 * * * *")
    world.run(for_s=700)
    world.server.skew_s = 3 * 365 * DAY
    world.run(for_s=3700)
    world.server.skew_s = 0.0
    before = len(fired(world))
    world.run(for_s=2.5 * HOUR)
    assert sum(isinstance(one, ScheduleReset) for one in world.events) == 1
    after = fired(world)[before:]
    assert after == sorted(set(after))
    assert len(after) >= 8


def test_two_tables_in_a_rolling_deploy_fire_no_tick_from_before_it(world: World) -> None:
    """A weekly entry becomes an hourly one, and both are alive for a day."""
    old = [worker(world, "0 0 * * 0", missed="all") for _ in range(2)]
    world.advance(5 * DAY)
    assert len(fired(world)) <= 1
    world.kill(old[0])
    seen, deployed = len(fired(world)), world.kernel.time
    worker(world, "0 * * * *", missed="all")
    world.advance(DAY)
    world.kill(old[1])
    worker(world, "0 * * * *", missed="all")
    world.advance(DAY - 5)
    expected = {*ticks("0 * * * *", deployed, world.kernel.time), *ticks("0 0 * * 0", deployed, world.kernel.time)}
    assert fired(world)[seen:] == [tick - EPOCH for tick in sorted(expected)]


def test_pause_stops_claims_and_not_ticks(world: World) -> None:
    queue = worker(world)
    queue.pause()
    world.run(for_s=130)
    assert (fired(world), ran) == ([60.0, 120.0], [])


def test_each_tick_fires_once_whatever_strikes() -> None:
    """The workload, with all faults and with those of a network. Each call is held against a reference of its own."""
    fired = 0
    for faults in ("all", "kill,sigterm,restart,reply_lost,applied_late,pause"):
        for seed in range(5):
            played = play(workload_named("cron"), seed=seed, faults=faults)
            assert played.violations == [], (faults, seed)
            fired += sum(isinstance(one, JobDispatched) and bool(one.cron) for one in played.world.events)
    assert fired > 30


def test_a_tick_that_fires_twice_is_seen_at_once() -> None:
    with MUSEUM["each process fires its ticks"].planted():
        played = play(workload_named("cron"), seed=0, faults="applied_late,latency,pause")
    assert "each tick once" in {one.predicate for one in played.violations}


def test_missed_ticks_that_all_fire_are_seen() -> None:
    """Whatever their entry says."""
    with MUSEUM["all missed ticks fire, however old they are"].planted():
        runs = [play(workload_named("cron"), seed=seed, faults="all") for seed in (20, 22, 27)]
    found = {one.predicate for run in runs for one in run.violations}
    assert found == {"late ticks as the entry says"}


# -- a year ----------------------------------------------------------------------------------------


class Clocked(SystemRuntime):
    """The runtime of one of the year's processes."""

    def __init__(self, now: list[float], skew_s: float) -> None:
        self._now = now
        self._skew_s = skew_s

    def now(self) -> float:
        return self._now[0] + self._skew_s

    def monotonic(self) -> float:  # type: ignore[override]
        return self._now[0] - 1e9 + self._skew_s


class Year:
    """Five workers of one queue ask at the times that their tickers say. Now and then one dies, hangs, loses a reply,
    or comes back with another version of the table."""

    def __init__(self, begins: datetime, entries: dict[str, list[tuple[str, str]]], seed: int) -> None:
        self.now = [begins.timestamp()]
        self.end = begins.replace(year=begins.year + 1).timestamp()
        self.driver = MemoryDriver(store=MemoryStore(lambda: self.now[0], SystemRuntime().condition()))
        self.registry = Registry()
        self.registry.register("jobs.Report", Report)
        self.entries = entries
        self.chance = Random(seed)
        self.events: list[AnyEvent] = []

    def start(self, skew_s: float, version: int) -> Ticker:
        runtime = Clocked(self.now, skew_s)
        queue = Queue(self.driver, registry=self.registry, runtime=runtime)
        for name, versions in self.entries.items():
            expression, zone = versions[min(version, len(versions) - 1)]
            queue.cron(expression, Report, tz=zone, name=name, missed="all")
        queue.observe(self.events.append)
        return queue._ticker(f"w{skew_s}")

    def play(self) -> None:
        heap: list[tuple[float, int, Ticker, float, int]] = []
        for n, skew_s in enumerate((0.0, 3600.0, -3600.0, 0.3, -0.7)):
            heappush(heap, (self.now[0], n, self.start(skew_s, 0), skew_s, 0))
        while heap[0][0] < self.end:
            self.now[0], n, ticker, skew_s, version = heappop(heap)
            wait_s = ticker.look()
            if self.chance.random() < 0.003:  # it dies, and comes back after up to four hours
                version = self.chance.randrange(2)
                ticker, wait_s = self.start(skew_s, version), self.chance.random() * 14400
            elif self.chance.random() < 0.003:  # it stands still
                wait_s += self.chance.random() * 7200
            heappush(heap, (self.now[0] + wait_s, n, ticker, skew_s, version))

    def fired(self, name: str) -> list[int]:
        return [int(one.tick) for one in self.events if isinstance(one, JobDispatched) and one.cron == name]


BERLIN, SAO_PAULO = "Europe/Berlin", "America/Sao_Paulo"


@pytest.mark.parametrize(("zone", "begins"), [(BERLIN, 2027), (SAO_PAULO, 2018)])
def test_a_year_with_both_changes_of_the_clock_fires_each_tick_once(zone: str, begins: int) -> None:
    """Fixed times and wildcards. Brazil's clock was changed at midnight then."""
    expressions = {"nightly": "30 2 * * *", "midnight": "0 0 * * *", "hourly": "0 * * * *", "nights": "*/15 0-3 * * *"}
    year = Year(datetime(begins, 1, 1, 0, 0, 30, tzinfo=UTC), {n: [(e, zone)] for n, e in expressions.items()}, seed=1)
    first = year.now[0]
    year.play()
    for name, expression in expressions.items():
        expected = ticks(expression, first, year.now[0], zone)
        assert year.fired(name) == expected[: len(year.fired(name))], name
        assert len(year.fired(name)) >= len(expected) - 1
    assert year.driver.stats().ready == sum(len(year.fired(name)) for name in expressions)


def test_a_year_with_two_versions_of_the_table_fires_no_tick_twice_and_none_of_both_is_lost() -> None:
    """Each tick of either version fires at most once; those of both are never lost."""
    year = Year(
        datetime(2027, 1, 1, 0, 0, 30, tzinfo=UTC), {"a": [("0 */4 * * *", BERLIN), ("0 */2 * * *", BERLIN)]}, seed=2
    )
    first = year.now[0]
    year.play()
    found = year.fired("a")
    assert found == sorted(set(found))
    assert set(found) <= set(ticks("0 */2 * * *", first, year.now[0], BERLIN))
    both = ticks("0 */4 * * *", first, year.now[0] - 4 * HOUR, BERLIN)
    assert set(both) <= set(found)
