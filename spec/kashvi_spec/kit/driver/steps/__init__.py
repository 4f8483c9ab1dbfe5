"""Steps: checks of a driver alone, method by method, with the required answers.

A step is a function of a Bench; it raises AssertionError with a sentence. Each step belongs to a clause.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

from kashvi_sim.world.kernel import EPOCH

from kashvi.cancelling import Cancelling
from kashvi.named import NamedQueues
from kashvi.names import DEFAULT
from kashvi.ports import Driver, Exchange, Move, Pausing, Place, Settlement, Want
from kashvi.relaying import Relaying
from kashvi.reporting import Reporting
from kashvi.runtime import SystemRuntime
from kashvi.ticking import Ticking

from ..subject import Clock, DriverUnderTest

REAL_S = 0.05
"""The real duration of a step's second with a driver that has its own clock."""


def emptied(subject: DriverUnderTest, now: Clock) -> Driver:
    """An empty queue. Raises AssertionError if it is not empty."""
    driver = subject.empty(now)
    stats = driver.stats()
    if stats.ready + stats.delayed + stats.held + stats.unrecorded + stats.workers:
        raise AssertionError(f"empty() returned a queue that is not empty: {stats}")
    return driver


class Bench:
    """A driver with an empty queue, and its clock."""

    def __init__(self, subject: DriverUnderTest) -> None:
        self._subject = subject
        self.now = EPOCH + 0.625  # not a whole second, so that rounding shows
        self.second = 1.0 if subject.heeds_clock else REAL_S
        self.moment = 0.01 if subject.heeds_clock else 0.5
        """The margin before and after a time at which a step checks; timers are coarse."""
        self.shared = subject.again is not None
        self.driver = emptied(subject, lambda: self.now)

    def let_pass(self, seconds: float) -> None:
        """Let time pass: on the clock, or in real time at twenty times the speed."""
        if self._subject.heeds_clock:
            self.now += seconds
        else:
            SystemRuntime().sleep(seconds * REAL_S)

    def put(self, queue: str, *envelopes: bytes, delay: float = 0.0) -> None:
        """Push to a named queue. Raises Lacking."""
        naming(self.driver).push(envelopes, delay * self.second, [queue] * len(envelopes))

    def needs_follow_ups(self) -> None:
        """Raises Lacking."""
        follow_ups_of(self.driver)

    def another_handle(self) -> Driver:
        assert self._subject.again is not None
        return self._subject.again(self.driver)

    def push(self, *envelopes: bytes, delay: float = 0.0) -> float | None:
        return self.driver.push(envelopes, delay * self.second)

    def worker(self, name: str = "w", lease: float = 10.0) -> Hand:
        return Hand(self, name, lease * self.second, self.driver)

    def lease_end(self, owner: str) -> float | None:
        """The end of a dead worker's lease, as ``expired`` has it."""
        return {one.owner: one.lease_end for one in self.driver.expired(100).lost}[owner]

    def lost(self, limit: int = 100) -> list[tuple[str, str, bytes]]:
        return [(one.owner, one.place, one.envelope) for one in self.driver.expired(limit).lost]

    def counts(self) -> tuple[int, int, int, int]:
        """Ready, delayed, held, unrecorded."""
        stats = self.driver.stats()
        return stats.ready, stats.delayed, stats.held, stats.unrecorded


class Lacking(Exception):
    """The driver lacks an ability that a check needs."""


def follow_ups_of(driver: Driver) -> None:
    """Raises Lacking if the driver has none."""
    if not getattr(driver, "follows_up", False):
        raise Lacking("it has no follow-ups, which is allowed: current().dispatch() says so")


def pausing(driver: Driver) -> Pausing:
    """The driver. Raises Lacking if its queue can't be paused."""
    if not isinstance(driver, Pausing):
        raise Lacking("its queue can't be paused, which is allowed: queue.pause() says so")
    return driver


def cancelling(driver: Driver) -> Cancelling:
    """The driver. Raises Lacking if its jobs can't be cancelled."""
    if not isinstance(driver, Cancelling):
        raise Lacking("its jobs can't be cancelled, which is allowed: queue.cancel() says so")
    return driver


def naming(driver: Driver) -> NamedQueues:
    """The driver. Raises Lacking if it has one queue alone."""
    if not getattr(driver, "names_queues", False):
        raise Lacking("it has one queue, which is allowed: a dispatch to another queue says so")
    return cast(NamedQueues, driver)


def ticking(driver: Driver) -> Ticking:
    """The driver. Raises Lacking if it keeps no ticks."""
    if not getattr(driver, "keeps_ticks", False):
        raise Lacking("it keeps no ticks, which is allowed: a worker with cron entries says so")
    return cast(Ticking, driver)


def reporting(driver: Driver) -> Reporting:
    """The driver. Raises Lacking if it takes no reports."""
    if not isinstance(driver, Reporting):
        raise Lacking("it takes no reports, which is allowed: pages say that history is not offered")
    return driver


def relaying(driver: Driver) -> Relaying:
    """The driver. Raises Lacking if outboxes are not relayed to it."""
    if not isinstance(driver, Relaying):
        raise Lacking("outboxes are not relayed to it, which is allowed: a dispatch in a transaction says so")
    return driver


@dataclass
class Hand:
    """A worker's side of the port: it counts its exchanges."""

    bench: Bench
    name: str
    lease_s: float
    driver: Driver
    n: int = 0
    said: list[Exchange] = field(default_factory=list)

    def exchange(self, *settlements: Settlement, want: Want = 0) -> Exchange:
        self.n += 1
        return self.repeat(*settlements, want=want)

    def repeat(self, *settlements: Settlement, want: Want = 0) -> Exchange:
        """The same number again, as after a lost reply."""
        driver = cast(NamedQueues, self.driver)  # as such only if it has named queues
        answer = driver.exchange(self.name, self.n, self.lease_s, settlements, want)
        self.said.append(answer)
        return answer

    def claim(self, want: int = 1) -> list[bytes]:
        return list(self.exchange(want=want).claimed)

    def claim_all(self) -> list[bytes]:
        """Claim all jobs, in several exchanges: one may claim less than it wants. All envelopes must differ."""
        claimed: dict[bytes, None] = {}
        while part := self.claim(1000):
            if again := claimed.keys() & part:
                raise AssertionError(f"claimed a second time: {_brief(min(again))}")
            claimed |= dict.fromkeys(part)
        return list(claimed)

    def settle(self, move: Move, old: bytes, new: bytes = b"", place: Place = "held", owner: str = "") -> bool:
        """True if the settlement was accepted."""
        return not self.exchange(self.settlement(move, old, new, place, owner)).refused

    def settlement(
        self,
        move: Move,
        old: bytes = b"",
        new: bytes = b"",
        place: Place = "held",
        owner: str = "",
        in_s: float = 0.0,
        lease_end: float | None = None,
        queue: str = DEFAULT,
        job_id: str = "",
    ) -> Settlement:
        wait_s = in_s * self.bench.second
        settlement = Settlement(move, owner or self.name, place, old, new, wait_s, lease_end, (), queue)
        return settlement._replace(job_id=job_id) if job_id else settlement


Run = Callable[[Bench], None]


@dataclass(frozen=True)
class Step:
    """One step with its clause."""

    clause: str
    says: str
    run: Run
    needs_clock: bool
    needs_again: bool


STEPS: list[Step] = []


def step(clause: str, *, needs_clock: bool = False, needs_again: bool = False) -> Callable[[Run], Run]:
    """Register a step. Its docstring's first line says what must hold."""

    def note(run: Run) -> Run:
        says = (run.__doc__ or "").partition("\n")[0]
        STEPS.append(Step(clause, says, run, needs_clock, needs_again))
        return run

    return note


def expect(got: object, wanted: object, what: str) -> None:
    """Raise AssertionError with a sentence unless both are equal."""
    if got != wanted:
        raise AssertionError(f"{what}: {_brief(got)}, not {_brief(wanted)}")


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


def envelopes(n: int, start: int = 0) -> Sequence[bytes]:
    """Distinct envelopes, in the order of their bytes."""
    return [b'{"id":"%06d","type":"t","payload":{}}' % i for i in range(start, start + n)]


from . import cancels, claiming, failing, leases, queues, relays, reports, settling, ticks  # noqa: E402, F401
