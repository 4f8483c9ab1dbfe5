"""Pushes the committed rows of an outbox to the queue's server: read, push, delete, each step for itself.

One relay of an outbox at a time is let in by the server, with a token; its pushes are numbered (``kashvi.relaying``).
The server keeps the ids of what was pushed, so a row that is read again is not pushed again. After its deletion is
committed, the next push names the id, and the server forgets it. A relay that was let in first looks which of the ids
that the server kept have no row any more: their deletion was committed, and never named.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, Protocol

from .. import events
from ..errors import CommandRefused, DriverError, NotAnEnvelope, OutboxUnavailable
from ..jobs.chain import ids_in
from ..jobs.envelope import Envelope, lock_in, queue_in, read
from ..names import DEFAULT
from ..ports import NO_LOCK, Runtime
from ..relaying import RELAY_S, Relayed, Relaying, Stored, push_name
from ..stream import EventStream
from ..text import visible

BATCH = 500
BATCH_BYTES = 8 * 1024 * 1024
"""A batch ends with the row that reaches this."""
FORGET_MAX = 5_000
"""The most ids that one push lets the server forget."""
POLL_S = 0.2
RENEW_S = 2.0
"""How often a relay without rows renews its time at the server."""
PAUSE_FIRST_S = 0.5
PAUSE_MAX_S = 30.0
REFUSED_S = 600.0
"""The wait before rows that the server refused are tried again."""


class Row(NamedTuple):
    """A committed row."""

    job_id: str
    envelope: bytes
    in_s: float = 0.0


class Rows(Protocol):
    """An outbox, as its relay sees it. Every method raises OutboxUnavailable, and is a transaction of its own."""

    @property
    def place(self) -> str:
        """Its database, without secrets. Raises nothing."""

    def name(self) -> str:
        """Made with its table: two databases have different names. Makes the table, if there is none."""

    def waiting(self, but: Collection[str], limit: int, most_bytes: int) -> list[Row]:
        """The oldest committed rows of this queue, without those of the jobs ``but``."""

    def present(self, job_ids: Sequence[str]) -> set[str]:
        """Those of these jobs that have a row."""

    def delete(self, job_ids: Sequence[str]) -> None:
        """Delete their rows, if they are there; committed when it returns."""

    def rest(self) -> None:
        """No call comes soon."""

    def watch(self, hint: Callable[[], None]) -> Callable[[], None]:
        """Call ``hint`` after a commit in this process, where that is known; returns a function that ends it."""


class _Push(NamedTuple):
    """A push, and its number."""

    n: int
    rows: Sequence[Stored]
    gone: Sequence[str]


class _OnHold(NamedTuple):
    """A row whose job was pushed, and which is not deleted yet."""

    by: str
    """The push that added it."""
    until: float
    """It is deleted then, by this process's clock, if the server still has the job by that push."""


class Relay:
    """One process's relay of one outbox; ``run`` in a thread of its own."""

    def __init__(
        self, driver: Relaying, rows: Rows, runtime: Runtime, stream: EventStream, hold_s: float = 0.0
    ) -> None:
        self._driver = driver
        self._rows = rows
        self._runtime = runtime
        self._stream = stream
        self._hold_s = hold_s
        self._outbox = ""
        self._bell = runtime.condition()
        self._rung = self._stopped = False
        self._before = ""
        """The last token that this relay has sent."""
        self._pause_s = 0.0
        self._forget()

    def _forget(self) -> None:
        """Another relay may be let in: begin anew."""
        self._token = ""
        """Empty: not let in."""
        self._n = 0
        self._unanswered: _Push | None = None
        self._gone: list[str] = []
        """Ids whose rows are deleted, which the server still keeps."""
        self._on_hold: dict[str, _OnHold] = {}
        self._refused: dict[str, float] = {}
        """Rows that the server refuses, and when it is asked again."""
        self._size = BATCH
        self._renew_at = 0.0

    # -- the thread -----------------------------------------------------------------------------

    def run(self) -> None:
        """Until ``stop``."""
        forget = self._rows.watch(self.hint)
        try:
            while not self._stopped:
                self._wait(self.step())
        finally:
            forget()
        self.leave()

    def stop(self) -> None:
        """End ``run`` after the step under way."""
        with self._bell:
            self._stopped = True
            self._bell.notify_all()

    def hint(self) -> None:
        """There may be new rows."""
        with self._bell:
            self._rung = True
            self._bell.notify_all()

    def _wait(self, seconds: float) -> None:
        with self._bell:
            if seconds > 0 and not self._stopped and not (self._rung and self._token and not self._pause_s):
                self._bell.wait(seconds)
            self._rung = False

    def leave(self) -> None:
        """Let another relay in at once."""
        self._rows.rest()
        if not self._token:
            return
        try:
            self._driver.relay(self._outbox, self._token, self._n + 1, (), self._gone[:FORGET_MAX], 0.0)
        except DriverError:
            """Another one is let in when the time is over."""
        self._before = self._token
        self._forget()

    def flush(self) -> bool:
        """Push what is committed by now, then let another relay in. True if a job was pushed."""
        pushed = 0
        try:
            while self.step() <= 0:
                pushed += self._pushed
        finally:
            self.leave()
        return pushed > 0

    def step(self) -> float:
        """One round; returns the seconds until the next. Raises nothing but what interrupts it."""
        self._pushed = 0
        try:
            return self._round() if self._token else self._take_over()
        except (DriverError, OutboxUnavailable) as error:
            return self._rest(error)
        except Exception as error:  # of a driver that the app wrote; the worker must go on
            events.warn(f"kashvi's relay of the outbox in {visible(self._rows.place)} goes on after an error", error)
            self._forget()
            return self._rest(error)

    # -- one round ------------------------------------------------------------------------------

    def _take_over(self) -> float:
        self._outbox = self._outbox or self._rows.name()
        token, before = self._runtime.new_id(), self._before
        self._before = token
        answer = self._driver.take_relay(self._outbox, token, before)
        if isinstance(answer, float):
            self._wake()
            return min(answer, RELAY_S)
        self._forget()
        present = self._rows.present(answer) if answer else set()
        self._token = token
        self._gone = [job_id for job_id in answer if job_id not in present]
        self._renew_at = self._runtime.monotonic() + RENEW_S
        return 0.0

    def _round(self) -> float:
        if self._unanswered is not None:
            return self._push(self._unanswered)
        now = self._runtime.monotonic()
        self._refused = {job_id: at for job_id, at in self._refused.items() if at > now}
        but = [*(job_id for job_id, held in self._on_hold.items() if held.until > now), *self._refused]
        found = self._rows.waiting(but, self._size, BATCH_BYTES)
        if not found and now < self._renew_at:
            self._wake()
            return POLL_S
        self._n += 1
        return self._push(_Push(self._n, [_stored(row) for row in found], self._gone[:FORGET_MAX]))

    def _push(self, push: _Push) -> float:
        self._unanswered = push
        try:
            answer = self._driver.relay(self._outbox, self._token, push.n, push.rows, push.gone)
        except CommandRefused as error:
            self._unanswered = None
            if not push.rows or self._takes_nothing():
                raise
            return self._halve(push.rows, error)
        self._unanswered = None
        if answer is None:
            self._forget()
            return RENEW_S
        del self._gone[: len(push.gone)]
        self._renew_at = self._runtime.monotonic() + RENEW_S
        self._size = min(self._size * 2, BATCH)
        self._pushed = self._tell(push, answer)
        self._delete(push.rows, answer)
        self._wake()
        return 0.0 if push.rows else POLL_S

    def _delete(self, rows: Sequence[Stored], answer: Relayed) -> None:
        """Delete the rows that the server has had for long enough."""
        now = self._runtime.monotonic()
        ready: list[str] = []
        for row, by in zip(rows, answer.by, strict=True):
            held = self._on_hold.get(row.job_id)
            if held is None or held.by != by:
                held = self._on_hold[row.job_id] = _OnHold(by, now + self._hold_s)
            if held.until <= now:
                ready.append(row.job_id)
        if not ready:
            return
        try:
            self._rows.delete(ready)
        except OutboxUnavailable:  # perhaps it is committed: only a look into the table can say
            self._forget()
            raise
        for job_id in ready:
            del self._on_hold[job_id]
        self._gone += ready

    def _takes_nothing(self) -> bool:
        """True if the server refuses an empty push, too: it refuses by its own state, and not by what is in a row."""
        self._n += 1
        try:
            self._driver.relay(self._outbox, self._token, self._n, (), ())
        except CommandRefused:
            return True
        return False

    def _halve(self, rows: Sequence[Stored], error: CommandRefused) -> float:
        """The server refuses a row for its content: go on with half of them, until it is one, and read past that."""
        self._size = max(len(rows) // 2, 1)
        if len(rows) > 1:
            return 0.0
        [row] = rows
        self._refused[row.job_id] = self._runtime.monotonic() + REFUSED_S
        self._size = BATCH
        name = _read(row.envelope).type
        self._stream.emit(events.JobRefused, job_id=row.job_id, type=name, queue=row.queue, error=str(error))
        events.warn(visible(f"the row of job {row.job_id} ({name}) stays in the outbox: {error}"))
        return 0.0

    # -- events ---------------------------------------------------------------------------------

    def _tell(self, push: _Push, answer: Relayed) -> int:
        """Emit what this push has done; returns the number of jobs it added."""
        added = 0
        for row, by, holder in zip(push.rows, answer.by, answer.holders, strict=True):
            if by != push_name(self._token, push.n):
                continue  # an earlier one
            added += not holder
            if not self._stream.observed:
                continue
            envelope = _read(row.envelope)
            about = {"type": envelope.type, "queue": row.queue, "server_at": answer.done_at}
            if holder:
                self._stream.emit(events.JobDuplicate, job_id=row.job_id, holder=holder, **about)
                continue
            due = answer.done_at + row.in_s if row.in_s > 0 else None
            about |= {"unique": row.lock[0], "chain": ids_in(envelope.next)}
            self._stream.emit(events.JobDispatched, job_id=row.job_id, due=due, **about)
        return added

    def _rest(self, error: Exception) -> float:
        if not self._pause_s:
            self._stream.emit(events.RelayLost, outbox=self._rows.place, error=str(error))
            events.warn(f"the outbox in {visible(self._rows.place)} waits: {visible(str(error))}")
        self._pause_s = min(self._pause_s * 2 or PAUSE_FIRST_S, PAUSE_MAX_S)
        return self._pause_s

    def _wake(self) -> None:
        if self._pause_s:
            self._pause_s = 0.0
            self._stream.emit(events.RelayBack, outbox=self._rows.place)
            events.warn(f"the outbox in {visible(self._rows.place)} goes on")


def _stored(row: Row) -> Stored:
    envelope = _read(row.envelope)  # if it can't be read, the worker that claims it records it as failed
    queue, key = queue_in(envelope), lock_in(envelope)
    lock = (key, row.job_id) if key and queue != DEFAULT else NO_LOCK
    return Stored(row.job_id, row.envelope, row.in_s, queue, lock)


def _read(raw: bytes) -> Envelope:
    """The envelope; one without a type, if it can't be read."""
    try:
        return read(raw)
    except NotAnEnvelope:
        return Envelope(type="")
