"""Bugs of exchanges and lost replies: requests carried out twice or late, lost jobs, jobs claimed by two workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from kashvi.drivers.memory import MemoryDriver
from kashvi.errors import DriverError
from kashvi.ports import Driver, Exchange
from kashvi.worker.machine import choose, exchange
from kashvi.worker.machine.state import State
from kashvi.worker.machine.steps import Request
from kashvi.worker.settle import Delivery
from kashvi.worker.shell import Worker

from . import Patch, exhibit, where


@exhibit(
    "a repeated number claims anew",
    "a lost reply is answered with more jobs",
    "DELIVERY-6",
    also="DELIVERY-1 DISPATCH-1 JOBS-18 RETRY-6",
)
def _(patch: Patch) -> None:
    def exchange(real: Any, self: MemoryDriver, worker: str, n: int, *args: Any) -> Exchange:
        last, at, refused = self.store.answers[worker]
        self.store.answers[worker] = last - 1, at, refused
        answer: Exchange = real(self, worker, n, *args)
        return answer

    def repeated(self: MemoryDriver, worker: str, n: int, lease_s: float, settlements: Any, want: Any) -> bool:
        again = n == self.store.answers.get(worker, (0,))[0]
        return bool(again and isinstance(want, int) and want > 0)

    where(patch, MemoryDriver, "exchange", repeated, exchange)


@exhibit("late requests are carried out", "a number below the last is taken for a new one", "DELIVERY-6")
def _(patch: Patch) -> None:
    def exchange(real: Any, self: MemoryDriver, worker: str, *args: Any) -> Exchange:
        del self.store.answers[worker]
        answer: Exchange = real(self, worker, *args)
        return answer

    def late(self: MemoryDriver, worker: str, n: int, *args: Any) -> bool:
        return bool(n < self.store.answers.get(worker, (0,))[0])

    where(patch, MemoryDriver, "exchange", late, exchange)


@exhibit(
    "claim reply lost",
    "the worker never reconciles after a lost reply",
    "DELIVERY-6",
    source="Celery #1789, RQ #1716",
    also="DELIVERY-1 DISPATCH-1 JOBS-18 JOBS-21",
)
def _(patch: Patch) -> None:
    def choose_(real: Any, state: State, now: int) -> Any:
        state.to_reconcile = False
        return real(state, now)

    where(patch, choose, "choose", lambda state, now: state.to_reconcile, choose_)


@exhibit(
    "equal jobs are compared as one",
    "of two that the server lists, both are known if one is",
    "DELIVERY-6",
    source="a set where a count is needed",
)
def _(patch: Patch) -> None:
    def unknown(real: Any, known: Counter[bytes], listed: Sequence[Delivery]) -> list[Delivery]:
        return [d for d in real(known, listed) if not known[d.raw]]

    def again(known: Counter[bytes], listed: Sequence[Delivery]) -> bool:
        count = Counter(d.raw for d in listed)
        return any(count[raw] > 1 for raw in known)

    where(patch, exchange, "unknown", again, unknown)


@exhibit(
    "settle sent again under a new number",
    "a lost reply is answered by doing it twice",
    "DELIVERY-6",
    source="redis-py: commands are sent again",
    also="DELIVERY-1 DISPATCH-1 JOBS-18 RETRY-6",
)
def _(patch: Patch) -> None:
    real = Worker.exchange

    def send(self: Worker, request: Request) -> bool:
        driver: Driver = self._driver

        class Renumbering:
            def __getattr__(own, name: str) -> Any:  # noqa: N805
                return getattr(driver, name)

            def exchange(own, worker: str, n: int, *args: Any) -> Exchange:  # noqa: N805
                try:
                    return driver.exchange(worker, self.machine.n, *args)
                except DriverError as error:
                    if error.maybe_sent:
                        self.machine.n += 1
                    raise

        self._driver = Renumbering()
        try:
            return real(self, request)
        finally:
            self._driver = driver  # type: ignore[assignment]

    patch.setattr(Worker, "exchange", send)


def many(self: MemoryDriver, *args: Any) -> bool:
    """True if some hundred jobs are ready."""
    return 100 < len(self.store.jobs) < 1000


@exhibit(
    "a claim leaves one behind",
    "it removes the job after another worker has read it",
    "DELIVERY-7",
    source="sidekiq #6379: two fetch the same",
    also="DELAY-8 DELIVERY-1 DELIVERY-5 DELIVERY-17 DISPATCH-1 DISPATCH-10",
)
def _(patch: Patch) -> None:
    def exchange(real: Any, self: MemoryDriver, *args: Any) -> Exchange:
        answer: Exchange = real(self, *args)
        self.store.jobs.extend(answer.claimed[-1:])
        return answer

    where(patch, MemoryDriver, "exchange", many, exchange)


@exhibit("a wait takes a copy", "the job is still on the list", "DELIVERY-7")
def _(patch: Patch) -> None:
    def wait(real: Any, self: MemoryDriver, *args: Any) -> bytes | None:
        envelope: bytes | None = real(self, *args)
        if envelope is not None:
            self.store.jobs.appendleft(envelope)
        return envelope

    where(patch, MemoryDriver, "wait", many, wait)
