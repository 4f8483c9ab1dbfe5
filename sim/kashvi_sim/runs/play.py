"""One run of a workload: dispatch, work, faults, then quiet; and its judgement."""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import msgspec
import redis
import sqlalchemy as sa
from kashvi_spec.predicates.safety import Violation

from kashvi.failures.table import TABLE
from kashvi.ports import FailureStore
from kashvi.registry import Registry

from ..world.dealings import Dealings
from ..world.faults import SET_BACK_S, Faults, Rule, rules_named
from ..world.judged import Excused
from ..world.ledger import id_of
from ..world.outbox import SimOutbox
from ..world.process import SimQueue
from ..world.runtime import SimRuntime
from ..world.table import emptied
from ..world.tape import Choices, Tape
from ..world.trace import sha256_of
from ..world.world import World
from .figures import Figures, figures_of
from .producing import Producer, heard
from .recording import Shift
from .reference import Beside
from .scripted import FIRST_TICK, job_class_of
from .told import rows_wrong, table_told, told_wrongly
from .undisturbed import undisturbed
from .upkeep import dear, late_upkeep, left_behind
from .verdict import made_up_for, recorded_wrongly, settled_twice, undeserved, unwanted
from .workload import Acts, Script, Workload

LOOK_S = 1.0
"""How often the run checks whether all jobs have ended."""
CHECK_S = 5.0
"""How often the end of a pause is checked: a server that is rolled back may have forgotten it."""
PATIENCE_S = 120.0
"""The time without an arrival or an end, beside ten leases, after which the run is given up."""


INSIDE = frozenset({"interrupt", "exit"})
"""Faults that strike the library's own code where it stands: ``work()`` in the main thread, and the exit."""


def _key(keys: int, job: Any) -> int:
    """The key of a declared job of a unique type."""
    return int(job.n) % keys


def may_be_direct(script: Script, rules: Sequence[Rule]) -> bool:
    """Whether the direct shell runs all that these faults strike."""
    unique = any(map(script.keys_of, script.types))  # the greenlet's dispatch asks who has the key
    return not (unique or script.cancels or script.transactions or script.cron) and INSIDE.isdisjoint(
        {*(rule.name for rule in rules), *(planned.fault for planned in script.faults)}
    )


class Swarm(msgspec.Struct, frozen=True):
    """A seed's own selection of faults and odds, so that rare mixtures occur too."""

    rules: tuple[Rule, ...]
    odds: float
    often: float

    @staticmethod
    def of(seed: int, rules: Sequence[Rule]) -> Swarm:
        chance = random.Random(f"swarm {seed}")
        share = chance.choice([0.15, 0.4, 0.8])
        odds, often = chance.choice([0.002, 0.01, 0.04]), chance.choice([0.0, 0.1, 0.5, 1.0])
        return Swarm(tuple(rule for rule in rules if chance.random() < share), odds, often)


@dataclass(frozen=True)
class Played:
    """The result of a run."""

    world: World
    violations: list[Violation]
    excused: list[Excused]
    figures: Figures
    wall_s: float

    @cached_property
    def choices(self) -> dict[tuple[str, int], int]:
        """The choices that were not the default."""
        return self.world.tape.taken()

    @property
    def trace_sha256(self) -> str:
        return sha256_of(self.world.events)


def play(
    workload: Workload,
    *,
    seed: int | None = None,
    choices: Choices | None = None,
    faults: str = "none",
    client: redis.Redis | None = None,
    prefix: str = "kashvi:queue",
    processes: int | None = None,
    direct: bool = False,
) -> Played:
    """Run a workload once. The same arguments give the same trace, byte for byte.

    ``choices``, from a token, replace a seed's. ``faults``: none, all, or comma-separated names.
    ``client``: a Redis, fake or real, whose keys under ``prefix`` are deleted. Raises InvalidSetting.
    ``direct``: take the direct shell where it can be, which is faster and gives the same trace. Then only the events
    and what they leave are judged, not the calls of each process; and a bug in the library's own shell does not show.
    """
    rules = rules_named(faults)
    if seed is not None and choices is None:
        swarm = Swarm.of(seed, rules)
        tape = Tape(seed, often=swarm.often)
    else:
        swarm = Swarm(rules, 0.0, 0.0)
        tape = Tape(given=choices or {})
    direct = direct and may_be_direct(workload, rules)
    return perform(workload, tape, swarm, client=client, prefix=prefix, processes=processes, direct=direct)


def perform(
    script: Script,
    tape: Tape,
    swarm: Swarm,
    *,
    client: redis.Redis | None = None,
    prefix: str = "kashvi:queue",
    processes: int | None = None,
    posts: Sequence[int] | None = None,
    shifts: Sequence[Shift] = (),
    direct: bool = False,
) -> Played:
    """``play`` with the caller's tape and faults.

    ``posts``: the threads of each process, instead of the script's. ``shifts``: processes with a begin and an end.
    ``direct``: with the direct shell, whatever the faults are; ``work()`` and an exit stay in greenlets.
    """
    began = time.perf_counter()
    crew = script.workers
    posts = [crew.threads] * (processes or crew.processes) if posts is None else list(posts)
    run = Run(script, tape, swarm, client, prefix, posts, shifts, direct=direct)
    with undisturbed():
        run.play()
    violations, excused = run.judge()
    figures = figures_of(run.world.times, run.world.events, run.world.elapsed_s)
    with undisturbed():
        run.world.close()
    return Played(run.world, violations, excused, figures, time.perf_counter() - began)


class Run:
    """A workload in its own world. ``table``: a failure store in place of the real one."""

    def __init__(
        self,
        script: Script,
        tape: Tape,
        swarm: Swarm,
        client: redis.Redis | None,
        prefix: str,
        posts: list[int],
        shifts: Sequence[Shift],
        table: FailureStore | None = None,
        *,
        direct: bool = False,
    ) -> None:
        self._script = script
        self._tape = tape
        crew = script.workers
        shared = emptied() if direct else None
        self.world = World(
            client=client,
            prefix=prefix,
            tape=tape,
            faults=Faults(swarm.rules, swarm.odds, script.fault_time_s, script.faults),
            registry=Registry(),
            max_attempts=crew.max_attempts,
            lease_s=crew.lease_s,
            obey_s=crew.obey_s,
            patience_s=crew.patience_s,
            database=shared.engine if shared else None if table else "sqlite://",
            table=shared or table,
            virtual_handlers=False,
            direct=direct,
        )
        if client is not None:
            self.world.server.clear()
        if table is None and not direct:  # a search makes too many worlds for it
            self.world.server = self._beside = Beside(self.world.server, lambda: self.world.kernel.time)
        if table is None and not direct:
            self.world.dealings = Dealings(self.world)
        acts = {name: script.acts(name, tape.attempts) for name in script.types}
        self.classes = {name: self.job_class(name, acts[name]) for name in script.types}
        for name, job_class in self.classes.items():
            keys = script.keys_of(name)
            self.world.registry.register(
                name, job_class, script.policy(name), script.time_limit(name), script.queue_of(name),
                unique=partial(_key, keys) if keys else False,
            )  # fmt: skip
        if script.transactions is not None:
            holds = script.transactions.hold_s
            self.world.outbox = SimOutbox(self.world, holds[tape.workload.choose(len(holds))])
        self._shifts = shifts
        self._in_main = [1] if any(rule.name == "interrupt" for rule in swarm.rules) else []
        """True if some processes work in their main thread, where Ctrl-C can interrupt."""
        self._posts = posts
        """The number of threads of each wanted process."""
        self._alive: dict[str, tuple[SimQueue, int]] = {}
        self._serves: dict[str, str] = {}
        """The queues of each process that is alive, as text."""
        self._producer = Producer(self.world, script, tape, self.classes)
        self.drained = False
        self._last_news = 0.0
        self.world.on_end = self._ended

    def job_class(self, job_type: str, acts: Acts) -> Any:
        """The job class of a type."""
        return job_class_of(job_type, acts, self.world)

    def play(self) -> None:
        world = self.world
        self._producer.begin()
        self._staff()
        for shift in self._shifts:
            world.kernel.spawn(partial(self._work_as, shift), "shift")
        world.kernel.spawn(self._reschedule, "reschedule")
        if self._script.pauses:
            operator = world.process()
            operator.process.spawn(partial(self._pause, operator), "pause")
        world.kernel.spawn(self._look, "look")
        world.run(until=lambda: self._over or bool(world.spinning))
        if world.spinning:
            return
        for queue, _ in list(self._alive.values()):
            world.terminate(queue.process)
        world.run(until=lambda: not self.left(), for_s=60.0)

    def left(self) -> list[str]:
        return [task.name for process in self.world.processes for task in process.tasks if task.is_alive()]

    # -- who works --------------------------------------------------------------------------------

    def _staff(self) -> None:
        """Start a process for every vacant post."""
        held = Counter(threads for _, threads in self._alive.values())
        for threads in (Counter(self._posts) - held).elements():
            self._hire(threads)

    def _hire(self, threads: int, queues: str = "") -> SimQueue:
        queue = self.world.process()
        self._alive[queue.process.name] = queue, threads
        served = Counter(self._serves[name] for name in self._alive if name in self._serves)
        for n, entry in enumerate(self._script.cron):
            queue.cron(entry.expression, self.classes[entry.type](FIRST_TICK + n), name=entry.name, missed=entry.missed)
        queues = queues or min(self._script.workers.queues, key=lambda text: served[text])
        self._serves[queue.process.name] = queues
        if self._tape.faults.rarely(1 / 3, self._in_main):
            queue.start_working(queues)
        else:
            queue.start_workers(threads, queues=queues)
        return queue

    def _pause(self, queue: SimQueue) -> None:
        """Pause queues from time to time, until the server has heard of it; then see that it forgets no end."""
        begins = ((pause.at_s, queue.pause, pause.queue) for pause in self._script.pauses)
        ends = ((pause.at_s + pause.for_s, queue.resume, pause.queue) for pause in self._script.pauses)
        for at_s, call, name in sorted((*begins, *ends), key=lambda one: one[0]):
            self.world.kernel.sleep(max(at_s - self.world.elapsed_s, 0.0))
            while not heard(call, name):
                self.world.kernel.sleep(1.0)
        names = sorted({pause.queue for pause in self._script.pauses})
        while not self._over:
            self.world.kernel.sleep(CHECK_S)
            for name in names:
                heard(lambda name: queue.resume(name) if queue.paused_since(name) else None, name)

    def _reschedule(self) -> None:
        for change in self._script.schedule:
            self.world.kernel.sleep(change.at_s - self.world.elapsed_s)
            self._posts = [self._script.workers.threads] * change.processes
            for queue, _ in list(self._alive.values())[change.processes :]:
                self.world.terminate(queue.process)
            self._staff()

    def _work_as(self, shift: Shift) -> None:
        """Work as one process of the recording did."""
        world = self.world
        world.kernel.sleep(shift.began_s)
        queue = self._hire(shift.threads, shift.queues)
        if shift.ended_s is None:
            return
        world.kernel.sleep(shift.ended_s - world.elapsed_s)
        if shift.killed:
            world.struck["kill"] += 1
            world.end(queue.process)
        else:
            world.terminate(queue.process)

    def _ended(self, process: SimRuntime) -> None:
        """Replace a process that is dead or has stopped."""
        if self._alive.pop(process.name, None) is None or self._over:
            return

        def replace() -> None:
            self.world.kernel.sleep(self._script.workers.restart_s)
            if not self._over:
                self._staff()

        self.world.kernel.spawn(replace, "replace")

    # -- when it is over ------------------------------------------------------------------------------

    _over = False
    _beside: Beside | None = None

    def _look(self) -> None:
        """Finish when no job is left on the server; give up after a time without events."""
        world, seen = self.world, 0
        planned = [c.at_s for c in self._script.schedule] + [p.at_s + p.for_s for p in self._script.pauses]
        patience = PATIENCE_S + 10 * world.lease_s + max(planned, default=0.0)
        while not self._over:
            world.kernel.sleep(LOOK_S)
            if not self._producer.done or (
                world.faults and world.faults.rules and world.elapsed_s < world.faults.until_s
            ):
                continue
            stats = world.server.driver.stats()
            stored = world.outbox is not None and not world.outbox.quiet
            left = stats.ready or stats.delayed or stats.held or world.late or stored or not world.tickers.over()
            if not (left or (stats.unrecorded and self._rows_due())):
                self.drained = self._over = True
            if world.progress != seen or world.on_stage() or world.in_trouble():
                seen, self._last_news = world.progress, world.elapsed_s
            waits_s = world.longest_delay_s + SET_BACK_S * world.struck["server_back"] if stats.delayed else 0.0
            if world.elapsed_s - self._last_news > patience + waits_s:
                self._over = True

    def _rows_due(self) -> bool:
        """Whether a failed job waits for the table that may still take its row."""
        world = self.world
        waiting = (id_of(raw) for _, raw in world.server.contents().unrecorded)
        return any(world.refused_rows.get(job_id) != math.inf for job_id in waiting)

    def judge(self) -> tuple[list[Violation], list[Excused]]:
        """The violations, and the excused ones. The events, the server and the table must agree on each job's end."""
        world = self.world
        # A killed recorder emits no events, so the rows are compared.
        violations, excused = world.judge(with_store=False)
        if not self.drained:
            stats = world.server.driver.stats()
            violations.append(Violation("drains", "", f"left on the server: {stats}"))
        violations += [Violation("drains", "", f"{name} never ended after it was told to") for name in self.left()]
        violations += [*undeserved(world), *late_upkeep(world), *left_behind(world), *dear(world), *unwanted(world)]
        if self._beside is not None:
            violations += [Violation("answers as the port says", "", why) for why in self._beside.reference.differences]
            violations += [*told_wrongly(world), *table_told(world), *rows_wrong(world)]
        violations += [*settled_twice(world), *made_up_for(world, self._script.cron)]
        if world.outbox is not None:
            violations += world.outbox.judged()
        if world.dealings is not None:
            violations += world.dealings.violations
        violations += recorded_wrongly(world, self.rows())
        return violations, excused

    def rows(self) -> Sequence[str]:
        """The job ids in the failure table."""
        assert self.world.database is not None
        with self.world.database.connect() as connection:
            ids = connection.scalars(sa.text(f"SELECT job_id FROM {TABLE}"))
            return [job_id or "" for job_id in ids]
