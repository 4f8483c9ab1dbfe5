"""Runs an example through the real worker, in virtual time, and compares the result with the expectation."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from kashvi_sim.runs.undisturbed import undisturbed
from kashvi_sim.world.excuses import OF_MANY, OF_ONE_JOB
from kashvi_sim.world.kernel import Kernel
from kashvi_sim.world.process import SimQueue
from kashvi_sim.world.runtime import SimRuntime
from kashvi_sim.world.server import MemoryServer, Server
from kashvi_sim.world.world import World

from kashvi import current
from kashvi.errors import NotAnEnvelope, ReplyLost
from kashvi.jobs.envelope import read
from kashvi.names import DEFAULT
from kashvi.registry import Registry
from kashvi.retries import GiveUp, Snooze
from kashvi.worker.hooks import Attempt

from ...judging import Violation, judge
from ...predicates.every import OF_ONE_LIMIT, every_predicate
from .expected import CALLS_MAX, Notes, Seen
from .situation import Example, ExampleWorker, Happening, Hook

NAME, UNLIMITED, UNIQUE, TICK = "jobs.Example", "jobs.Unlimited", "jobs.Unique", "jobs.Tick"
Serve = Callable[[Kernel], Server]


@dataclass
class Ran:
    """The result of an example."""

    world: World
    mistakes: list[str]
    """The differences from the expectation."""
    violations: list[Violation]
    judged: dict[str, int] = field(default_factory=dict)
    """How often each predicate was checked."""
    names: dict[str, str] = field(default_factory=dict)
    """The jobs' names, by id."""


def run(example: Example, serve: Serve = MemoryServer) -> Ran:
    """Run an example from start to end, on an empty server; by default in memory."""
    with undisturbed():
        return follow(example, serve)


def follow(example: Example, serve: Serve) -> Ran:
    """As ``run``, for a caller that is already inside ``undisturbed``, maybe in another thread."""
    stage = _Stage(example, serve)
    stage.play()
    happens = {one.what for one in example.happens}
    unfit = OF_ONE_LIMIT if "max attempts" in happens else frozenset[str]()
    if "server clock" in happens:
        unfit |= OF_ONE_JOB | OF_MANY
    predicates = [
        predicate for predicate in every_predicate(example.max_attempts, example.table) if predicate.name not in unfit
    ]
    violations = judge(stage.world.events, predicates, stage.world.times)
    ran = Ran(
        stage.world,
        Seen(example, stage.world, stage.notes).compared(),
        violations,
        {one.name: one.judged for one in predicates},
        stage.notes.names,
    )
    stage.world.close()
    return ran


class _Stage:
    """The world of one example, and the notes of its handlers."""

    def __init__(self, example: Example, serve: Serve) -> None:
        self.example = example
        self.notes = Notes()
        self._replies_to_lose: set[SimRuntime] = set()
        self._ticks_to_lose: set[SimRuntime] = set()
        registry = Registry()
        self._job_class = _job_class(self)
        policy = example.retry.made() if example.retry else None
        registry.register(NAME, self._job_class, policy, example.timeout)
        registry.register(UNLIMITED, _job_class(self), policy)
        registry.register(UNIQUE, _job_class(self), policy, example.timeout, DEFAULT, self._key_of)
        self._tick_class = _tick_class(self)
        registry.register(TICK, self._tick_class)
        self.world = World(
            serve=serve,
            fault=self._strike,
            registry=registry,
            max_attempts=example.max_attempts,
            lease_s=example.lease,
            unknown_for_s=example.unknown_for,
            obey_s=example.obey,
            database="sqlite://" if example.table else None,
            virtual_handlers=False,
        )
        self.notes.start = self.world.kernel.time
        self._workers: list[SimQueue] = []
        self._producers: dict[float, SimQueue] = {}
        self._operator: SimQueue | None = None
        """The process that pauses the queue."""

    def _key_of(self, job: Any) -> str:
        key = self.example.jobs[job.index].key
        return f"{key}.{job.which}" if job.which else key

    def now(self) -> float:
        return round(self.world.kernel.time - self.notes.start, 6)

    def play(self) -> None:
        example, kernel = self.example, self.world.kernel
        agenda: list[tuple[float, Callable[[], None]]] = [
            *((one.at, partial(self._work, one)) for one in example.workers),
            *((one.at, partial(self._dispatch, n)) for n, one in enumerate(example.jobs)),
            *((one.at, partial(self._happen, one)) for one in example.happens),
        ]

        def direct() -> None:
            for at, act in sorted(agenda, key=lambda entry: entry[0]):
                if (left := self.notes.start + at - kernel.time) > 0:
                    kernel.sleep(left)
                act()

        kernel.spawn(direct, "director")
        last = max(at for at, _ in agenda)
        self.world.run(self._spins, for_s=last)
        self.world.advance(example.runs_s - last, self._spins)

    def _spins(self) -> bool:
        return self.notes.calls > CALLS_MAX

    # -- the steps of the example -----------------------------------------------------------------

    def _work(self, one: ExampleWorker) -> None:
        queue = self.world.process(skew_s=one.clock_off)
        if not one.knows:
            queue.registry = Registry()
        elif one.retry:
            queue.registry = Registry()
            queue.registry.register(NAME, self._job_class, one.retry.made())
        self._workers.append(queue)
        for kind in self.example.hooks:
            queue.around(partial(_hook, kind))
        for entry in self.example.cron if one.cron is None else one.cron:
            job, late_s = self._tick_class(entry.name), entry.max_late
            queue.cron(entry.expression, job, tz=entry.tz, name=entry.name, missed=entry.missed, max_late=late_s)
        queue.patience_s = one.patience
        queue.start_workers(one.threads, queues=one.queues)

    def _dispatch(self, index: int) -> None:
        job, name = self.example.jobs[index], self.example.job_names()[index]
        producer = self._producers.get(job.clock_off)
        if producer is None:
            producer = self._producers[job.clock_off] = self.world.process(skew_s=job.clock_off)
        if job.raw:
            raw = job.raw.encode()
            with contextlib.suppress(NotAnEnvelope):
                self.notes.names[read(raw).id] = name
            self.world.inject(raw, job.queue)
            return
        for _ in range(job.copies):
            kind = UNIQUE if job.key else NAME if job.limited else UNLIMITED
            made = self.world.registry.named(kind).job_class(index, "." * job.bytes)
            queue = None if job.queue == DEFAULT else job.queue
            if job.then:
                links = [made, *(self._job_class(index, link=n) for n in range(1, len(job.then) + 1))]
                ids = producer.chain(*links, queue=queue)
                self.notes.names |= {job_id: f"{name}+{n}" if n else name for n, job_id in enumerate(ids)}
                continue
            if job.delay is None:
                job_id = producer.dispatch(made, queue=queue)
            else:
                job_id = producer.dispatch_after(made, job.delay, queue=queue)
            self.notes.names.setdefault(job_id, name)  # a duplicate has the id of the job with its key

    def _happen(self, one: Happening) -> None:
        world, until = self.world, self.world.kernel.time + one.for_s
        if one.what == "server down":
            world.down_until = until
        elif one.what == "server clock":
            world.server.skew_s += one.by
        elif one.what == "database down":
            world.database_down_until = until
        elif one.what in ("queue paused", "queue resumed", "cancel"):
            if self._operator is None:
                self._operator = world.process()
            self._operate(one, self._operator)
        elif one.what == "max attempts":
            for queue in self._workers:
                queue.set_max_retry(one.value)
        else:
            queue = self._workers[one.worker - 1]
            self._befall(one, queue, until)

    def _operate(self, one: Happening, operator: SimQueue) -> None:
        if one.what == "queue paused":
            operator.pause(one.queue)
        elif one.what == "queue resumed":
            operator.resume(one.queue)
        else:
            job_id = next((job_id for job_id, name in self.notes.names.items() if name == one.job), "never dispatched")
            said = self.notes.cancelled.get(one.job, ())
            self.notes.cancelled[one.job] = (*said, operator.cancel(job_id))

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
        elif one.what == "tick lost":
            self._ticks_to_lose.add(queue.process)

    def _strike(self, point: str, process: SimRuntime) -> None:
        self.notes.calls += 1
        if point == "after exchange" and process in self._replies_to_lose:
            self._replies_to_lose.discard(process)
            raise ReplyLost("an example loses it", "the simulated server")
        if point == "after tick" and process in self._ticks_to_lose:
            self._ticks_to_lose.discard(process)
            raise ReplyLost("an example loses it", "the simulated server")


@contextlib.contextmanager
def _hook(kind: Hook, attempt: Attempt) -> Iterator[None]:
    if kind == "raises first":
        raise LookupError("a hook raises first")
    try:
        yield
    except Exception:
        if kind != "swallows":
            raise
    finally:
        if kind == "raises last":
            raise LookupError("a hook raises last")


def _job_class(stage: _Stage) -> type[Any]:
    """A job class that acts by the example."""

    @dataclass
    class ExampleJob:
        index: int = 0
        padding: str = ""
        which: int = 0
        link: int = 0
        """Its place in the chain, after the first."""

        def handle(self) -> None:
            job, name = stage.example.jobs[self.index], stage.example.job_names()[self.index]
            if self.which:
                stage.notes.attempts.append((stage.now(), f"{name}.{self.which}"))
                return
            outcomes = job.then[self.link - 1] if self.link else job.outcomes
            name = f"{name}+{self.link}" if self.link else name
            before = sum(other == name for _, other in stage.notes.attempts)
            outcome = outcomes[min(before, len(outcomes) - 1)]
            stage.notes.attempts.append((stage.now(), name))
            for n, delay in enumerate(() if self.link else job.sends, 1):
                sent, follow_up = current(), ExampleJob(self.index, which=n)
                queue = None if job.sends_to == DEFAULT else job.sends_to
                if delay:
                    job_id = sent.dispatch_after(follow_up, delay, queue=queue)
                else:
                    job_id = sent.dispatch(follow_up, queue=queue)
                stage.notes.names[job_id] = f"{name}.{n}"
            stage.notes.running += 1
            stage.notes.most_running = max(stage.notes.most_running, stage.notes.running)
            try:
                _take(stage, 0 if self.link else job.takes, check=outcome == "obey")
            finally:
                stage.notes.running -= 1
            if outcome == "die":
                task: Any = stage.world.kernel.current
                stage.world.end(task.process)
            if outcome == "fail":
                raise ValueError(f"{name} fails")
            if outcome == "refuse":
                raise ConnectionRefusedError(f"{name} is refused")
            if outcome == "give up":
                raise GiveUp(f"{name} gives up")
            if outcome == "snooze":
                raise Snooze(job.snooze)
            if outcome == "exit":
                raise SystemExit(f"{name} exits")

    return ExampleJob


def _tick_class(stage: _Stage) -> type[Any]:
    """The job class of cron entries."""

    @dataclass
    class ExampleTick:
        name: str = ""

        def handle(self) -> None:
            stage.notes.attempts.append((stage.now(), self.name))

    return ExampleTick


def _take(stage: _Stage, seconds: float, *, check: bool) -> None:
    """Take this long; ``check``: and ask each second whether to go on."""
    over = stage.world.kernel.time + seconds
    while check and stage.world.kernel.time + 1 < over:
        stage.world.kernel.sleep(1)
        current().check()
    if (left := over - stage.world.kernel.time) > 0:
        stage.world.kernel.sleep(left)
    if check:
        current().check()
