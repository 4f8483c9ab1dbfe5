"""A process's connection to the server: at every call tasks may switch and faults strike."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from kashvi.cancelling import Cancelling
from kashvi.dispatch import naming
from kashvi.drivers.lines import MemoryStore
from kashvi.errors import CommandRefused, DriverUnavailable, ReplyLost
from kashvi.named import NamedQueues, QueueStats
from kashvi.names import DEFAULT
from kashvi.ports import (
    EARLIER_S,
    PAUSED,
    WAIT_MAX_S,
    Driver,
    Exchange,
    Expired,
    Lock,
    Paused,
    Pausing,
    Settlement,
    Stats,
    Unrecorded,
    Want,
    Where,
)
from kashvi.settings import pausing
from kashvi.ticking import Ask, Ticked, Ticking

from .kernel import Task
from .keys import stray
from .ledger import id_of
from .outbox import RelayedTo
from .runtime import SimRuntime

if TYPE_CHECKING:
    from .world import World

T = TypeVar("T")


class Waiter(NamedTuple):
    """A worker that waits on the server for a job."""

    worker: str
    task: Task
    line: Line
    until: float
    found: list[bytes | float]
    cut: int
    """How often its line had been cut."""
    queues: Sequence[str]


def look(server: Driver, worker: str, queues: Sequence[str]) -> bytes | float | None:
    """A wait that does not wait."""
    return server.wait(worker, 0.0) if queues == (DEFAULT,) else naming(server).wait(worker, 0.0, queues)


def first_due(server: Driver, named: Collection[str]) -> float | Paused | None:
    """``next_due`` of the default queue and those that are named."""
    return naming(server).next_due((DEFAULT, *sorted(named))) if named else server.next_due()


class Line(RelayedTo):
    """One process's driver: the server's, with a network between."""

    def __init__(self, world: World, process: SimRuntime) -> None:
        self._world = world
        self._process = process
        self._kernel = world.kernel
        self._server = cast(NamedQueues, world.server.handle())
        self._cancels = cast(Cancelling, self._server)
        self.process_id = ""
        """The process's id in its events."""
        self.unreachable_until = 0.0
        self.cut = 0
        """How often its connections were cut."""

    @property
    def follows_up(self) -> bool:
        return bool(getattr(self._server, "follows_up", False))

    def __repr__(self) -> str:
        return "simulated"

    @property
    def names_queues(self) -> bool:
        return bool(getattr(self._server, "names_queues", False))

    def push(self, envelopes: Sequence[bytes], delay_s: float = 0.0, queues: Sequence[str] = ()) -> float | None:
        return self._call("push", lambda: self.pushed(envelopes, delay_s, queues))

    def pushed(self, envelopes: Sequence[bytes], delay_s: float, queues: Sequence[str] = ()) -> float | None:
        """The effect of a push on the server, and for others."""
        due = self._server.push(envelopes, delay_s, queues) if queues else self._server.push(envelopes, delay_s)
        self._arrived(envelopes, delay_s, queues, due)
        return due

    def push_unique(
        self, envelopes: Sequence[bytes], delay_s: float, queues: Sequence[str], locks: Sequence[Lock]
    ) -> tuple[float, float | None, list[str]]:
        return self._call("push", lambda: self.pushed_unique(envelopes, delay_s, queues, locks))

    def pushed_unique(
        self, envelopes: Sequence[bytes], delay_s: float, queues: Sequence[str], locks: Sequence[Lock]
    ) -> tuple[float, float | None, list[str]]:
        """As ``pushed``, of unique jobs."""
        now, due, holders = self._server.push_unique(envelopes, delay_s, queues, locks)
        added = [one for one, holder in zip(envelopes, holders, strict=True) if not holder]
        if added:
            self._arrived(added, delay_s, queues, due)
        self._judge_keys()
        return now, due, holders

    def _arrived(self, envelopes: Sequence[bytes], delay_s: float, queues: Sequence[str], due: float | None) -> None:
        """A push has come to the server."""
        self._world.pushed(envelopes)
        self._world.serve(set(queues) - {DEFAULT})
        if due is not None and delay_s < WAIT_MAX_S:
            self._world.ring(due)

    def _judge_keys(self) -> None:
        """At each step of the server, with unique jobs in memory."""
        store, dealings = getattr(self._server, "store", None), self._world.dealings
        if self._world.struck["repeated_id"]:
            return  # another program has sent a job twice, without asking for its key
        if isinstance(store, MemoryStore) and dealings is not None and (store.unique or dealings.keyed):
            dealings.keyed = True
            if why := stray(store):
                dealings.unkept("one job a key", why)

    @property
    def keeps_ticks(self) -> bool:
        return bool(getattr(self._server, "keeps_ticks", False))

    def tick(self, ask: Ask) -> Ticked:
        def effect() -> Ticked:
            answer = cast(Ticking, self._server).tick(ask)
            added = [one.envelope for one, holder in zip(ask.jobs, answer.holders, strict=False) if not holder]
            for one in ask.jobs if answer.outcome == "fired" else ():
                self._world.touched(one.envelope)
            if answer.outcome == "fired" and added:
                self._arrived(added, 0.0, [ask.queue], None)
                self._judge_keys()
            return answer

        return self._call("tick", effect)

    def last_ticks(self) -> tuple[float, dict[str, float]]:
        return self._call("last_ticks", cast(Ticking, self._server).last_ticks)

    def forget_ticks(self, name: str) -> bool:
        return self._call("forget_ticks", lambda: cast(Ticking, self._server).forget_ticks(name))

    def exchange(self, worker: str, n: int, lease_s: float, settlements: Sequence[Settlement], want: Want) -> Exchange:
        for settlement in settlements:
            self._world.ledger.sends(settlement, worker, self.process_id, self._kernel.time)
        dealings = self._world.dealings

        def effect() -> Exchange:
            return self.exchanged(worker, n, lease_s, settlements, want)

        if dealings is None:
            return self._call("exchange", effect)
        return dealings.exchange(self._process, n, settlements, want, lambda: self._call("exchange", effect))

    def exchanged(self, worker: str, n: int, lease_s: float, settlements: Sequence[Settlement], want: Want) -> Exchange:
        """The effect of an exchange on the server, and for others."""
        world, answer = self._world, self._server.exchange(worker, n, lease_s, settlements, want)
        if answer.listing is None:
            if world.dealings is not None:
                world.dealings.arrived(self._process, [id_of(s.old) for s in settlements], bool(answer.refused))
                world.dealings.claimed(self._process, want, answer)
            for i, settlement in enumerate(settlements):
                if i not in answer.refused:
                    gone = i in answer.cancelled
                    if gone and settlement.move != "done":
                        settlement = settlement._replace(move="done", new=b"")  # noqa: PLW2901
                    world.settled(settlement, self._process)
                    if settlement.follow_ups:
                        sent = settlement.follow_ups[:-1] if gone else settlement.follow_ups
                        added = [one for k, one in enumerate(sent) if (i, k) not in answer.duplicates]
                        if added:
                            world.pushed([one.envelope for one in added])
            for envelope in answer.claimed:
                world.touched(envelope)
                if not world.direct:
                    world.ledger.claimed.setdefault(id_of(envelope), set()).add(answer.server_at)
        others = {q for s in settlements if (q := s.queue) != DEFAULT and s.move == "return"}
        others |= {one.queue for s in settlements for one in s.follow_ups} - {DEFAULT}
        if answer.ready or others:
            world.serve(others)
        self._judge_keys()
        if answer.next_due_s is not None and any(map(_soon_due, settlements)):
            world.ring(answer.server_at + answer.next_due_s)
        return answer

    def wait(self, worker: str, seconds: float, queues: Sequence[str] = (DEFAULT,)) -> bytes | float | None:
        def effect() -> bytes | float | None:
            return self.looked(worker, queues)

        def patient() -> bytes | float | None:
            waiter = self.queued(worker, seconds, queues)
            if not isinstance(waiter, Waiter):
                return waiter
            try:
                self._kernel.block([], seconds)
            finally:
                self.leaves(waiter)
            return self.found(waiter)

        if (dealings := self._world.dealings) is None:
            return self._call("wait", patient, effect)
        return dealings.wait(self._process, lambda: self._call("wait", patient, effect))

    def looked(self, worker: str, queues: Sequence[str]) -> bytes | float | None:
        """The effect of a wait that does not wait."""
        envelope = look(self._server, worker, queues)
        if isinstance(envelope, bytes):
            self._world.touched(envelope)
        if envelope is None and any(self._world.server.ready(queue) for queue in queues[1:]):
            return self._world.server_time  # a driver on Redis hears of it
        return envelope

    def queued(self, worker: str, seconds: float, queues: Sequence[str]) -> Waiter | bytes | float | None:
        """The current task as a waiter; or what there is at once."""
        if (envelope := self.looked(worker, queues)) is not None:
            return envelope
        task = self._kernel.current
        assert task is not None
        until = self._world.server_time + seconds
        if isinstance(due := self.due(queues), float) and due < until - EARLIER_S:
            return due  # of a paused queue: by the next look
        waiter = Waiter(worker, task, self, until, [], self.cut, queues)
        self._world.waiters.append(waiter)
        return waiter

    def leaves(self, waiter: Waiter) -> None:
        if waiter in self._world.waiters:
            self._world.waiters.remove(waiter)

    def found(self, waiter: Waiter) -> bytes | float | None:
        if self.cut != waiter.cut:
            raise ReplyLost("the connection was cut", "the simulated server")
        return waiter.found[0] if waiter.found else None

    def next_due(self, queues: Sequence[str] = (DEFAULT,)) -> float | Paused | None:
        if (dealings := self._world.dealings) is not None:
            dealings.next_due(self._process)
        due = self._call("next_due", lambda: self.due(queues))
        if due is PAUSED and dealings is not None:
            dealings.paused(self._process)
        return due

    def due(self, queues: Sequence[str] = (DEFAULT,)) -> float | Paused | None:
        return self._server.next_due() if queues == (DEFAULT,) else self._server.next_due(queues)

    def pause(self, queue: str = DEFAULT) -> float:
        def effect() -> float:
            at = self._of(queue).pause()
            self._world.ring(at)
            return at

        return self._call("pause", effect)

    def resume(self, queue: str = DEFAULT) -> float:
        return self._call("resume", lambda: self._of(queue).resume())

    def paused_since(self, queue: str = DEFAULT) -> float | None:
        return self._call("paused_since", lambda: self._of(queue).paused_since())

    def mark(self, job_id: str) -> float:
        def effect() -> float:
            self._world.marked(job_id)
            return self._cancels.mark(job_id)

        return self._call("mark", effect)

    def unmark(self, job_id: str, at: float) -> bool:
        return self._call("unmark", lambda: self._cancels.unmark(job_id, at))

    def marked(self, job_ids: Sequence[str]) -> list[str]:
        return self._call("marked", lambda: self.which_marked(job_ids))

    def which_marked(self, job_ids: Sequence[str]) -> list[str]:
        return self._cancels.marked(job_ids)

    def search(self, text: bytes, where: Where, queue: str = DEFAULT) -> Iterator[bytes]:
        return self._call("search", lambda: iter([*self._cancels.search(text, where, queue)]))

    def take_out(self, job_id: str, where: Where, queue: str, envelope: bytes, lock: Lock) -> float | None:
        def effect() -> float | None:
            at = self._cancels.take_out(job_id, where, queue, envelope, lock)
            if at is not None:
                self._world.taken_out(job_id, self._process)
            self._judge_keys()
            return at

        return self._call("take_out", effect)

    def queue_names(self) -> list[str]:
        return self._call("queue_names", self._cancels.queue_names)

    def _of(self, queue: str) -> Pausing:
        return pausing(self._server, queue)

    def wake(self, worker: str) -> None:
        """Do nothing: as on Redis, a wait is short and ends by itself."""

    def expired(self, limit: int) -> Expired:
        if (dealings := self._world.dealings) is None:
            return self._call("expired", lambda: self.dead(limit))
        return dealings.expired(self._process, lambda: self._call("expired", lambda: self.dead(limit)))

    def dead(self, limit: int) -> Expired:
        return self._server.expired(min(self._process.reads_most or limit, limit))

    def unrecorded(self, limit: int, skip: int = 0) -> list[Unrecorded]:
        return self._call("unrecorded", lambda: self._server.unrecorded(limit, skip))

    def recorded(self, envelopes: Sequence[bytes]) -> None:
        def effect() -> None:
            self._server.recorded(envelopes)
            for envelope in envelopes:
                self._world.touched(envelope)

        self._call("recorded", effect)

    def stats(self) -> Stats:
        return self._call("stats", self._server.stats)

    def queue_stats(self) -> dict[str, QueueStats]:
        return self._call("queue_stats", self._server.queue_stats)

    def cut_off(self) -> None:
        """End all connections of this process, and wake its waits."""
        self.cut += 1
        for waiter in self._world.waiters[:]:
            if waiter.line is self:
                self._world.waiters.remove(waiter)
                self._kernel.wake(waiter.task)

    def _call(self, call: str, effect: Callable[[], T], late: Callable[[], Any] | None = None) -> T:
        world, process, task = self._world, self._process, self._kernel.current
        self._kernel.check_open()
        assert not process.dead, "a dead process made a call"
        world.called(process)
        on_stage = task is not None and task.on_stage
        if task is not None and on_stage:
            task.on_stage = False  # a handler's call: the code that talks to the server needs real time
        failed, dealings = True, world.dealings if call not in ("wait", "take_relay", "relay") else None
        if dealings is not None:
            dealings.begins(dealings.of(process))
        try:
            self._kernel.pause()
            world.strike("before", call, process, late or effect)
            self.reach(call)
            answer = effect()
            world.strike("after", call, process, None)
            failed = False
            return answer
        finally:
            if dealings is not None:
                dealings.ends(dealings.of(process), failed)
            if task is not None and on_stage:
                task.on_stage = True
                self._kernel.on_resume(task)

    def reach(self, call: str) -> None:
        """Raise the error if the server can't be reached or refuses the call."""
        world, now = self._world, self._kernel.time
        if now < max(self.unreachable_until, world.down_until):
            raise DriverUnavailable("connection refused", "the simulated server")
        if world.refusal and now < world.refusing_until and call in world.refused_calls:
            raise CommandRefused(world.refusal, "the simulated server")


def _soon_due(s: Settlement) -> bool:
    """True if it delays a job for less than a wait may take."""
    if s.move == "retry":
        return s.in_s < WAIT_MAX_S
    return any(0 < one.in_s < WAIT_MAX_S for one in s.follow_ups)
