"""The one server of a simulated world: the driver's own storage, in virtual time, with snapshots.

No call waits in here: the network waits, the server moves jobs. A restart with a lost tail, or a replica that lagged
behind, restores a snapshot.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn, Protocol

import redis

from kashvi.dispatch import naming
from kashvi.drivers.lines import MemoryStore
from kashvi.drivers.memory import MemoryDriver
from kashvi.drivers.redis import RedisDriver
from kashvi.errors import InvalidSetting
from kashvi.names import DEFAULT
from kashvi.ports import Condition, Driver

from .kernel import Condition as KernelCondition
from .kernel import Kernel


class Share(NamedTuple):
    """The server's data about one worker. Lists oldest first; ``n``: its last exchange."""

    held: list[bytes]
    running: list[bytes]
    deadline: float | None
    n: int
    refused: str


class Contents(NamedTuple):
    """The data of a server, in one form for every driver."""

    jobs: list[bytes]
    """Of each queue in the order of claims, the default queue first."""
    delayed: list[tuple[float, bytes]]
    unrecorded: list[tuple[float, bytes]]
    shares: dict[str, Share]
    """The share of each worker."""


class Server(Protocol):
    """The server that all processes of a world share."""

    driver: Driver
    skew_s: float
    """The error of its clock."""

    def handle(self) -> Driver:
        """The driver for one more process."""

    def contents(self) -> Contents: ...

    def holds(self, worker: str) -> bool:
        """True if this worker holds jobs."""

    def ready(self, queue: str) -> int:
        """The number of ready jobs of a queue; 0 while it is paused."""

    def snapshot(self) -> Any: ...

    def restore(self, snapshot: Any) -> None: ...

    def clear(self) -> None: ...


class MemoryServer:
    """The memory driver's store, which outlives the processes that use it."""

    def __init__(self, kernel: Kernel) -> None:
        condition: Condition = KernelCondition(kernel)
        self.skew_s = 0.0
        self.store = MemoryStore(lambda: kernel.time + self.skew_s, condition)
        self.driver: Driver = MemoryDriver(runtime=_NoWaiting(kernel), store=self.store)  # type: ignore[arg-type]

    def handle(self) -> Driver:
        return self.driver

    def contents(self) -> Contents:
        store = self.store
        shares = {}
        for worker in {**store.held, **store.running, **store.workers, **store.answers}:
            n, _, refused = store.answers.get(worker, (0, 0.0, ()))
            shares[worker] = Share(
                held=store.held.get(worker, []),
                running=store.running.get(worker, []),
                deadline=store.workers.get(worker),
                n=n,
                refused=",".join(map(str, refused)),
            )
        unrecorded = sorted((at, envelope) for envelope, at in store.unrecorded.items())
        lines = store.lines().values()
        jobs = [raw for line in lines for raw in reversed(line.jobs)]
        return Contents(jobs, sorted(entry for line in lines for entry in line.delayed), unrecorded, shares)

    def holds(self, worker: str) -> bool:
        return bool(self.store.held.get(worker) or self.store.running.get(worker))

    def ready(self, queue: str) -> int:
        line = self.store.line(queue)
        return 0 if line.paused_at is not None else len(line.jobs)

    def snapshot(self) -> MemoryStore:
        return self._copy(self.store)

    def restore(self, snapshot: MemoryStore) -> None:
        vars(self.store).update(vars(self._copy(snapshot)))

    def clear(self) -> None:
        self.restore(MemoryStore(self.store.now, self.store.condition))

    def _copy(self, store: MemoryStore) -> MemoryStore:
        new = MemoryStore(store.now, store.condition)
        new.copy_of(store)
        new.workers, new.serves, new.unique = store.workers.copy(), store.serves.copy(), store.unique.copy()
        new.duplicates, new.marks, new.cancelled = store.duplicates.copy(), store.marks.copy(), store.cancelled.copy()
        for name in store.named:
            new.line(name).copy_of(store.named[name])
        new.held = {owner: held[:] for owner, held in store.held.items()}
        new.running = {owner: running[:] for owner, running in store.running.items()}
        new.answers, new.unrecorded = store.answers.copy(), store.unrecorded.copy()
        new.pauses, new.cron = store.pauses, deepcopy(store.cron)
        new.pauses = store.pauses
        new.relays, new.relay_target = store.relays.copy(), store.relay_target
        new.relayed = {outbox: relayed.copy() for outbox, relayed in store.relayed.items()}
        return new


class RedisServer:
    """Redis, fake or real, under its own prefix, with the kernel's clock."""

    def __init__(self, client: redis.Redis, kernel: Kernel, *, prefix: str = "kashvi:queue") -> None:
        self._client = client
        self._prefix = prefix
        self.skew_s = 0.0
        self.driver: Driver = RedisDriver(client, prefix=prefix, server_now=lambda: kernel.time + self.skew_s)

    def handle(self) -> Driver:
        return self.driver

    def contents(self) -> Contents:
        client, prefix = self._client, self._prefix
        get: Any = client.pipeline(transaction=False)
        get.lrange(f"{prefix}:jobs", 0, -1)
        for name in ("delayed", "unrecorded", "workers"):
            get.zrange(f"{prefix}:{name}", 0, -1, withscores=True)
        get.hgetall(f"{prefix}:exchanges")
        jobs, delayed, unrecorded, deadlines, answers = get.execute()
        jobs, delayed = jobs[::-1], [(at, raw) for raw, at in delayed]
        for name in sorted(name.decode() for name in client.smembers(f"{prefix}:names") if name != b"default"):  # type: ignore[union-attr]
            get.lrange(f"{prefix}:{name}:jobs", 0, -1)
            get.zrange(f"{prefix}:{name}:delayed", 0, -1, withscores=True)
            more, later = get.execute()
            jobs, delayed = [*jobs, *more[::-1]], [*delayed, *((at, raw) for raw, at in later)]
        deadline = {name.decode(): at for name, at in deadlines}
        answer = {name.decode(): text.decode().split(" ", 2) for name, text in answers.items()}
        lists = [key.decode().rpartition(":")[::2] for key in self._keys()]
        owners = {worker for place, worker in lists if place.endswith((":held", ":running"))}
        shares = {}
        for worker in sorted(owners | deadline.keys() | answer.keys()):
            held, running = (
                get.lrange(f"{prefix}:{place}:{worker}", 0, -1).execute()[0] for place in ("held", "running")
            )
            n, _, refused = answer.get(worker, ("0", "", ""))
            shares[worker] = Share(held[::-1], running[::-1], deadline.get(worker), int(n), refused)
        return Contents(jobs, sorted(delayed), [(at, raw) for raw, at in unrecorded], shares)

    def holds(self, worker: str) -> bool:
        return any(self._client.llen(f"{self._prefix}:{place}:{worker}") for place in ("held", "running"))

    def ready(self, queue: str) -> int:
        if self._client.zscore(f"{self._prefix}:paused", queue) is not None:
            return 0
        return int(self._client.llen(f"{self._prefix}:jobs" if queue == DEFAULT else f"{self._prefix}:{queue}:jobs"))

    def snapshot(self) -> dict[bytes, bytes]:
        return {key: self._client.dump(key) for key in self._keys()}  # type: ignore[misc]

    def restore(self, snapshot: dict[bytes, bytes]) -> None:
        self.clear()
        for key, value in snapshot.items():
            self._client.restore(key, 0, value)

    def clear(self) -> None:
        if keys := self._keys():
            self._client.delete(*keys)

    def _keys(self) -> list[bytes]:
        return sorted(self._client.scan_iter(match=f"{self._prefix}:*", count=1000))


@dataclass
class GivenServer:
    """A driver of any kind, behind its port alone."""

    kernel: Kernel
    driver: Driver
    again: Callable[[Driver], Driver] | None = None
    """Opens one more handle on the same queue; None: all processes share one."""
    skew_s: float = 0.0

    def handle(self) -> Driver:
        return self.again(self.driver) if self.again else self.driver

    def contents(self) -> NoReturn:
        raise InvalidSetting("the driver", self.driver, "memory or Redis if the server's contents are needed")

    def holds(self, worker: str) -> bool:
        self.contents()

    def ready(self, queue: str) -> int:
        found = naming(self.driver).queue_stats().get(queue)
        return 0 if found is None or found.paused else found.ready

    def snapshot(self) -> NoReturn:
        raise InvalidSetting("the driver", self.driver, "memory or Redis if the server is to be rolled back")

    def restore(self, snapshot: Any) -> None:
        self.snapshot()

    def clear(self) -> None:
        """Do nothing: the given server is empty."""


class _NoWaiting:
    """The part of a runtime that a memory driver with a given store uses."""

    def __init__(self, kernel: Kernel) -> None:
        self.monotonic: Callable[[], float] = lambda: kernel.time

    def at_fork(self, run: Callable[[], None]) -> None:
        """Do nothing: the server's process does not fork."""
