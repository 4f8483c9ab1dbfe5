"""Drivers in virtual time: switching at the port calls, dying with their process, waiting without blocking."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import redis

from kashvi.drivers.redis import RedisDriver
from kashvi.ports import Driver, Exchange, Expired, Settlement, Stats, Unrecorded

from .kernel import Task
from .runtime import SimRuntime

Settled = Callable[[Settlement], None]
Fault = Callable[[str, SimRuntime], None]
"""Called as ``fault("before exchange", process)`` and ``("after …")``; may raise, sleep or kill."""


class SimDriver:
    """One process's handle on a driver. Every call is a point where others may run and faults may strike."""

    def __init__(self, inner: Driver, runtime: SimRuntime, fault: Fault, settled: Settled) -> None:
        self._settled = settled
        self._inner = inner
        self._runtime = runtime
        self._fault = fault

    def _before(self, call: str) -> None:
        assert not self._runtime.dead, "a dead process made a call"
        self._runtime.kernel.pause()
        self._fault(f"before {call}", self._runtime)

    def _after(self, call: str) -> None:
        self._fault(f"after {call}", self._runtime)

    def push(self, envelopes: Sequence[bytes], delay_s: float = 0.0) -> float | None:
        self._before("push")
        due = self._inner.push(envelopes, delay_s)
        self._after("push")
        return due

    def exchange(self, worker: str, n: int, lease_s: float, settlements: Sequence[Settlement], want: int) -> Exchange:
        self._before("exchange")
        answer = self._inner.exchange(worker, n, lease_s, settlements, want)
        if answer.listing is None:
            for i, settlement in enumerate(settlements):
                if i not in answer.refused:
                    self._settled(settlement)
        self._after("exchange")
        return answer

    def wait(self, worker: str, seconds: float) -> bytes | None:
        self._before("wait")
        envelope = self._inner.wait(worker, seconds)
        self._after("wait")
        return envelope

    def next_due(self) -> float | None:
        self._before("next_due")
        return self._inner.next_due()

    def wake(self, worker: str) -> None:
        self._inner.wake(worker)

    def expired(self, limit: int) -> Expired:
        self._before("expired")
        return self._inner.expired(limit)

    def unrecorded(self, limit: int) -> list[Unrecorded]:
        self._before("unrecorded")
        return self._inner.unrecorded(limit)

    def recorded(self, envelopes: Sequence[bytes]) -> None:
        self._before("recorded")
        self._inner.recorded(envelopes)
        self._after("recorded")

    def stats(self) -> Stats:
        return self._inner.stats()


class PatientRedis(RedisDriver):
    """Redis, real or fake, in virtual time: the kernel does the waiting, the server does the move.

    ``waiting``: the tasks of all processes that wait on this server.
    """

    def __init__(self, client: redis.Redis, runtime: SimRuntime, waiting: list[Task]) -> None:
        super().__init__(client, server_now=lambda: runtime.kernel.time)
        self._kernel = runtime.kernel
        self._waiting = waiting
        self._woken: set[str] = set()

    def push(self, envelopes: Sequence[bytes], delay_s: float = 0.0) -> float | None:
        due = super().push(envelopes, delay_s)
        self._notify()
        return due

    def exchange(self, worker: str, n: int, lease_s: float, settlements: Sequence[Settlement], want: int) -> Exchange:
        answer = super().exchange(worker, n, lease_s, settlements, want)
        if answer.ready:
            self._notify()
        return answer

    def wait(self, worker: str, seconds: float) -> bytes | None:
        deadline = self._kernel.time + seconds
        while worker not in self._woken:
            envelope: bytes | None = self._server.call("LMOVE", self._jobs, self._lists(worker)[0], "RIGHT", "LEFT")
            left = deadline - self._kernel.time
            if envelope is not None or left <= 0:
                return envelope
            self._kernel.block(self._waiting, left)
        self._woken.discard(worker)
        return None

    def wake(self, worker: str) -> None:
        self._woken.add(worker)
        self._notify()

    def _notify(self) -> None:
        for task in self._waiting[:]:
            self._kernel.wake(task)
