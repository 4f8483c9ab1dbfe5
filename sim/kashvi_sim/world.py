"""A small world: one server, some processes, virtual time, and every event that happens."""

from __future__ import annotations

from collections.abc import Callable

import redis
import sqlalchemy as sa
from kashvi_spec.predicates import Violation, all_predicates, judge

from kashvi.drivers.memory import MemoryDriver, MemoryStore
from kashvi.envelope import read
from kashvi.events import Event
from kashvi.ports import Driver, Settlement
from kashvi.queues import Queue
from kashvi.registry import Registry

from .drivers import Fault, PatientRedis, SimDriver
from .kernel import Choose, Kernel, Task
from .runtime import SimRuntime

WITNESSED = ("none lost", "drains")


class World:
    """One queue server in virtual time.

    ``client``: a Redis client, fake or real, emptied by the caller; None: the memory driver.
    ``choose``: the tape of scheduling choices; by default the first runnable task goes first.
    """

    def __init__(
        self,
        *,
        client: redis.Redis | None = None,
        choose: Choose = lambda n: 0,
        fault: Fault = lambda point, runtime: None,
        registry: Registry | None = None,
        max_attempts: int = 3,
        lease_s: float = 30.0,
        database: sa.Engine | str | None = None,
    ) -> None:
        self.kernel = Kernel(choose=choose)
        self.registry = registry or Registry()
        self.events: list[Event] = []
        self.processes: list[SimRuntime] = []
        self.ended: dict[str, list[str]] = {}
        """What the server did for good, by job id: a process killed after it can't tell."""
        self.returned: set[str] = set()
        self._client = client
        self._waiting: list[Task] = []
        self._fault = fault
        self._settings = {"max_attempts": max_attempts, "lease_s": lease_s}
        self._database = database
        self._max_attempts = max_attempts
        server = SimRuntime(self.kernel, "server")
        self.store = MemoryStore(server.now, server.condition())

    def process(self, skew_s: float = 0.0) -> Queue:
        """A process of its own: its clock, its handle on the driver, its death (``kill``)."""
        runtime = SimRuntime(self.kernel, f"p{len(self.processes)}", skew_s=skew_s)
        self.processes.append(runtime)
        inner: Driver = (
            PatientRedis(self._client, runtime, self._waiting)
            if self._client is not None
            else MemoryDriver(runtime=runtime, store=self.store)
        )
        queue = Queue(
            SimDriver(inner, runtime, self._fault, self._note),
            registry=self.registry,
            runtime=runtime,
            database=self._database,
            **self._settings,  # type: ignore[arg-type]
        )
        queue.observe(self.events.append)
        return queue

    def runtime_of(self, queue: Queue) -> SimRuntime:
        return next(p for p in self.processes if p is queue._runtime)

    def kill(self, queue: Queue) -> None:
        self.runtime_of(queue).kill()

    def run(self, until: Callable[[], bool] = lambda: False, for_s: float | None = None) -> None:
        """Let time pass: for so many seconds, until a condition, or until nobody has anything to do."""
        end = None if for_s is None else self.kernel.time + for_s
        if end is not None:
            self.kernel.spawn(lambda: self.kernel.sleep(for_s or 0.0), "clock")
        self.kernel.run(lambda: until() or (end is not None and self.kernel.time >= end))

    def drain(self, queue: Queue | None = None) -> None:
        """Run one worker of a fresh process until nothing is left."""
        worker = queue or self.process()
        task = self.runtime_of(worker).spawn(lambda: worker.work(drain=True), "drain")
        self.run(until=lambda: not task.is_alive())

    def _note(self, s: Settlement) -> None:
        if s.move in ("done", "fail"):
            self.ended.setdefault(read(s.new if s.move == "fail" else s.old).id, []).append(s.move)
        elif s.move == "return":
            self.returned.add(read(s.new).id)

    def violations(self, *, with_store: bool | None = None) -> list[Violation]:
        """What the events so far violate, given that all work is said to be done.

        What the server did and no event told of, since the process was killed in between, is no violation.
        ``with_store``: whether every exhausted job must be told to be recorded; by default, if there is a database.
        """
        stored = self._database is not None if with_store is None else with_store
        found = judge(self.events, all_predicates(self._max_attempts, stored))
        return [
            v
            for v in found
            if not (v.job_id in self.ended and v.predicate in WITNESSED)
            and not (v.predicate == "recorded iff exhausted" and not stored and "fail" in self.ended.get(v.job_id, ()))
            and not (v.job_id in self.returned and v.predicate == "FIFO")
        ]
