"""A reference queue beside the driver: each call is carried out on both, and the answers are compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from typing import Any, cast

from kashvi.cancelling import Cancelling
from kashvi.named import NamedQueues
from kashvi.names import DEFAULT
from kashvi.ports import (
    FIRST_LEASE_S,
    PAUSED,
    Driver,
    Exchange,
    Expired,
    Lock,
    Paused,
    Settlement,
    Shares,
    Stats,
    Unrecorded,
    Want,
    Where,
)
from kashvi.relaying import Relayed, Relaying, Stored
from kashvi.settings import pausing
from kashvi.ticking import Ask, Ticked, Ticking

from ..world.ledger import TIME_S
from ..world.server import Contents, Server
from .plain import PlainQueue, PlainWorker

HOUR_S = 3600.0
RELAYS_S = 5.0
"""How long a relay is let in. Not the driver's own constant, which may be wrong."""


class Reference:
    """The driver, with the reference queue beside it. ``now``: the server's clock."""

    def __init__(self, driver: Driver, now: Callable[[], float]) -> None:
        self.differences: list[str] = []
        self.queue = PlainQueue()
        self._driver = cast(NamedQueues, driver)  # as such only if a worker serves named queues
        self._cancels = cast(Cancelling, driver)  # likewise
        self._now = now

    @property
    def follows_up(self) -> bool:
        return bool(getattr(self._driver, "follows_up", False))

    @property
    def store(self) -> object:
        """The data of a driver in memory."""
        return getattr(self._driver, "store", None)

    @property
    def names_queues(self) -> bool:
        return bool(getattr(self._driver, "names_queues", False))

    def push(self, envelopes: Sequence[bytes], delay_s: float = 0.0, queues: Sequence[str] = ()) -> float | None:
        due = self._driver.push(envelopes, delay_s, queues) if queues else self._driver.push(envelopes, delay_s)
        right = self._now() + delay_s if delay_s > 0 else None
        self._same("the due time of a push", due, right)
        for envelope, queue in zip(envelopes, queues or [DEFAULT] * len(envelopes), strict=True):
            self.queue.line(queue).add(envelope, right)
        return due

    def push_unique(
        self, envelopes: Sequence[bytes], delay_s: float, queues: Sequence[str], locks: Sequence[Lock]
    ) -> tuple[float, float | None, list[str]]:
        answer = self._driver.push_unique(envelopes, delay_s, queues, locks)
        due = self._now() + delay_s if delay_s > 0 else None
        holders = [self.queue.taken(lock) for lock in locks]
        for envelope, queue, holder in zip(envelopes, queues, holders, strict=True):
            if not holder:
                self.queue.line(queue).add(envelope, due)
        self._same("who has the keys of a push", answer[2], holders)
        self._same("the due time of a push", answer[1], due)
        return answer

    def take_relay(self, outbox: str, token: str, before: str) -> list[str] | float:
        answer, now = self._relaying.take_relay(outbox, token, before), self._now()
        last, _, until = self.queue.relays.get(outbox, ("", 0, 0.0))
        if last and last != before and 0 < until - now <= RELAYS_S:
            self._same("when to ask again", answer, until - now)
        else:
            self.queue.relays[outbox] = token, 0, now + RELAYS_S
            kept = sorted(answer) if isinstance(answer, list) else answer
            self._same("the kept ids", kept, sorted(self.queue.relayed.get(outbox, ())))
        return answer

    def relay(
        self, outbox: str, token: str, n: int, rows: Sequence[Stored], gone: Sequence[str], for_s: float
    ) -> Relayed | None:
        answer, now = self._relaying.relay(outbox, token, n, rows, gone, for_s), self._now()
        last, number, _ = self.queue.relays.get(outbox, ("", 0, 0.0))
        if token != last:
            self._same("a push of another relay", answer, None)
            return answer
        kept = self.queue.relayed.setdefault(outbox, {})
        if n > number:
            self.queue.relays[outbox] = token, n, now + for_s
            for job_id in gone:
                kept.pop(job_id, None)
            for row in rows:
                if row.job_id not in kept:
                    kept[row.job_id] = f"{token} {n}", self.queue.taken(row.lock)
                    if not kept[row.job_id][1]:
                        self.queue.line(row.queue).add(row.envelope, now + row.in_s if row.in_s > 0 else None)
        right = [kept.get(row.job_id, ("", "")) for row in rows]
        done = None if answer is None else list(zip(answer.by, answer.holders, strict=True))
        self._same("what a push has done", done, right)
        return answer

    @property
    def keeps_ticks(self) -> bool:
        return bool(getattr(self._driver, "keeps_ticks", False))

    def tick(self, ask: Ask) -> Ticked:
        """The rules of its own: entries whose schedule and whose server's clock keep to what they are."""
        answer, now = cast(Ticking, self._driver).tick(ask), self._now()
        known, through = self.queue.ticks.get(ask.name), ask.through
        if known is None:
            self.queue.ticks[ask.name] = now
            self._same("a first look at a cron entry", answer.outcome, "first")
            return answer
        fires = ask.last == known and through is not None and known < through <= now
        self._same("whether a tick fires", answer.outcome == "fired", fires)
        holders = [self.queue.taken(one.lock) if one.lock[0] else "" for one in ask.jobs] if fires else []
        for one, holder in zip(ask.jobs, holders, strict=False):
            if not holder:
                self.queue.line(ask.queue).add(one.envelope, None)
        if fires and through is not None:
            self.queue.ticks[ask.name] = through
        self._same("the holders of a tick's keys", list(answer.holders), holders)
        self._same("the last tick", answer.last, self.queue.ticks[ask.name])
        return answer

    @property
    def _relaying(self) -> Relaying:
        return cast(Relaying, self._driver)

    def exchange(self, worker: str, n: int, lease_s: float, settlements: Sequence[Settlement], want: Want) -> Exchange:
        answer = self._driver.exchange(worker, n, lease_s, settlements, want)
        self._exchanged(worker, n, lease_s, settlements, want, answer)
        return answer

    def _exchanged(
        self, worker: str, n: int, lease_s: float, settlements: Sequence[Settlement], want: Want, answer: Exchange
    ) -> None:
        queue, now = self.queue, self._now()
        me = queue.workers.setdefault(worker, PlainWorker(now))
        self._same("server_at", answer.server_at, now)
        repeated, marked = n == me.n, bool(queue.marks)
        claimed: list[tuple[str, list[bytes]]] = []
        shares = Shares(max(want, 0), ((DEFAULT, max(want, 0)),)) if isinstance(want, int) else want
        served = {name: queue.line(name) for name, _ in shares.queues}
        if not repeated:
            me.deadline, me.n, me.settled_at = now + lease_s, n, now
            found: list[int] = []
            me.refused = tuple(i for i, s in enumerate(settlements) if not self._settle(worker, s, now, i, found))
            me.cancelled = tuple(found)
            for line in served.values():
                line.promote(now)
            left = shares.total
            for name, most in (*shares.queues, *((name, left) for name in served)):
                taken = [] if served[name].paused else served[name].take(min(most, left))
                left -= len(taken)
                claimed += [(name, taken)] if taken else []
                me.held += taken
        paused = tuple(name for name, line in served.items() if line.paused)
        looked_at = [line for name, line in served.items() if isinstance(want, int) or name not in paused]
        first = min((due for line in looked_at for due in line.delayed.values()), default=None)
        for what, got, wanted in (
            ("claimed", list(answer.claimed), [raw for _, taken in claimed for raw in taken]),
            (
                "claimed_of",
                tuple(answer.claimed_of),
                () if isinstance(want, int) else tuple((name, len(taken)) for name, taken in claimed),
            ),
            ("settled_at", answer.settled_at, me.settled_at),
            ("refused", tuple(answer.refused), me.refused),
            ("cancelled", tuple(answer.cancelled), me.cancelled),
            ("that there are marks", answer.marked_at is not None, marked),
            ("holding", answer.holding, len(me.held) + len(me.running)),
            ("ready", answer.ready, sum(len(line.jobs) for line in looked_at)),
            ("paused", answer.paused, len(paused) == len(served)),
            ("paused_queues", answer.paused_queues, () if isinstance(want, int) else paused),
            ("unrecorded", answer.unrecorded, len(queue.unrecorded)),
            ("next_due_s", answer.next_due_s, None if first is None else first - now),
            ("the listing", answer.listing, (me.held, me.running) if repeated else None),
        ):
            self._same(what, got, wanted)
        leaves = any(s.move == "leave" and s.owner == worker for s in settlements)
        if leaves and not repeated and not (me.held or me.running):
            del queue.workers[worker]

    def _settle(self, worker: str, s: Settlement, now: float, index: int, cancelled: list[int]) -> bool:
        queue, owner = self.queue, self.queue.workers.get(s.owner)
        if owner is None:
            return False
        if s.owner != worker and (owner.deadline > now or s.lease_end not in (None, owner.deadline)):
            return False
        if s.move == "leave":
            if s.owner == worker:
                return True
            gone = not (owner.held or owner.running) and owner.deadline <= now - HOUR_S
            if gone:
                del queue.workers[s.owner]
            return gone
        place = owner.held if s.place == "held" else owner.running
        if s.old not in place:
            return False
        place.remove(s.old)
        marked = s.job_id in queue.marks and (s.move != "done" or (s.follow_ups and s.follow_ups[-1].link))
        if marked and s.move != "start":
            queue.marks.pop(s.job_id, None)
            cancelled.append(index)
            if s.move != "done":
                queue.free(s.lock)
                return True
        if s.move in ("done", "fail"):
            queue.free(s.lock)
        for envelope, in_s, name, lock, link in s.follow_ups:
            if not (link and marked) and not queue.taken(lock):
                queue.line(name).add(envelope, now + in_s if in_s > 0 else None)
        if s.move == "retry":
            queue.line(s.queue).add(s.new, now + s.in_s)
        elif s.move == "fail":
            queue.unrecorded[s.new] = now + s.in_s
        elif s.move == "return":
            queue.line(s.queue).jobs.insert(0, s.new)
        elif s.move == "start":
            owner.running.append(s.old)
        return True

    def wait(self, worker: str, seconds: float, queues: Sequence[str] = (DEFAULT,)) -> bytes | float | None:
        """Look once: the simulator does the waiting."""
        named = tuple(queues) != (DEFAULT,)
        got = self._driver.wait(worker, seconds, queues) if named else self._driver.wait(worker, seconds)
        me = self.queue.workers.setdefault(worker, PlainWorker(self._now() + FIRST_LEASE_S))
        right = self.queue.line(queues[0]).take(1)
        self._same("a wait's job", got if isinstance(got, bytes) else None, next(iter(right), None))
        me.held += right
        return got

    def next_due(self, queues: Sequence[str] = (DEFAULT,)) -> float | Paused | None:
        got = self._driver.next_due() if tuple(queues) == (DEFAULT,) else self._driver.next_due(queues)
        lines = [line for line in map(self.queue.line, queues) if not line.paused]
        first = min((due for line in lines for due in line.delayed.values()), default=None)
        self._same("next_due()", got, first if lines else PAUSED)
        return got

    def pause(self, queue: str = DEFAULT) -> float:
        self.queue.line(queue).paused = True
        return pausing(self._driver, queue).pause()

    def resume(self, queue: str = DEFAULT) -> float:
        self.queue.line(queue).paused = False
        return pausing(self._driver, queue).resume()

    def paused_since(self, queue: str = DEFAULT) -> float | None:
        return pausing(self._driver, queue).paused_since()

    def mark(self, job_id: str) -> float:
        self.queue.marks[job_id] = at = self._cancels.mark(job_id)
        return at

    def unmark(self, job_id: str, at: float) -> bool:
        was = self._cancels.unmark(job_id, at)
        self._same("whether a job was marked", was, job_id in self.queue.marks)
        if self.queue.marks.get(job_id) == at:
            del self.queue.marks[job_id]
        return was

    def marked(self, job_ids: Sequence[str]) -> list[str]:
        found = self._cancels.marked(job_ids)
        self._same("which jobs are marked", found, [one for one in job_ids if one in self.queue.marks])
        return found

    def search(self, text: bytes, where: Where, queue: str = DEFAULT) -> Iterator[bytes]:
        return self._cancels.search(text, where, queue)

    def take_out(self, job_id: str, where: Where, queue: str, envelope: bytes, lock: Lock) -> float | None:
        line, at = self.queue.line(queue), self._cancels.take_out(job_id, where, queue, envelope, lock)
        there = envelope in (line.jobs if where == "ready" else line.delayed)
        self._same("whether a cancelled job was there", at is not None, there)
        if there:
            line.jobs.remove(envelope) if where == "ready" else line.delayed.pop(envelope)
            self.queue.free(lock)
            self.queue.marks.pop(job_id, None)
        return at

    def queue_names(self) -> list[str]:
        return self._cancels.queue_names()

    def wake(self, worker: str) -> None:
        self._driver.wake(worker)

    def expired(self, limit: int) -> Expired:
        found = self._driver.expired(limit)
        dead = {name: one for name, one in self.queue.workers.items() if one.deadline <= self._now()}
        had = [(name, "running", raw) for name, one in dead.items() for raw in one.running[::-1]]
        had += [(name, "held", raw) for name, one in dead.items() for raw in one.held[::-1]]
        lost = [(one.owner, one.place, one.envelope) for one in found.lost]
        if len(had) < limit:
            for name in dead:
                mine = [one for one in lost if one[0] == name]
                self._same(f"what {name} had", mine, [one for one in had if one[0] == name])
            self._same("how many were lost", len(lost), len(had))
            gone = sorted(n for n, one in dead.items() if not (one.held or one.running) and self._hour_ago(one))
            self._same("who is gone", sorted(found.gone), gone[:limit])
        return found

    def _hour_ago(self, one: PlainWorker) -> bool:
        return one.deadline <= self._now() - HOUR_S

    def unrecorded(self, limit: int, skip: int = 0) -> list[Unrecorded]:
        found = self._driver.unrecorded(limit, skip)
        oldest = sorted((at, raw) for raw, at in self.queue.unrecorded.items())[skip : skip + limit]
        self._same("unrecorded()", [(one.failed_at, one.envelope) for one in found], oldest)
        return found

    def recorded(self, envelopes: Sequence[bytes]) -> None:
        self._driver.recorded(envelopes)
        for raw in envelopes:
            self.queue.unrecorded.pop(raw, None)

    def stats(self) -> Stats:
        found = self._driver.stats()
        queue = self.queue
        held = sum(len(one.held) + len(one.running) for one in queue.workers.values())
        ready = sum(len(line.jobs) for line in queue.lines.values())
        delayed = sum(len(line.delayed) for line in queue.lines.values())
        wanted = Stats(ready, delayed, held, len(queue.unrecorded), len(queue.workers))
        self._same("stats()", found, wanted)
        return found

    def _same(self, what: str, got: object, wanted: object) -> None:
        if got == wanted or (isinstance(got, float) and isinstance(wanted, float) and abs(got - wanted) < TIME_S):
            return
        self.differences.append(f"{what}: the driver says {got!r}, and {wanted!r} is right")


class Beside:
    """A server whose driver is compared with a reference queue."""

    def __init__(self, server: Server, time: Callable[[], float]) -> None:
        self._server = server
        self.reference = Reference(server.driver, lambda: time() + server.skew_s)
        self.driver: Driver = self.reference

    @property
    def skew_s(self) -> float:
        return self._server.skew_s

    @skew_s.setter
    def skew_s(self, seconds: float) -> None:
        self._server.skew_s = seconds

    def handle(self) -> Driver:
        return self.driver

    def contents(self) -> Contents:
        return self._server.contents()

    def ready(self, queue: str) -> int:
        return self._server.ready(queue)

    def holds(self, worker: str) -> bool:
        return self._server.holds(worker)

    def snapshot(self) -> Any:
        return self._server.snapshot(), deepcopy(self.reference.queue)

    def restore(self, snapshot: Any) -> None:
        inner, queue = snapshot
        self._server.restore(inner)
        self.reference.queue = deepcopy(queue)

    def clear(self) -> None:
        self._server.clear()
        self.reference.queue = PlainQueue()
