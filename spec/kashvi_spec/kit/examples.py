"""Runs an example through the real worker, in virtual time, and compares what happened with what is expected."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import redis
import sqlalchemy as sa
from kashvi_sim.runtime import SimRuntime
from kashvi_sim.world import SimQueue, World

from kashvi.envelope import read
from kashvi.errors import NotAnEnvelope, ReplyLost
from kashvi.events import JobFailed, JobSucceeded, SettleRefused
from kashvi.registry import Registry

from ..every import OF_ONE_LIMIT, every_predicate
from ..judging import Violation, judge
from .situation import Example, ExampleWorker, Happening

PARTIAL = frozenset({"attempts_at", "starts_of", "ended", "error", "left"})
"""What need not name every job."""
NAME = "jobs.Example"
CALLS_MAX = 100_000
"""More calls of server and database than any example needs."""


@dataclass
class Ran:
    """What came of an example."""

    world: World
    mistakes: list[str]
    """Where it differs from what is expected."""
    violations: list[Violation]
    judged: dict[str, int] = field(default_factory=dict)
    """How often each predicate tested something."""


def run(example: Example, client: redis.Redis | None = None) -> Ran:
    """Run it from start to end. ``client``: a Redis, fake or real, emptied by the caller; None: in memory."""
    stage = _Stage(example, client)
    stage.play()
    limit_changes = any(one.what == "max attempts" for one in example.happens)
    predicates = [
        predicate
        for predicate in every_predicate(example.max_attempts, example.table)
        if not (limit_changes and predicate.name in OF_ONE_LIMIT)
    ]
    violations = judge(stage.world.events, predicates)
    ran = Ran(stage.world, stage.compared(), violations, {one.name: one.judged for one in predicates})
    stage.world.close()
    return ran


class _Stage:
    """The world of one example, and notes of what handlers saw."""

    def __init__(self, example: Example, client: redis.Redis | None) -> None:
        self.example = example
        self.attempts: list[tuple[float, str]] = []
        """As the handlers noted them, not as events tell."""
        self.running = self.most_running = 0
        self.names: dict[str, str] = {}
        """Of jobs, by id."""
        self._replies_to_lose: set[SimRuntime] = set()
        self._calls = 0
        registry = Registry()
        registry.register(NAME, _job_class(self))
        self.world = World(
            client=client,
            fault=self._strike,
            registry=registry,
            max_attempts=example.max_attempts,
            lease_s=example.lease,
            database="sqlite://" if example.table else None,
            virtual_handlers=False,
        )
        self.start = self.world.kernel.time
        self._workers: list[SimQueue] = []
        self._producers: dict[float, SimQueue] = {}

    def now(self) -> float:
        return round(self.world.kernel.time - self.start, 6)

    def play(self) -> None:
        example, kernel = self.example, self.world.kernel
        agenda: list[tuple[float, Callable[[], None]]] = [
            *((one.at, partial(self._work, one)) for one in example.workers),
            *((one.at, partial(self._dispatch, n)) for n, one in enumerate(example.jobs)),
            *((one.at, partial(self._happen, one)) for one in example.happens),
        ]

        def direct() -> None:
            for at, act in sorted(agenda, key=lambda entry: entry[0]):
                if (left := self.start + at - kernel.time) > 0:
                    kernel.sleep(left)
                act()

        kernel.spawn(direct, "director")
        self.world.run(until=lambda: self._calls > CALLS_MAX, for_s=example.for_s)

    # -- what the example says happens ------------------------------------------------------------

    def _work(self, one: ExampleWorker) -> None:
        queue = self.world.process(skew_s=one.clock_off)
        self._workers.append(queue)
        queue.start_workers(one.threads)

    def _dispatch(self, index: int) -> None:
        job, name = self.example.jobs[index], self.example.job_names()[index]
        producer = self._producers.get(job.clock_off)
        if producer is None:
            producer = self._producers[job.clock_off] = self.world.process(skew_s=job.clock_off)
        if job.raw:
            raw = job.raw.encode()
            with contextlib.suppress(NotAnEnvelope):
                self.names[read(raw).id] = name
            self.world.inject(raw)
            return
        for _ in range(job.copies):
            made = self.world.registry.named(NAME).job_class(index)
            job_id = producer.dispatch(made) if job.delay is None else producer.dispatch_after(made, job.delay)
            self.names[job_id] = name

    def _happen(self, one: Happening) -> None:
        world, until = self.world, self.world.kernel.time + one.for_s
        if one.what == "server down":
            world.down_until = until
        elif one.what == "database down":
            world.database_down_until = until
        elif one.what == "max attempts":
            for queue in self._workers:
                queue.set_max_retry(one.value)
        else:
            queue = self._workers[one.worker - 1]
            self._befall(one, queue, until)

    def _befall(self, one: Happening, queue: SimQueue, until: float) -> None:
        if one.what == "kill":
            self.world.kill(queue)
        elif one.what == "stop":
            self.world.terminate(queue.process)
        elif one.what == "pause":
            queue.process.pause(one.for_s)
        elif one.what == "cut off":
            self.world.line_of(queue.process).unreachable_until = until
        elif one.what == "reply lost":
            self._replies_to_lose.add(queue.process)

    def _strike(self, point: str, process: SimRuntime) -> None:
        self._calls += 1
        if point == "after exchange" and process in self._replies_to_lose:
            self._replies_to_lose.discard(process)
            raise ReplyLost("an example loses it", "the simulated server")

    # -- what is expected -------------------------------------------------------------------------

    def compared(self) -> list[str]:
        """Each expectation that was not met."""
        found = ["the workers spin: they call the server without end"] if self._calls > CALLS_MAX else []
        for name in self.example.expects:
            wanted, got = getattr(self.example, name), getattr(self, f"_seen_{name}")()
            if name in PARTIAL and isinstance(wanted, dict):
                got = {key: got.get(key) for key in wanted}
            if not (wanted[0] <= got <= wanted[1] if name == "last_start_between" else got == wanted):
                found.append(f"{name} is {got!r}, not {wanted!r}")
        return found

    def _seen_attempts_at(self) -> Any:
        if isinstance(self.example.attempts_at, tuple):
            return tuple(at for at, _ in self.attempts)
        by_name: dict[str, tuple[float, ...]] = dict.fromkeys(self.example.job_names(), ())
        for at, name in self.attempts:
            by_name[name] += (at,)
        return by_name

    def _seen_order(self) -> tuple[str, ...]:
        return tuple(name for _, name in self.attempts)

    def _seen_starts(self) -> int:
        return len(self.attempts)

    def _seen_starts_of(self) -> dict[str, int]:
        return Counter(name for _, name in self.attempts)

    def _seen_last_start_between(self) -> float:
        return max((at for at, _ in self.attempts), default=-1.0)

    def _seen_ended(self) -> dict[str, str]:
        ended = dict.fromkeys(self.example.job_names(), "not")
        for event in self.world.events:
            if isinstance(event, JobSucceeded | JobFailed) and event.job_id in self.names:
                ended[self.names[event.job_id]] = "failed" if isinstance(event, JobFailed) else "succeeded"
        return ended

    def _failed(self) -> dict[str, JobFailed]:
        """Jobs that nobody here dispatched are called after what they are."""
        return {
            self.names.get(event.job_id, "unknown" if event.type else "garbage"): event
            for event in self.world.events
            if isinstance(event, JobFailed)
        }

    def _seen_failed_after(self) -> dict[str, int]:
        return {name: event.attempts for name, event in self._failed().items()}

    def _seen_failed_at(self) -> dict[str, float]:
        return {name: round((event.server_at or 0.0) - self.start, 6) for name, event in self._failed().items()}

    def _seen_error(self) -> dict[str, str]:
        return {name: event.error for name, event in self._failed().items()}

    def _seen_rows(self) -> dict[str, int]:
        assert self.world.database is not None, "rows need a table"
        with self.world.database.connect() as connection:
            rows = connection.execute(sa.text("SELECT job_id, job_type, attempts FROM kashvi_failed_jobs"))
            return {
                self.names.get(job_id, "unknown" if job_type else "garbage"): attempts
                for job_id, job_type, attempts in rows
            }

    def _seen_at_most_at_once(self) -> int:
        return self.most_running

    def _seen_refused(self) -> int:
        return sum(isinstance(event, SettleRefused) for event in self.world.events)

    def _seen_left(self) -> dict[str, int]:
        stats = self.world.server.driver.stats()
        return {name: getattr(stats, name) for name in ("ready", "delayed", "held", "unrecorded")}


def _job_class(stage: _Stage) -> type[Any]:
    """A job type that does what the example says."""

    @dataclass
    class ExampleJob:
        index: int = 0

        def handle(self) -> None:
            job, name = stage.example.jobs[self.index], stage.example.job_names()[self.index]
            before = sum(other == name for _, other in stage.attempts)
            stage.attempts.append((stage.now(), name))
            stage.running += 1
            stage.most_running = max(stage.most_running, stage.running)
            try:
                if job.takes:
                    stage.world.kernel.sleep(job.takes)
            finally:
                stage.running -= 1
            outcome = job.outcomes[min(before, len(job.outcomes) - 1)]
            if outcome == "die":
                task: Any = stage.world.kernel.current
                stage.world.end(task.process)
            if outcome == "fail":
                raise ValueError(f"{name} fails")
            if outcome == "exit":
                raise SystemExit(f"{name} exits")

    return ExampleJob
