"""Bugs of delays: due times rounded, lost, or by the wrong clock; promotion out of order, or by two at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from math import ceil
from typing import Any

from kashvi_sim.world.network import Line

from kashvi import dispatch
from kashvi.drivers.memory import MemoryDriver
from kashvi.ports import Exchange, Expired
from kashvi.queues import Queue
from kashvi.worker.machine.steps import SECOND
from kashvi.worker.shell import Worker

from . import Patch, exhibit, where

Entry = tuple[float, bytes]


def due(self: MemoryDriver) -> list[Entry]:
    """The entries that the next exchange promotes."""
    now = self.store.now()
    return sorted(entry for entry in self.store.delayed if entry[0] <= now)


def promoting(
    patch: Patch, when: Callable[[MemoryDriver], bool], change: Callable[[MemoryDriver, list[Entry]], None]
) -> None:
    """Call ``change(driver, due)`` before an exchange with due jobs, if ``when(driver)`` holds."""

    def exchange(real: Any, self: MemoryDriver, *args: Any) -> Exchange:
        with self.store.condition:
            change(self, due(self))
            answer: Exchange = real(self, *args)
            return answer

    where(patch, MemoryDriver, "exchange", lambda self, *args: bool(self.store.delayed) and when(self), exchange)


def delaying(patch: Patch, when: Callable[[float], bool], change: Callable[[float], float]) -> None:
    """Replace a due time by ``change(due)``, if ``when(delay_s)`` holds."""

    def push(
        real: Any, self: MemoryDriver, envelopes: Sequence[bytes], delay_s: float = 0.0, *queues: Any
    ) -> float | None:
        now = self.store.now()
        at: float | None = real(self, envelopes, max(change(now + delay_s) - now, 1e-9), *queues)
        return at

    where(
        patch, MemoryDriver, "push", lambda self, envelopes, delay_s=0.0, *queues: delay_s > 0 and when(delay_s), push
    )


@exhibit(
    "early promotion",
    "due times are rounded down to the half second",
    "DELAY-1",
    source="Go kashvi: floor of the Unix seconds",
    also="RETRY-9",
)
def _(patch: Patch) -> None:
    def round_down(self: MemoryDriver, found: list[Entry]) -> None:
        soon = self.store.now() + 0.11  # in real time, a due time this near may be early or not by chance
        self.store.delayed = sorted((at if at < soon else at // 0.5 * 0.5, e) for at, e in self.store.delayed)

    promoting(patch, lambda self: any(at % 0.5 for at, _ in self.store.delayed), round_down)


@exhibit("due is nearly due", "a worker finds it twenty milliseconds early", "DELAY-1", also="DELAY-2 RETRY-2")
def _(patch: Patch) -> None:
    def hurry(self: MemoryDriver, found: list[Entry]) -> None:
        now = self.store.now()
        self.store.delayed = sorted((now if now < at <= now + 0.02 else at, e) for at, e in self.store.delayed)

    promoting(patch, lambda self: any(0 < at - self.store.now() <= 0.02 for at, _ in self.store.delayed), hurry)


@exhibit(
    "a long delay is never due",
    "a delay of more than nine seconds lasts for ever",
    "DELAY-2 DELIVERY-1",
    source="BullMQ #1656: delayed jobs stuck",
    also="DELAY-9 DISPATCH-1 DELAY-10",
)
def _(patch: Patch) -> None:
    def push(
        real: Any, self: MemoryDriver, envelopes: Sequence[bytes], delay_s: float = 0.0, *queues: Any
    ) -> float | None:
        real(self, envelopes, delay_s + 1e9, *queues)
        return self.store.now() + delay_s

    where(patch, MemoryDriver, "push", lambda self, envelopes, delay_s=0.0, *queues: 9 < delay_s < 100, push)


@exhibit(
    "looks for due jobs every three seconds",
    "it ignores the known due time",
    "DELAY-2",
    source="asynq: the forwarder, every five seconds",
    also="DELAY-1 DISPATCH-5 ENVELOPE-4 RETRY-2 RETRY-3 RETRY-4 RETRY-5 RETRY-8 RETRY-9 "
    "RETRY-10 RETRY-11 RETRY-12 RETRY-13 TABLE-2",
)
def _(patch: Patch) -> None:
    def wait(real: Any, self: Worker, step: Any) -> None:
        self._runtime.sleep(3.0)
        real(self, step)

    def far(self: Worker, step: Any) -> bool:
        at = self.machine.next_due_at
        return at is not None and at - self.now() > SECOND

    where(patch, Worker, "_wait", far, wait)


@exhibit(
    "due times are rounded up",
    "to the second",
    "DELAY-2",
    source="Laravel, Go kashvi: whole seconds",
    also="DELAY-1 DELAY-5 MEMORY-3",
)
def _(patch: Patch) -> None:
    delaying(patch, lambda delay_s: delay_s % 1 > 0, ceil)


@exhibit("a delay of zero is the default", "delay or one second", "DELAY-3")
def _(patch: Patch) -> None:
    zero(patch, 1.0)


@exhibit(
    "a delay of zero is a delay",
    "the job goes behind later jobs without one",
    "DELAY-3",
    source="Go kashvi: zero goes through the sorted set",
)
def _(patch: Patch) -> None:
    zero(patch, 1e-6)


def zero(patch: Patch, delay_s: float) -> None:
    """Treat a delay of zero as ``delay_s``."""
    where(
        patch, Queue, "dispatch_after",
        lambda self, job, delay, **queue: isinstance(delay, int | float) and delay == 0,
        lambda real, self, job, delay, **queue: real(self, job, delay_s, **queue),
    )  # fmt: skip


@exhibit("a negative delay is none", "it is taken as zero", "DELAY-4", source="Go kashvi")
def _(patch: Patch) -> None:
    def negative(delay: Any) -> bool:
        return isinstance(delay, int | timedelta) and bool(delay) and abs(delay) != delay

    lenient(patch, negative, lambda delay: 0.0)


@exhibit("True is a second", "a misplaced flag is a delay", "DELAY-4")
def _(patch: Patch) -> None:
    lenient(patch, lambda delay: isinstance(delay, bool), float)


@exhibit("text is a number", "where it looks like one", "DELAY-4")
def _(patch: Patch) -> None:
    lenient(patch, lambda delay: isinstance(delay, str), float)


@exhibit("a delay may have no end", "the job waits on the server for ever", "DELAY-4")
def _(patch: Patch) -> None:
    lenient(patch, lambda delay: delay == float("inf"), float)


def lenient(patch: Patch, when: Callable[[Any], bool], mend: Callable[[Any], float]) -> None:
    """Convert a delay that should be refused."""
    where(patch, dispatch, "seconds_of", when, lambda real, delay: mend(delay))


@exhibit("promoted in order of dispatch", "due jobs come in the order of their ids, whenever they were due", "DELAY-5")
def _(patch: Patch) -> None:
    def by_id(self: MemoryDriver, found: list[Entry]) -> None:
        now = self.store.now()
        rest = [entry for entry in self.store.delayed if entry[0] > now]
        self.store.delayed = sorted([(now - 1, envelope) for _, envelope in found] + rest)

    promoting(patch, lambda self: len({at for at, _ in due(self)}) > 1, by_id)


@exhibit("the last to be due comes first", "last in, first out", "DELAY-5")
def _(patch: Patch) -> None:
    def backwards(self: MemoryDriver, found: list[Entry]) -> None:
        self.store.delayed = [entry for entry in self.store.delayed if entry not in found]
        self.store.jobs.extendleft(envelope for _, envelope in found[::-1])

    promoting(patch, lambda self: len({at for at, _ in due(self)}) > 2, backwards)


@exhibit("what was delayed goes first", "before jobs that were ready already", "DELAY-5", also="MEMORY-3")
def _(patch: Patch) -> None:
    def ahead(self: MemoryDriver, found: list[Entry]) -> None:
        self.store.delayed = [entry for entry in self.store.delayed if entry not in found]
        self.store.jobs.extend(envelope for _, envelope in found[::-1])

    promoting(patch, lambda self: len(due(self)) > 2 and len(self.store.jobs) > 0, ahead)


def tied(self: MemoryDriver) -> bool:
    """True if two jobs are due at one time."""
    times = [at for at, _ in due(self)]
    return len(times) != len(set(times))


@exhibit("ties in any order", "jobs that are due at one time come newest first", "DELAY-6", also="DELAY-8 MEMORY-3")
def _(patch: Patch) -> None:
    def newest_first(self: MemoryDriver, found: list[Entry]) -> None:
        self.store.delayed = [entry for entry in self.store.delayed if entry not in found]
        found.sort(key=lambda entry: (entry[0], [-byte for byte in entry[1]]))
        self.store.jobs.extendleft(envelope for _, envelope in found)

    promoting(patch, tied, newest_first)


@exhibit(
    "ties in the order of their ends",
    "sorted by the last bytes instead of the first",
    "DELAY-6",
    also="DELAY-8 MEMORY-3",
)
def _(patch: Patch) -> None:
    def by_end(self: MemoryDriver, found: list[Entry]) -> None:
        self.store.delayed = [entry for entry in self.store.delayed if entry not in found]
        found.sort(key=lambda entry: (entry[0], entry[1].partition(b'","')[0][::-1]))
        self.store.jobs.extendleft(envelope for _, envelope in found)

    promoting(patch, tied, by_end)


def producing(patch: Patch, when: Callable[[float], bool]) -> None:
    """Make jobs due by the producer's clock, if ``when(error)`` holds of it."""

    def skew(self: Line) -> float:
        return self._process.now() - self._kernel.time

    def push(real: Any, self: Line, envelopes: Any, delay_s: float = 0.0, *queues: Any) -> float | None:
        at: float | None = real(self, envelopes, max(delay_s + skew(self), 0.001), *queues)
        return at

    where(patch, Line, "push", lambda self, envelopes, delay_s=0.0, *queues: delay_s > 0 and when(skew(self)), push)


@exhibit(
    "delays by the producer's clock",
    "one that is ahead makes its jobs late, one behind makes them early",
    "DELAY-7",
    source="all Redis queues read for it",
    also="DELIVERY-1 DISPATCH-1",
)
def _(patch: Patch) -> None:
    producing(patch, lambda skew: abs(skew) > 1e-6)


@exhibit("a producer behind the time", "makes its jobs early", "DELAY-7", source="Celery: eta of a host")
def _(patch: Patch) -> None:
    producing(patch, lambda skew: skew < -1e-6)


@exhibit(
    "promotion that does not check the removal",
    "two processes move the same due job",
    "DELAY-8 DELIVERY-7",
    source="Go kashvi: the result of ZREM is not looked at",
    also=(
        "DELAY-1 DELAY-2 DELAY-5 DELAY-6 DELAY-7 DELAY-9 DELIVERY-1 DELIVERY-5 DELIVERY-8 "
        "DELIVERY-10 DELIVERY-16 DELIVERY-17 DISPATCH-1 DISPATCH-4 DISPATCH-5 ENVELOPE-4 "
        "FAILURES-5 FAILURES-13 JOBS-2 JOBS-7 JOBS-11 JOBS-18 MEMORY-3 REDIS-8 RETRY-1 RETRY-2 "
        "RETRY-3 RETRY-4 RETRY-5 RETRY-7 RETRY-8 RETRY-9 RETRY-10 RETRY-11 RETRY-12 RETRY-13 "
        "WORKERS-2 WORKERS-7 WORKERS-13 WORKERS-14 WORKERS-21"
    ),
)
def _(patch: Patch) -> None:
    def exchange(real: Any, self: MemoryDriver, *args: Any) -> Exchange:
        store, now = self.store, self.store.now()
        at, earlier = vars(store).get("moved", (0.0, []))
        if not due(self) and now - at < 0.02:
            store.jobs.extendleft(earlier)  # read before the other had removed them
            del vars(store)["moved"]
        answer: Exchange = real(self, *args)
        return answer

    def racing(self: MemoryDriver, *args: Any) -> bool:
        if found := due(self):
            vars(self.store)["moved"] = self.store.now(), [envelope for _, envelope in found]
        return "moved" in vars(self.store)

    where(patch, MemoryDriver, "exchange", racing, exchange)


@exhibit(
    "promotion without removal",
    "of a batch of forty and more, what is due stays delayed as well",
    "DELAY-8",
    source="RQ #1531: scheduled twice",
    also="DELIVERY-5 DELIVERY-7",
)
def _(patch: Patch) -> None:
    def stay(self: MemoryDriver, found: list[Entry]) -> None:
        later = [
            (at + 1, envelope) for at, envelope in found if envelope not in vars(self.store).setdefault("stay", [])
        ]
        vars(self.store)["stay"] += [envelope for _, envelope in later]
        self.store.delayed = sorted([*self.store.delayed, *later])

    promoting(patch, lambda self: len(due(self)) >= 40, stay)


@exhibit(
    "a large batch is promoted twice",
    "read by two before either has removed it",
    "DELAY-8",
    also="DELIVERY-5 DELIVERY-7",
)
def _(patch: Patch) -> None:
    def twice(self: MemoryDriver, found: list[Entry]) -> None:
        self.store.jobs.extendleft(envelope for _, envelope in found)

    promoting(patch, lambda self: len(due(self)) >= 40, twice)


@exhibit(
    "a delay ends with its process",
    "it is a sleeping thread of the process",
    "DELAY-9",
    source="Go kashvi: a sleeping goroutine",
    also="DISPATCH-4",
)
def _(patch: Patch) -> None:
    def push(real: Any, self: Line, envelopes: Any, delay_s: float = 0.0, *queues: Any) -> float:
        def later() -> None:
            self._process.sleep(delay_s)
            real(self, envelopes)

        self._process.spawn(later, "delay")
        return self._kernel.time + delay_s

    where(patch, Line, "push", lambda self, envelopes, delay_s=0.0, *queues: delay_s > 30, push)


@exhibit(
    "delayed jobs end with the last worker",
    "when its lease is over, its set is cleared",
    "DELAY-9",
    source="arq: key TTL",
    also="DELAY-1 DELIVERY-1 DISPATCH-1",
)
def _(patch: Patch) -> None:
    def clear(self: MemoryDriver, found: list[Entry]) -> None:
        self.store.delayed.clear()

    def alone(self: MemoryDriver) -> bool:
        now = self.store.now()
        return bool(self.store.workers) and all(deadline <= now - 25 for deadline in self.store.workers.values())

    promoting(patch, alone, clear)


def clock_is_set(self: Line, *queues: Any) -> bool:
    """Whether the server's clock has been set since the start."""
    return bool(self._world.server.skew_s)


@exhibit(
    "an idle worker sleeps as long as it meant to",
    "whatever has become of the server's clock",
    "DELAY-10",
    also="DELIVERY-1 DISPATCH-1",
)
def _(patch: Patch) -> None:
    def next_due(real: Any, self: Line, *queues: Any) -> float | None:
        due: float | None = real(self, *queues)
        return due and due + 10

    def exchange(real: Any, self: Line, *args: Any) -> Exchange:
        self._process.sleep(10)
        answer: Exchange = real(self, *args)
        return answer

    where(patch, Line, "next_due", clock_is_set, next_due)
    where(patch, Line, "exchange", lambda self, *args: clock_is_set(self) and not args[3], exchange)


@exhibit(
    "the dead are timed by a stopwatch", "of the process that looks for them", "DELAY-10", also="DELIVERY-1 DISPATCH-1"
)
def _(patch: Patch) -> None:
    def expired(real: Any, self: Line, limit: int) -> Expired:
        watches = vars(self._world).setdefault("watches", {})
        found: Expired = real(self, limit)
        late = {one.owner: watches.setdefault(one.owner, self._kernel.time) for one in found.lost}
        return found._replace(lost=[one for one in found.lost if self._kernel.time - late[one.owner] >= 10])

    where(patch, Line, "expired", lambda self, limit: clock_is_set(self), expired)
