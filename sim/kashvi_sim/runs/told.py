"""Checks the processes' events and rows against the ledger: settlements, the failure table, and its rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import sqlalchemy as sa
from kashvi_spec.judging import ROUNDING_S, Violation

from kashvi import events
from kashvi.errors import NotAnEnvelope
from kashvi.jobs.envelope import read, text_of

from ..world.ledger import TIME_S, Settled, Try, id_of
from .upkeep import SOON_S

if TYPE_CHECKING:
    from ..world.world import World

MOVES = {
    events.JobSucceeded: "done", events.RetryScheduled: "retry", events.JobPostponed: "retry",
    events.JobSnoozed: "retry",
    events.JobFailed: "fail", events.JobReturned: "return",
}  # fmt: skip
OF_THE_TABLE = (events.StoreLost, events.StoreBack, events.FailureRecorded, events.FailureRefused)
MOMENT_S = 0.002
"""The precision of times in a table."""
PAUSE_FIRST_S, PAUSE_MAX_S, CONTENT_PAUSE_S = 1.0, 30.0, 600.0


def told_wrongly(world: World) -> Iterator[Violation]:
    """Violations for events with a wrong settlement, a time that is not the server's, or a wrong duration."""
    for job_id, why in world.ledger.slips:
        if job_id not in world.others.repeated:
            yield Violation("settled as told", job_id, why)
    event: Any
    for event in world.events:
        if (move := MOVES.get(event.__class__)) and event.type:
            done = [one for one in world.ledger.settled.get(event.job_id, ()) if one.move == move]
            if done and not any(_told_of(event, one) for one in done):
                yield Violation("settled as told", event.job_id, f"{event} is told, and the server has {done[-1]}")
        elif isinstance(event, events.AttemptStarted) and event.claim == "exchange":
            claimed = world.ledger.claimed
            if event.job_id in claimed and event.server_at not in claimed[event.job_id] | claimed.get("", set()):
                yield Violation("settled as told", event.job_id, f"said to be claimed at {event.server_at}")
        elif (
            isinstance(event, events.AttemptFailed)
            and event.process in world.ledger.in_main
            and event.error.startswith("KeyboardInterrupt")
        ):
            yield Violation("Ctrl-C is for work()", event.job_id, "an interrupt was taken for the job's failure")


def _told_of(event: Any, done: Settled) -> bool:
    """True if the event is about this settlement; after a lost reply the event has an earlier due time."""
    if abs(event.server_at - done.at) > ROUNDING_S:
        return False
    if done.new and done.move != "return" and read(done.new).attempts != event.attempts:
        return False
    if isinstance(event, events.JobFailed):
        return bool(read(done.new).error == event.error)
    if isinstance(event, events.JobReturned):
        return bool(_lost_in(done.new) == event.lost)
    if done.move == "retry":
        return bool(event.due <= done.at + done.in_s + TIME_S)
    return True


def _lost_in(raw: bytes) -> int:
    try:
        return read(raw).lost
    except NotAnEnvelope:
        return 0


class _Note(NamedTuple):
    """A required event about the table. ``job_id``: of one of the rows."""

    kind: str
    job_id: str = ""


def table_told(world: World) -> Iterator[Violation]:
    """Violations for events that differ from the results of calls of the table, and for calls too soon."""
    names = {process.name: process_id for process_id, process in world._of_events.items()}
    told: dict[str, list[_Note]] = {}
    for event in world.events:
        if isinstance(event, OF_THE_TABLE):
            told.setdefault(event.process, []).append(_Note(type(event).__name__, getattr(event, "job_id", "")))
    for process in world.processes:
        tries = [one for one in world.ledger.tries if one.process is process]
        wanted = list(_wanted(tries))
        said = told.get(names.get(process.name, ""), [])
        if process.dead or process.paused_until > world.kernel.time:
            wanted = wanted[: len(said)]
        if said != wanted:
            at = next(
                (i for i, (a, b) in enumerate(zip(said, wanted, strict=False)) if a != b), min(len(said), len(wanted))
            )
            why = f"{process.name} tells {said[at : at + 1]} of the table, and {wanted[at : at + 1]} came of its calls"
            yield Violation("table told", "", why)
        other_bytes = world.rolled_back.keys() | world.others.repeated  # under the same id, so another row to try
        yield from (one for one in _too_soon(tries) if one.job_id not in other_bytes)


def _wanted(tries: Iterable[Try]) -> Iterator[_Note]:
    lost, odd = False, set[str]()
    for one in tries:
        if one.down != lost:
            yield _Note("StoreLost" if one.down else "StoreBack")
            lost = one.down
        for failure in [] if one.down else one.failures:
            refusal = one.refused.get(failure.job_id)
            if refusal is None:
                odd.discard(failure.job_id)
                yield _Note("FailureRecorded", failure.job_id)
            elif not refusal.passing and failure.job_id not in odd:
                odd.add(failure.job_id)
                yield _Note("FailureRefused", failure.job_id)


def _too_soon(tries: Sequence[Try]) -> Iterator[Violation]:
    """Violations for a call too soon after the table was down or refused the row: the pause grows each time."""
    down, not_before = 0.0, 0.0
    rows: dict[str, tuple[float, float]] = {}
    """The last pause and its end, by job id."""
    for one in tries:
        if one.began < not_before - TIME_S:
            yield Violation("table spared", "", f"asked again {not_before - one.began:.3f} s too early")
        down = min(down * 2 or PAUSE_FIRST_S, PAUSE_MAX_S) if one.down else 0.0
        not_before = one.ended + down
        for failure in [] if one.down else one.failures:
            pause_s, over = rows.get(failure.job_id, (0.0, 0.0))
            if one.began < over - TIME_S:
                yield Violation("table spared", failure.job_id, f"tried again {over - one.began:.3f} s too early")
            if (refusal := one.refused.get(failure.job_id)) is None:
                rows.pop(failure.job_id, None)
                continue
            pause_s = min(pause_s * 2 or PAUSE_FIRST_S, PAUSE_MAX_S) if refusal.passing else CONTENT_PAUSE_S
            rows[failure.job_id] = pause_s, one.ended + pause_s


def rows_wrong(world: World) -> Iterator[Violation]:
    """Violations for wrong rows, wrong entries of the process's own list, and refused rows that are not kept."""
    failed: dict[str, list[tuple[events.JobFailed, Settled]]] = {}
    for event in world.events:
        if isinstance(event, events.JobFailed):
            for done in world.ledger.settled.get(event.job_id, ()):
                if done.move == "fail":
                    failed.setdefault(event.job_id, []).append((event, done))
    rows = _rows(world)
    for row in rows:
        known = failed.get(row.job_id, ())
        if known and not any(_says(row, event, done, text=True) for event, done in known):
            yield Violation("row as told", row.job_id, f"{dict(row._mapping)} is the row of {known[0]}")
    jumps = bool(world.struck["server_back"] or world.struck["server_forward"])
    for queue in world.queues:
        for one in queue.failed_jobs():
            known = [(event, done) for event, done in failed.get(one.id, ()) if event.process == queue.process_id]
            if known and not any(_says(one, event, done, text=False, jumps=jumps) for event, done in known):
                yield Violation("row as told", one.id, f"{one} is listed of {known[0]}")
    kept = {row.job_id for row in rows} | {id_of(raw) for _, raw in world.server.contents().unrecorded}
    for job_id in world.refused_rows.keys() - kept - world.rolled_back.keys() - world.others.repeated:
        yield Violation("row as told", job_id, "the table refused it, and nothing keeps it any more")


def _rows(world: World) -> Sequence[Any]:
    if world.database is None:
        return []
    names = "job_id, job_type, payload, error, attempts, failed_at, traceback"
    with world.database.connect() as connection:
        return connection.execute(sa.text(f"SELECT {names} FROM kashvi_failed_jobs")).all()


def _says(row: Any, event: events.JobFailed, done: Settled, *, text: bool, jumps: bool = False) -> bool:
    """True if a row, or an entry of the list, equals the event and the settlement. ``text``: its time is text, in UTC.

    ``jumps``: the server's clock was set, perhaps before it answered a second time.
    """
    e = read(done.new)
    at = datetime.fromisoformat(row.failed_at) if text else row.failed_at
    raised = msgspec.json.decode(done.new).get("traceback", "")
    about = (row.job_type if text else row.type, row.error, row.attempts, row.traceback or "")
    if about != (event.type.removeprefix("*"), event.error, event.attempts, raised):
        return False
    if event.type and row.payload != text_of(bytes(e.payload)):
        return False
    return jumps or abs(at.timestamp() - (done.at + done.in_s)) < (MOMENT_S if text else SOON_S)
