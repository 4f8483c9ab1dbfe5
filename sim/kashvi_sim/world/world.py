"""A simulated world: one server, some processes, virtual time, faults, and all events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import redis
import sqlalchemy as sa
from kashvi_spec.predicates.every import every_predicate

from kashvi.dispatch import naming
from kashvi.drivers.lines import MemoryStore
from kashvi.events import (
    AttemptLost,
    AttemptStarted,
    Event,
    FailureRecorded,
    JobDispatched,
    JobFailed,
    JobSucceeded,
    WorkerStopped,
)
from kashvi.failures.engine import engine_of
from kashvi.names import DEFAULT
from kashvi.ports import EARLIER_S, FailureStore
from kashvi.queues import Queue
from kashvi.registry import Registry
from kashvi.settings import OBEY_S

from .clock import Escape, HandlerTime
from .dealings import Dealings
from .excuses import Telling, Trouble
from .faults import Faults
from .judged import Judged, bench
from .kernel import EPOCH, Choose, Kernel
from .ledger import Ledger, id_of, ids_of
from .network import Line, Waiter, first_due, look
from .outbox import SimOutbox
from .process import SimQueue
from .reports import Reported
from .runtime import SimRuntime
from .server import MemoryServer, RedisServer, Server
from .strikes import Struck
from .tape import Tape
from .tickers import Tickers
from .trace import ProcessKilled, ServerRolledBack

Hook = Callable[[str, SimRuntime], None]
"""Called as ``hook("before exchange", process)`` and ``("after …")``; may raise, sleep or kill."""

PROGRESS = frozenset({JobDispatched, JobSucceeded, JobFailed, FailureRecorded})


CALLS_AT_ONCE = 50_000
"""The most calls of a process to the server while no time passes: more would never end."""
LEAP_BEFORE_S = 2.0
"""How long before a due time virtual time stops leaping."""


@dataclass
class Others:
    """Jobs of other programs: those without ids, and those sent twice under one id."""

    pushed: int = 0
    forgotten: int = 0
    """Those pushed that a server forgot when it was rolled back."""
    repeated: set[str] = field(default_factory=set)
    last: bytes = b""
    """The last job of this world."""


class World(Judged, Reported, Struck):
    """One queue server in virtual time.

    ``client``: a Redis client, fake or real, emptied by the caller; None: the memory driver. ``serve``: any server.
    ``tape``: all choices; by default the first runnable task goes first, and nothing fails.
    ``faults``: rules that may strike; ``fault``: a function called at every point, to stage one by hand.
    ``table``: a failure store in place of a database.
    ``unknown_for_s``: shorter than the queue's default, so that a run ends earlier.
    ``virtual_handlers``: False if all handlers are the simulator's own, and read no clock.
    ``patience_s``: processes are replaced after a stuck attempt, as under ``queue:work``; None: they are an app's.
    ``direct``: all handlers are declared, and workers run without greenlets (see ``direct``). The processes' calls are
    not judged then, only their events and what they leave.
    """

    came: dict[str, float]
    """When the server got each job that a process of this world pushed, by the world's clock."""
    late, named = 0, frozenset[str]()
    """Requests that have not arrived yet, and the named queues that had jobs."""
    progress = 0
    """The number of jobs that came, ended or were recorded."""
    dealings: Dealings | None = None
    """Judges of the processes' dealings with the server, if wanted."""
    outbox: SimOutbox | None = None
    """The database in whose transactions the app dispatches, if it has one."""
    calls, spinning = 0, ""
    """The calls of the server, and the process that called it endlessly without time passing."""

    def __init__(
        self,
        *,
        client: redis.Redis | None = None,
        prefix: str = "kashvi:queue",
        serve: Callable[[Kernel], Server] | None = None,
        tape: Tape | None = None,
        choose: Choose | None = None,
        faults: Faults | None = None,
        fault: Hook | None = None,
        registry: Registry | None = None,
        max_attempts: int = 3,
        lease_s: float = 30.0,
        unknown_for_s: float = 20.0,
        obey_s: float = OBEY_S,
        patience_s: float | None = None,
        database: sa.Engine | str | None = None,
        table: FailureStore | None = None,
        virtual_handlers: bool = True,
        direct: bool = False,
    ) -> None:
        self.tape = tape or Tape()
        self.kernel = Kernel(choose=choose or self.tape.schedule.choose)
        if serve is None and client is not None:
            serve = partial(RedisServer, client, prefix=prefix)
        self.server: Server = (serve or MemoryServer)(self.kernel)
        self.client, self.registry = client, registry or Registry()
        self.lease_s, self.unknown_for_s, self.max_attempts = lease_s, unknown_for_s, max_attempts
        self.obey_s, self.patience_s = obey_s, patience_s
        self.events: list[Event] = []
        self.times: list[float] = []
        """The time of each event, by the world's clock."""
        self.processes: list[SimRuntime] = []
        self.faults, self._hook = faults, fault
        self.struck: Counter[str] = Counter()
        self.jumps: list[tuple[float, str, float]] = []
        """Each setting of the server's clock: time, fault, seconds."""
        self.down_until = self.refusing_until = self.database_down_until = 0.0
        self.refusal, self.refused_calls = "", frozenset[str]()
        self.waiters, self.tickers = list[Waiter](), Tickers()
        self.ended: dict[str, list[str]] = {}
        """Final settlements on the server, by job id."""
        self.returned: Counter[str] = Counter()
        """How often a job was handed back."""
        self.announced: Counter[str] = Counter()
        """Attempts that would count if their process died; removed once one did."""
        self.unannounced: list[AttemptLost] = []
        """Attempts counted as lost without having been announced."""
        self.ledger, self.telling, self.trouble = Ledger(self.registry), Telling(), Trouble(lease_s)
        self.came, self.lost_pushes = {}, dict[str, str]()
        self.rolled_back: dict[str, str] = {}
        self.renewals_lost: dict[str, str] = {}
        """By job, the fault by which the server lost its worker's lease."""
        self.poisoned: set[str] = set()
        self.refused_rows: dict[str, float] = {}
        """The end of the database's refusal of a job's row."""
        self.others = Others()
        self.longest_delay_s = 0.0
        self.on_end: Callable[[SimRuntime], None] = lambda process: None
        """Called with every process that is dead or has stopped working."""
        self._handler_time = HandlerTime(self.kernel, self.tape.seed, watch=virtual_handlers)
        self._virtual_handlers, self.direct = virtual_handlers, direct
        self.database = None if database is None else engine_of(database)
        self.table = table
        self._queues: dict[int, SimQueue] = {}
        self._lines, self._touches = dict[int, Line](), list[tuple[float, str, bool]]()
        self._rolling_back, self._closed, self._sim_seq = False, False, 0
        self.judges = bench(self.kernel, self.server, every_predicate(max_attempts, self.stored))
        self._attempting: dict[int, AttemptStarted] = {}
        self._of_events: dict[str, SimRuntime] = {}

    @property
    def stored(self) -> bool:
        """True if there is a failure table of any kind."""
        return self.database is not None or self.table is not None

    @property
    def store(self) -> MemoryStore:
        """The memory driver's store."""
        assert isinstance(self.server, MemoryServer)
        return self.server.store

    # -- processes ------------------------------------------------------------------------------

    def process(self, skew_s: float = 0.0) -> SimQueue:
        """A new process with its own clock and its own line to the server; ``kill`` ends it."""
        number = len(self.processes)
        runtime = SimRuntime(self.kernel, f"p{number}", number, self.tape.chance)
        runtime.skew_s = skew_s
        self.processes.append(runtime)
        self.strike("before", "start", runtime, None)
        line = self._lines[id(runtime)] = Line(self, runtime)
        queue = SimQueue(self, runtime, line)
        self._queues[id(runtime)] = queue
        queue.observe(self._see)
        line.process_id = queue.process_id
        self._of_events[queue.process_id] = runtime
        return queue

    @property
    def queues(self) -> list[SimQueue]:
        """The queues of all processes so far, in order."""
        return list(self._queues.values())

    def line_of(self, process: SimRuntime) -> Line:
        return self._lines[id(process)]

    def runtime_of(self, queue: Queue) -> SimRuntime:
        assert isinstance(queue, SimQueue)
        return queue.process

    def kill(self, queue: Queue) -> None:
        self.end(self.runtime_of(queue))

    def end(self, process: SimRuntime) -> None:
        """End a process between two instructions."""
        line = self._lines[id(process)]
        self.waiters = [waiter for waiter in self.waiters if waiter.line is not line]
        self._tell(ProcessKilled, victim=process.name, victim_id=line.process_id)
        process.dead = True
        self.trouble.begins("kill", self.kernel.time)
        self.on_end(process)
        process.kill()

    def replace(self, process: SimRuntime) -> None:
        """Another program takes the place of a process whose worker has stopped: its threads are gone."""
        line = self._lines[id(process)]
        self.waiters = [waiter for waiter in self.waiters if waiter.line is not line]
        process.kill()

    def terminate(self, process: SimRuntime) -> None:
        """SIGTERM."""
        queue = self._queues[id(process)]
        if self.dealings is not None:
            self.dealings.told(process)
        process.spawn(queue.request_stop, "signal")

    def interrupt(self, process: SimRuntime) -> None:
        """Interrupt ``work()`` by Ctrl-C, once, at the current point of its thread."""
        main, process.main = process.main, None
        if main is None or not main.is_alive():
            return
        if self.dealings is not None:
            self.dealings.interrupted(process)
        if main is self.kernel.current:
            raise KeyboardInterrupt
        main.interrupted = True
        self.kernel.wake(main)

    def in_trouble(self) -> bool:
        """True while the server or the database is away."""
        return self.kernel.time < max(self.down_until, self.refusing_until, self.database_down_until)

    def on_stage(self) -> bool:
        """True while a handler runs."""
        return any(task.on_stage and task.is_alive() for process in self.processes for task in process.tasks)

    @property
    def names(self) -> dict[str, str]:
        """The names of the processes, by the id in their events."""
        return {process_id: process.name for process_id, process in self._of_events.items()}

    @property
    def escapes(self) -> list[Escape]:
        """Handlers that left virtual time."""
        return self._handler_time.escapes

    # -- time -----------------------------------------------------------------------------------

    @property
    def elapsed_s(self) -> float:
        return self.kernel.time - EPOCH

    def run(self, until: Callable[[], bool] = lambda: False, for_s: float | None = None) -> None:
        """Let time pass: for ``for_s`` seconds, until a condition, or until all tasks are idle."""
        kernel, over = self.kernel, until
        if for_s is not None:
            end = kernel.time + for_s
            kernel.spawn(lambda: kernel.sleep(for_s), "clock")
            over = lambda: until() or kernel.time >= end  # noqa: E731
        with self._handler_time.passing() if self._virtual_handlers else nullcontext():
            kernel.run(over)

    def advance(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Let time pass as ``run`` does, but leap over times in which idle workers only poll and wait."""
        end = self.kernel.time + seconds
        while self.kernel.time < end and not until():
            due, soonest = first_due(self.server.driver, self.named), self.tickers.next_at(self.kernel.time, end)
            soonest = min(end, soonest, due - self.server.skew_s if isinstance(due, float) else end)
            leap = soonest - LEAP_BEFORE_S - self.kernel.time
            if leap > 0 and self.idle():
                self.tickers.leap(self.kernel, leap)
            self.run(until, for_s=min(LEAP_BEFORE_S, end - self.kernel.time))

    def idle(self) -> bool:
        """True if there are only workers, all idle until the next job is due."""
        stats = self.server.driver.stats()
        unrecorded = stats.unrecorded if self.stored else 0  # without a table they stay there
        if stats.ready or stats.held or unrecorded or self.on_stage() or self.in_trouble():
            return False
        return all("/kashvi-" in task.name for task in self.kernel.tasks())

    def drain(self, queue: Queue | None = None) -> None:
        """Run one worker of a fresh process until no job is left."""
        worker = queue or self.process()
        task = self.runtime_of(worker).spawn(lambda: worker.work(drain=True), "drain")
        self.run(until=lambda: not task.is_alive())

    # -- faults ---------------------------------------------------------------------------------

    def roll_back(self, why: str, after_s: float, down_s: float) -> None:
        """The server goes on for ``after_s``, then comes back, ``down_s`` later, as it is now."""
        if self._rolling_back:
            return  # one disaster at a time
        self._rolling_back = True
        snapshot, then, known = self.server.snapshot(), self.kernel.time, self.others.pushed
        mark = len(self._touches)

        def crash() -> None:
            self.kernel.sleep(after_s)
            before = self.server.contents().shares
            self.server.restore(snapshot)
            self._rolling_back = False
            self.others.forgotten += self.others.pushed - known
            lost = 0
            for at, job_id, pushed in self._touches[mark:]:
                assert at >= then
                self.rolled_back[job_id] = why
                if pushed:
                    self.lost_pushes[job_id] = why
                    lost += 1
            for worker, share in self.server.contents().shares.items():
                # A worker that had left by then was known until it left.
                if worker not in before or before[worker].deadline != share.deadline:
                    self.renewals_lost |= {id_of(raw): why for raw in (*share.held, *share.running)}
            self.down_until = self.kernel.time + down_s
            self._tell(ServerRolledBack, why=why, lost=lost)
            for line in self._lines.values():
                line.cut_off()

        self.kernel.spawn(crash, "crash")

    def set_clock(self, rule: str, by_s: float) -> None:
        """Set the server's clock, as ``rule`` does."""
        self.server.skew_s += by_s
        self.jumps.append((self.kernel.time, rule, by_s))

    def refuse(self, calls: frozenset[str], why: str, for_s: float) -> None:
        """The server answers these calls with an error for a while."""
        self.refusal, self.refused_calls = why, calls
        self.refusing_until = self.kernel.time + for_s

    def inject(self, raw: bytes, queue: str = DEFAULT) -> None:
        """Push bytes as another program does."""
        self.others.pushed += 1
        driver = self.server.driver
        driver.push([raw]) if queue == DEFAULT else naming(driver).push([raw], 0.0, [queue])
        self.serve({queue} - {DEFAULT})

    def repeat(self) -> None:
        """Push the last job once more."""
        self.others.repeated.update(ids_of(self.others.last))
        self.server.driver.push([self.others.last])
        self.serve()

    def poison_current(self, process: SimRuntime) -> None:
        """Make the job of this task kill its process, now and at every attempt."""
        self.poisoned.add(self._attempting[id(self.kernel.current)].job_id)
        self.end(process)

    @property
    def attempt(self) -> int:
        """The number of the attempt that the current task makes."""
        return self._attempting[id(self.kernel.current)].attempt

    def others_ended(self) -> int:
        """The number of other programs' jobs that were settled for good."""
        return sum(len(moves) for job_id, moves in self.ended.items() if not self.is_ours(job_id))

    def is_ours(self, job_id: str) -> bool:
        """True if a process of this world pushed the job."""
        return job_id in self.came

    def called(self, process: SimRuntime) -> None:
        """Count a call of the server."""
        self.calls += 1
        if process.called_at != self.kernel.time:
            process.called_at, process.calls = self.kernel.time, 0
        process.calls += 1
        if process.calls > CALLS_AT_ONCE:
            self.spinning = process.name

    # -- what the network reports -----------------------------------------------------------------

    def serve(self, others: Collection[str] = ()) -> None:
        """Hand new jobs to waiting workers, first come first served. ``others``: named queues that got some."""
        self.named = self.named.union(others)
        empty: set[str] = set()
        for waiter in self.waiters[:]:
            source = waiter.queues[0]
            found = None if source in empty else look(self.server.driver, waiter.worker, (source,))
            if not isinstance(found, bytes):
                empty.add(source)
                if not others or not any(queue in others for queue in waiter.queues[1:]):
                    continue
                found = self.server_time  # it hears of a job of another of its queues
            self.waiters.remove(waiter)
            waiter.found.append(found)
            if isinstance(found, bytes):
                self.touched(found)
            self.kernel.wake(waiter.task)

    def ring(self, due: float) -> None:
        """End the waits that would last beyond a newly delayed job's due time."""
        for waiter in [waiter for waiter in self.waiters if due < waiter.until - EARLIER_S]:
            self.waiters.remove(waiter)
            waiter.found.append(due)
            self.kernel.wake(waiter.task)

    @property
    def set_back_s(self) -> float:
        """The total seconds by which the server's clock was set back."""
        return -sum(by for _, _, by in self.jumps if by < 0)

    @property
    def server_time(self) -> float:
        """The time on the server's clock."""
        return self.kernel.time + self.server.skew_s

    # -- what happened ----------------------------------------------------------------------------

    def close(self) -> None:
        """End all tasks; events and results stay."""
        self._closed = True
        with self._handler_time.passing() if self._virtual_handlers else nullcontext():
            self.kernel.close()

    def _see(self, event: Event) -> None:
        if self._closed:
            return
        self.events.append(event)
        self.times.append(self.kernel.time)
        if not self.direct:
            self.ledger.see(event, self.kernel.time)
        kind = type(event)
        if kind is AttemptStarted:
            if self.kernel.current is not None:
                self._attempting[id(self.kernel.current)] = event  # type: ignore[assignment]
        elif kind in PROGRESS:
            self.progress += 1
            if isinstance(event, JobDispatched) and event.due is not None:
                self.longest_delay_s = max(self.longest_delay_s, event.due - self.kernel.time)
        elif isinstance(event, AttemptLost):
            if self.announced[event.job_id]:
                self.announced[event.job_id] -= 1
            else:
                self.unannounced.append(event)
        elif isinstance(event, WorkerStopped):
            if event.unsettled:
                self.telling.silent.add(self._of_events[event.process].name)
            process = self._of_events[event.process]
            if any(handle.stuck for handle in self._queues[id(process)].handles):
                self.kernel.spawn(partial(self.replace, process), "replace")
            self.on_end(process)
        if self.dealings is not None:
            self.dealings.see(event, self._of_events[event.process])
        self.judges.see(event)

    def _tell(self, kind: type[Event], **facts: Any) -> None:
        self._sim_seq += 1
        self.events.append(kind(process="sim", seq=self._sim_seq, at=self.kernel.time, **facts))
        self.times.append(self.kernel.time)
