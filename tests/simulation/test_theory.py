"""Truth: where queueing theory knows the answer, the simulated workers give it.

Poisson arrivals at real workers, in replications with seeds of their own, so that nothing here is left to chance. The
theoretical mean wait must lie within the 99 % confidence interval of what was seen (Student's t), and a queue with one
server more must not. Ten replications of a busy queue leave that interval wide, so every single wait must also be what
the recursion of Kiefer and Wolfowitz makes of the same arrivals and services; and of the recursion there are hundreds
of replications, whose narrow interval holds the theory too.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from statistics import fmean, stdev
from typing import NamedTuple

import pytest
from kashvi_sim.runs.arrivals import Poisson
from kashvi_sim.runs.durations import Exponential, Fixed
from kashvi_sim.world.tape import Tape
from kashvi_sim.world.world import World

from kashvi.events import AttemptStarted, Event, JobDispatched, JobSucceeded
from kashvi.registry import Registry

JOBS, WARM_UP = 1_200, 300
SEEDS = range(10)
T_99 = 3.250
"""Student's t for 10 replications, both sides."""
MANY = range(400)
T_99_MANY = 2.588
SERVICE_S = 1.0
LOOK_S = 0.25


def erlang_c(load: float, servers: int) -> float:
    """The share of jobs that must wait, at an offered load of ``load`` busy servers."""
    last = load**servers / math.factorial(servers) * servers / (servers - load)
    return last / (sum(load**k / math.factorial(k) for k in range(servers)) + last)


def wait_mmc(rate: float, servers: int) -> float:
    """Mean wait with exponential services of SERVICE_S."""
    return erlang_c(rate * SERVICE_S, servers) / (servers / SERVICE_S - rate)


def wait_md1(rate: float) -> float:
    """Pollaczek and Khinchine, for services that all take SERVICE_S."""
    return rate * SERVICE_S**2 / (2 * (1 - rate * SERVICE_S))


class Seen(NamedTuple):
    """Of one replication."""

    waits_s: list[float]
    """From dispatch to start, in the order of dispatch."""
    sojourn_s: float
    """From dispatch to settled, of all jobs."""
    rate: float
    """Jobs a second, over the time that was looked at."""
    in_system: float
    """How many jobs were on the server or held by a worker, at each look."""


class Case(NamedTuple):
    """``theory_s``: the mean wait by the textbook, and that of the same queue with one server more."""

    rate: float
    service: Exponential | Fixed
    servers: int
    theory_s: float
    wrong_s: float


EXPONENTIAL, FIXED = Exponential(mean_s=SERVICE_S), Fixed(seconds=SERVICE_S)
CASES = {
    "M/M/1 at half use": Case(0.5, EXPONENTIAL, 1, wait_mmc(0.5, 1), wait_mmc(0.5, 2)),
    "M/M/1 at 80 %": Case(0.8, EXPONENTIAL, 1, wait_mmc(0.8, 1), wait_mmc(0.8, 2)),
    "M/M/4 at 80 %": Case(3.2, EXPONENTIAL, 4, wait_mmc(3.2, 4), wait_mmc(3.2, 5)),
    "M/D/1 at 80 %": Case(0.8, FIXED, 1, wait_md1(0.8), wait_mmc(0.8, 1)),
}


def draws(case: Case, seed: int) -> tuple[Iterator[float], Iterator[float]]:
    """Gaps between arrivals, and services in the order they begin."""
    services = Tape(f"services {seed}").workload
    gaps = Poisson(jobs=JOBS, rate=case.rate).gaps(Tape(f"arrivals {seed}").workload)
    return gaps, (case.service.draw(services) for _ in count())


def recursion(case: Case, seed: int) -> list[float]:
    """Waits, first come first served, from arrivals and services alone."""
    gaps, services = draws(case, seed)
    free, now, waits = [0.0] * case.servers, 0.0, []
    for gap in gaps:
        now += gap
        start = max(now, heapq.heappop(free))
        waits.append(start - now)
        heapq.heappush(free, start + next(services))
    return waits


def simulate(case: Case, seed: int) -> Seen:
    """Real workers, from the first job until all are done; meanwhile the server is asked how many jobs it has."""
    registry = Registry()
    world = World(tape=Tape(f"theory {seed}"), registry=registry, virtual_handlers=False)
    arrivals, services = draws(case, seed)

    @dataclass
    class Work:
        n: int

        def handle(self) -> None:
            world.kernel.sleep(next(services))

    registry.register("jobs.Work", Work)
    looks: list[int] = []

    def produce() -> None:
        for n, gap in enumerate(arrivals):
            world.kernel.sleep(gap)
            shop.dispatch(Work(n))

    def look() -> None:
        while len(settled) < JOBS:
            stats = world.server.driver.stats()
            looks.append(stats.ready + stats.held)
            world.kernel.sleep(LOOK_S)

    shop = world.process()
    came: dict[str, float] = {}
    started: dict[str, float] = {}
    settled: dict[str, float] = {}

    def note(event: Event) -> None:
        if isinstance(event, JobDispatched):
            came[event.job_id] = world.kernel.time
        elif isinstance(event, AttemptStarted):
            started[event.job_id] = world.kernel.time
        elif isinstance(event, JobSucceeded):
            settled[event.job_id] = world.kernel.time

    worker = world.process()
    worker.observe(note)
    worker.start_workers(case.servers)
    shop.observe(note)
    shop.process.spawn(produce, "produce")
    world.kernel.spawn(look, "look")
    world.run(until=lambda: len(settled) == JOBS)
    passed_s = world.elapsed_s
    world.close()
    order = list(came)
    return Seen(
        [started[job] - came[job] for job in order],
        fmean(settled[job] - came[job] for job in order),
        JOBS / passed_s,
        fmean(looks),
    )


def interval(means: list[float], t: float) -> tuple[float, float]:
    half = t * stdev(means) / math.sqrt(len(means))
    return fmean(means) - half, fmean(means) + half


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def test_workers_give_what_queueing_theory_says(case: Case) -> None:
    """The mean wait, every single wait, and Little's law."""
    seen = [simulate(case, seed) for seed in SEEDS]
    the_textbooks_mean_wait_lies_within(seen, case)
    every_job_waits_exactly_as_long_as_the_recursion_says(seen, case)
    littles_law_holds(seen)


def the_textbooks_mean_wait_lies_within(seen: list[Seen], case: Case) -> None:
    """Erlang's C, Pollaczek and Khinchine; and what another queue would give lies outside."""
    low, high = interval([fmean(one.waits_s[WARM_UP:]) for one in seen], T_99)
    assert low <= case.theory_s <= high
    assert not low <= case.wrong_s <= high


def every_job_waits_exactly_as_long_as_the_recursion_says(seen: list[Seen], case: Case) -> None:
    """In each replication: no worker loses time, and no job overtakes another. (Time is in whole microseconds.)"""
    for seed, one in zip(SEEDS, seen, strict=True):
        assert one.waits_s == pytest.approx(recursion(case, seed), abs=1e-4)


def littles_law_holds(seen: list[Seen]) -> None:
    """Jobs in the system, counted on the server, are arrivals a second times the time each was there, by its events."""
    for one in seen:
        assert one.in_system == pytest.approx(one.rate * one.sojourn_s, rel=0.02)


def test_hundreds_of_replications_of_the_recursion_come_to_the_textbooks_mean(case: Case) -> None:
    """Within an interval of a few per cent."""
    low, high = interval([fmean(recursion(case, seed)[WARM_UP:]) for seed in MANY], T_99_MANY)
    assert low <= case.theory_s <= high
    assert high - low < 0.2 * case.theory_s
