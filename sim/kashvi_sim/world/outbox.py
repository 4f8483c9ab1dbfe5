"""An outbox in memory: the app's transactions, the rows as relays see them, and a ledger of what became of each job.

Its numbers are given at the INSERT and its rows are seen from the commit on, as in a real database; its clock is an
hour ahead of the server's. A relay's calls are calls of a database: tasks may switch there, and faults strike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from kashvi_spec.judging import ROUNDING_S, Violation

from kashvi.dispatch import Sealed
from kashvi.errors import OutboxUnavailable, StoreUnavailable
from kashvi.events import AttemptStarted
from kashvi.outbox.relay import Row
from kashvi.relaying import RELAY_S, Relayed, Relaying, Stored, push_name

if TYPE_CHECKING:
    from kashvi.named import NamedQueues

    from .runtime import SimRuntime
    from .world import World

T = TypeVar("T")

CLOCK_S = 3600.0
"""How far its clock is ahead."""


@dataclass(frozen=True)
class Entry:
    """A row, committed or not."""

    number: int
    transaction: Transaction
    sealed: Sealed
    delay_s: float
    at: float
    """The time of the INSERT, by the database's clock."""


class Transaction:
    """A transaction of the app; the argument ``session`` of a dispatch."""

    def __init__(self, outbox: SimOutbox) -> None:
        self._outbox = outbox
        self.entries: list[Entry] = []
        self.committed = False
        self.over = False

    def insert(self, sealed: Sequence[Sealed], delay_s: float) -> None:
        self.entries += [self._outbox.entry(self, one, delay_s) for one in sealed]

    def commit(self) -> None:
        self.committed = self.over = True
        self._outbox.rows |= {one.sealed.job_id: one for one in self.entries}

    def roll_back(self) -> None:
        self.over = True


class SimOutbox:
    """The database, and the ledger."""

    def __init__(self, world: World, hold_s: float) -> None:
        self.hold_s = hold_s
        self.rows: dict[str, Entry] = {}
        """The committed rows, by job id."""
        self.transactions: list[Transaction] = []
        self._world = world
        self._number = 0
        self._pushed: list[str] = []
        """The jobs that the server added, in the order of their pushes."""
        self._early: dict[str, float] = {}
        self._numbers: dict[str, int] = {}
        """The last push of each relay that the server carried out, by its token."""

    def begin(self) -> Transaction:
        self.transactions.append(Transaction(self))
        return self.transactions[-1]

    def entry(self, transaction: Transaction, sealed: Sealed, delay_s: float) -> Entry:
        self._number += 1
        return Entry(self._number, transaction, sealed, delay_s, self.now())

    def now(self) -> float:
        return self._world.kernel.time + CLOCK_S

    @property
    def quiet(self) -> bool:
        """True if no transaction is open, and no row is left."""
        return not self.rows and all(one.over for one in self.transactions)

    def is_new(self, token: str, n: int) -> bool:
        """True if the server has not carried out this push, or a later one of this relay, before."""
        new = n > self._numbers.get(token, 0)
        self._numbers[token] = max(n, self._numbers.get(token, 0))
        return new

    def arrived(self, rows: Sequence[Stored]) -> None:
        """The server has added these jobs."""
        entries = {e.sealed.job_id: e for t in self.transactions for e in t.entries}
        for row in rows:
            self._pushed.append(row.job_id)
            entry = entries.get(row.job_id)
            if entry is not None and (early_s := entry.at + entry.delay_s - self.now() - row.in_s) > ROUNDING_S:
                self._early[row.job_id] = early_s

    def judged(self) -> Iterator[Violation]:
        """Violations of a finished run: committed is queued once and ends, rolled back never; in order, not early."""
        world, times, places = self._world, Counter(self._pushed), {job_id: n for n, job_id in enumerate(self._pushed)}
        started = {event.job_id for event in world.events if isinstance(event, AttemptStarted)}
        for transaction in self.transactions:
            last = -1
            for entry in transaction.entries:
                job_id = entry.sealed.job_id
                if not transaction.committed:
                    if times[job_id] or job_id in started:
                        yield Violation("committed iff queued", job_id, "rolled back, and queued")
                    continue
                forgotten = job_id in world.rolled_back
                if job_id in world.lost_pushes and not self.hold_s:
                    continue  # its row was deleted when the server had acknowledged it
                if times[job_id] != 1 and not (forgotten and times[job_id]):
                    yield Violation("committed iff queued", job_id, f"committed, and queued {times[job_id]} times")
                elif job_id not in world.ended:
                    yield Violation("committed iff queued", job_id, "committed and queued, and it never ended")
                if job_id in self._early:
                    why = f"pushed to be due {self._early[job_id]:.6f} s early"
                    yield Violation("committed iff queued", job_id, why)
                if not forgotten and not entry.delay_s:
                    if places.get(job_id, last) < last:
                        yield Violation(
                            "committed iff queued", job_id, "queued before an earlier one of its transaction"
                        )
                    last = max(last, places.get(job_id, last))


class RelayedTo:
    """The part of a process's line to the server that its relays use."""

    _world: World
    _server: NamedQueues

    def _call(self, call: str, effect: Callable[[], T], late: Callable[[], Any] | None = None) -> T:
        raise NotImplementedError

    def _arrived(self, envelopes: Sequence[bytes], delay_s: float, queues: Sequence[str], due: float | None) -> None:
        raise NotImplementedError

    @property
    def relay_target(self) -> str:
        return "simulated"

    def take_relay(self, outbox: str, token: str, before: str) -> list[str] | float:
        return self._call("take_relay", lambda: self._relaying.take_relay(outbox, token, before))

    def relay(
        self, outbox: str, token: str, n: int, rows: Sequence[Stored], gone: Sequence[str], for_s: float = RELAY_S
    ) -> Relayed | None:
        return self._call("relay", lambda: self.relayed(outbox, token, n, rows, gone, for_s))

    def relayed(
        self, outbox: str, token: str, n: int, rows: Sequence[Stored], gone: Sequence[str], for_s: float
    ) -> Relayed | None:
        """The effect of a relay's push on the server, and for others."""
        world = self._world
        answer = self._relaying.relay(outbox, token, n, rows, gone, for_s)
        if answer is None or world.outbox is None or not world.outbox.is_new(token, n):
            return answer
        now = push_name(token, n)
        added = [
            row for row, by, holder in zip(rows, answer.by, answer.holders, strict=True) if by == now and not holder
        ]
        world.outbox.arrived(added)
        for row in added:
            due = answer.done_at + row.in_s if row.in_s > 0 else None
            self._arrived([row.envelope], row.in_s, [row.queue], due)
        return answer

    @property
    def _relaying(self) -> Relaying:
        return cast(Relaying, self._server)


class OutboxLine:
    """One process's relay reads and deletes rows through it."""

    def __init__(self, world: World, process: SimRuntime, outbox: SimOutbox) -> None:
        self._world = world
        self._process = process
        self._outbox = outbox

    place = "the simulated database"

    def name(self) -> str:
        return "outbox"

    def waiting(self, but: Collection[str], limit: int, most_bytes: int) -> list[Row]:
        def read() -> list[Row]:
            now, passed = self._outbox.now(), frozenset(but)
            found = sorted(self._outbox.rows.values(), key=lambda one: one.number)
            return [
                Row(e.sealed.job_id, e.sealed.envelope, max(0.0, e.delay_s - (now - e.at)) if e.delay_s else 0.0)
                for e in found
                if e.sealed.job_id not in passed
            ][:limit]

        return self._call("rows", read)

    def present(self, job_ids: Sequence[str]) -> set[str]:
        return self._call("rows", lambda: set(job_ids) & self._outbox.rows.keys())

    def delete(self, job_ids: Sequence[str]) -> None:
        def delete() -> None:
            for job_id in job_ids:
                self._outbox.rows.pop(job_id, None)

        self._call("delete", delete)

    def watch(self, hint: Callable[[], None]) -> Callable[[], None]:
        return lambda: None

    def rest(self) -> None:
        """There is no connection to close."""

    def _call(self, call: str, effect: Callable[[], T]) -> T:
        world, process = self._world, self._process
        world.kernel.check_open()
        assert not process.dead, "a dead process made a call"
        world.kernel.pause()
        try:
            world.strike("before", call, process, None)
            if world.kernel.time < world.database_down_until:
                raise OutboxUnavailable("the simulated database is down")
            answer = effect()
            world.strike("after", call, process, None)
        except StoreUnavailable as error:
            raise OutboxUnavailable(str(error)) from None
        return answer
