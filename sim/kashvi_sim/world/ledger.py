"""A ledger of the actual steps on the server and the failure table, to check the processes' events against.

Each settlement is checked when it is sent: its move must fit the attempt's end, and its envelope must be the old one
with only that changed. Each call of the table is noted with its result.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from kashvi.errors import NotAChain, NotAnEnvelope
from kashvi.events import AttemptFailed, AttemptSnoozed, AttemptStarted, AttemptSucceeded, Event
from kashvi.jobs.chain import links
from kashvi.jobs.envelope import read
from kashvi.ports import Failure, Refusal, Settlement
from kashvi.registry import Registry

if TYPE_CHECKING:
    from .runtime import SimRuntime

TIME_S = 1e-5
"""The tolerance of equal times, after some sums of doubles."""
ERROR_MAX = 10_000
OURS = frozenset({"id", "attempts", "error", "lost", "unknown_since", "traceback", "snoozed"})
"""The fields that a settlement may change."""

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_value = msgspec.json.decode


class Settled(NamedTuple):
    """An accepted settlement. ``at``, and times derived from it, are by the server's clock."""

    move: str
    new: bytes
    process: SimRuntime
    at: float
    in_s: float


class Try(NamedTuple):
    """A finished call of the failure table. ``down``: True if the table could not be used."""

    process: SimRuntime
    began: float
    ended: float
    failures: Sequence[Failure]
    refused: Mapping[str, Refusal]
    down: bool


class End(NamedTuple):
    """The end of an attempt. ``error``: None if it succeeded; ``attempt``: 0 if none was possible."""

    at: float
    attempt: int
    error: str | None
    snoozed_s: float | None = None
    """The wait that the handler asked for."""
    follow_ups: int = 0


class Ledger:
    """The ledger of one world. Times are by the world's clock, unless marked as the server's."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.settled: dict[str, list[Settled]] = {}
        """The accepted settlements, by job id."""
        self.claimed: dict[str, set[float]] = {}
        """The times of claims by exchanges, by the server's clock."""
        self.tries: list[Try] = []
        self.slips: list[tuple[str, str]] = []
        """Jobs with a wrong settlement or event, and the reason."""
        self.refused_by_database: set[str] = set()
        """Job ids whose rows the database itself refuses."""
        self.in_main: set[str] = set()
        """Processes with ``work()`` in their main thread, by the id in their events."""
        self._began: dict[tuple[str, str, int], list[float]] = {}
        self._ends: dict[tuple[str, str], list[End]] = {}
        """The ends of attempts, by process and job."""

    def see(self, event: Event, now: float) -> None:
        """Note a process's event about an attempt."""
        if isinstance(event, AttemptStarted):
            self._began.setdefault((event.process, event.job_id, event.attempt), []).append(now)
        elif isinstance(event, AttemptSucceeded | AttemptFailed | AttemptSnoozed):
            error = event.error if isinstance(event, AttemptFailed) else None
            wait_s = event.wait_s if isinstance(event, AttemptSnoozed) else None
            left = event.follow_ups if isinstance(event, AttemptSucceeded) else 0
            self._ends.setdefault((event.process, event.job_id), []).append(
                End(now, event.attempt, error, wait_s, left)
            )
            # A job that was taken over from this process may have come back while its attempt still runs.
            took = [now - began for began in self._began.get((event.process, event.job_id, event.attempt), [now])]
            if not any(abs(event.duration_s - took_s) < TIME_S for took_s in took):
                self.slips.append(
                    (event.job_id, f"attempt took {took[-1]:.6f} s, and {event.duration_s:.6f} s are told")
                )

    def sends(self, settlement: Settlement, worker: str, process: str, now: float) -> None:
        """Check a settlement that a worker sends."""
        if settlement.move in ("retry", "fail", "return", "done"):
            job_id = id_of(settlement.new or settlement.old)
            ends = self._ends.get((process, job_id), ()) if settlement.owner == worker else ()
            if settlement.owner != worker and settlement.lease_end is None:
                self.slips.append((job_id, "settled for the dead, and the end of their lease is not said"))
            if why := slip(settlement, settlement.owner == worker, ends, now, self._registry):
                self.slips.append((job_id, f"settled as {settlement.move!r}, and {why}"))


def slip(s: Settlement, own: bool, ends: Sequence[End], now: float, registry: Registry) -> str:
    """The reason why a settlement is wrong, else empty. ``ends``: of its process's attempts at the job."""
    if s.move == "done":
        return "with another envelope" if s.new else _follow_up_slip(s, ends)
    if s.follow_ups:
        return "with follow-ups"
    try:
        old: dict[str, Any] = _fields(s.old)
        attempts, suspicion = read(s.old).attempts, read(s.old).lost
    except (msgspec.MsgspecError, NotAnEnvelope, UnicodeError):
        return _of_garbage(s)
    new, after = _fields(s.new), read(s.new)
    for name in (old.keys() | new.keys()) - OURS:
        if bytes(old.get(name, b"")) != bytes(new.get(name, b"")):
            return f"its field {name!r} is {bytes(new.get(name, b''))!r}, and was {bytes(old.get(name, b''))!r}"
    if (bytes(old.get("id", b'""')) not in (b'""', bytes(new["id"]))) or not after.id:
        return f"its id is {after.id!r} now"
    if s.move == "return":
        if after.attempts != attempts or (after.lost != suspicion if own else after.lost < suspicion):
            return "it is not as it was"
        return ""
    if snoozes(s):
        return _snooze_slip(s, own, ends, now)
    postponed = s.move == "retry" and "unknown_since" in new
    possible = [end for end in ends if end.error is not None and end.attempt in (0, attempts + 1)]
    if own and not postponed:
        if not possible:
            return "no attempt of this number had failed here"
        counted = possible[-1].attempt > 0
    else:
        counted = not postponed and after.attempts != attempts
    if after.attempts != attempts + counted:
        return f"it has {after.attempts} attempts, after {attempts}"
    if counted and after.lost and (own or s.move == "fail"):
        return "it is still a suspect"
    if not postponed and "unknown_since" in new:
        return "it still says since when its type is not known"
    if s.move == "fail" and own and not any((end.error or "")[:ERROR_MAX] == after.error for end in possible):
        return f"its error is {after.error!r}, not {possible[-1].error!r}"
    policy = registry.policy(after.type)
    if s.move == "retry" and policy and policy.backoff:
        return ""  # a predicate judges its wait
    return _time_slip(s, own and not postponed, after.attempts, possible, now)


def _follow_up_slip(s: Settlement, ends: Sequence[End]) -> str:
    """The reason why its follow-ups are wrong, else empty."""
    left = [end.follow_ups for end in ends if end.error is None and end.snoozed_s is None]
    if left and len(s.follow_ups) not in left:
        return f"with {len(s.follow_ups)} follow-ups, and its attempt has {left[-1]}"
    return ""


def snoozes(s: Settlement) -> bool:
    """True if a retry is one that the handler asked for."""
    try:
        old, new = _fields(s.old), _fields(s.new)
    except (msgspec.MsgspecError, UnicodeError):
        return False
    return s.move == "retry" and bytes(old.get("snoozed", b"")) != bytes(new.get("snoozed", b""))


def _snooze_slip(s: Settlement, own: bool, ends: Sequence[End], now: float) -> str:
    """The reason why a snooze is wrong, else empty."""
    before, after = read(s.old), read(s.new)
    asked = [end for end in ends if end.snoozed_s is not None and end.attempt == before.attempts + 1]
    if not own or not asked:
        return "no attempt of this number had asked here to be called again"
    if after.attempts != before.attempts:
        return f"it has {after.attempts} attempts, after {before.attempts}"
    if after.lost or after.unknown_since:
        return "it is still a suspect, or of an unknown type"
    if not any(abs(now + s.in_s - end.snoozed_s - end.at) < TIME_S for end in asked if end.snoozed_s is not None):
        return f"it is due in {s.in_s:.6f} s, and {asked[-1].snoozed_s} s were asked for"
    return ""


def _time_slip(s: Settlement, own: bool, attempts: int, ends: Sequence[End], now: float) -> str:
    """The reason why ``in_s`` is wrong, else empty: the wait and the time of failure count from the attempt's end."""
    wait_s = float(attempts) if s.move == "retry" else 0.0
    if own and not any(abs(now + s.in_s - wait_s - end.at) < TIME_S for end in ends):
        return f"it says {s.in_s - wait_s:.6f} s of an end that was {now - ends[-1].at:.6f} s ago"
    return ""


def _of_garbage(s: Settlement) -> str:
    if s.move == "return":
        return "" if s.new == s.old else "its bytes are others"
    fields = _fields(s.new)
    kept = "raw" in fields and base64.b64decode(_value(fields["raw"], type=str)) == s.old
    return "" if s.move == "fail" and kept and _value(fields["type"]) == "" else "its bytes are not kept"


def ids_of(raw: bytes) -> list[str]:
    """The id in an envelope's bytes, and those of the links after it."""
    try:
        rest = read(raw).next
        return [id_of(raw), *(link.id for link in (links(rest) if rest else ()))]
    except (NotAnEnvelope, NotAChain):
        return [id_of(raw)]


def id_of(raw: bytes) -> str:
    """The id in an envelope's bytes, or empty."""
    try:
        return read(raw).id
    except NotAnEnvelope:
        return ""
