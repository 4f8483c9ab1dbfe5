"""Judges each process's dealings with its server: its events, and how soon it settles, renews, polls and stops.

Judged call by call, with bounds exact to the millisecond. Time in which the network, the server or the process itself
stood still does not count: the actual time of this process, not the longest time of a fault.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from kashvi_spec.judging import Violation

from kashvi import events
from kashvi.errors import ReplyLost
from kashvi.ports import Exchange, Expired, Refusal, Settlement

from .ledger import id_of

if TYPE_CHECKING:
    from .runtime import SimRuntime
    from .world import World

ROUNDING_S = 1e-6
FLUSH_S, TICK_S, MORE_S, WAIT_MAX_S, BACKOFF_FIRST_S, BACKOFF_MAX_S = 0.02, 1.0, 0.1, 0.6, 0.1, 5.0
"""The required bounds of a worker. Not its own constants, since one of them may be wrong."""
SETTLED_S = 2 * FLUSH_S
"""Finished work is batched for a moment, then sent."""
STOPPED_S = WAIT_MAX_S + SETTLED_S
"""A wait that is under way ends by itself."""

DATABASE = ("insert_fails", "insert_reply_lost", "database_down", "row_refused", "database_slow")
TAKEN_AWAY = ("restart", "failover", "server_forward", "server_back")
"""After these faults the server may lack jobs that a worker believes it holds."""


class Since(NamedTuple):
    """A moment, and the process's total standstill by then."""

    at: float
    stuck_s: float


@dataclass
class Dealing:
    """The dealings of one process."""

    process: SimRuntime
    worker: str = ""
    calls: int = 0
    """The number of calls under way, without waits."""
    stuck_s: float = 0.0
    stuck_since: float | None = None
    aside_s: float = 0.0
    """Further standstill: waits that a fault held up, and calls of the database."""
    aside_since: float | None = None
    lost: bool = False
    """True if its last exchange failed."""
    told_lost: bool = False
    failures: int = 0
    """Exchanges that failed in a row."""
    failed: Since | None = None
    """The time of the last failed one."""
    open: bool = False
    """True if the last exchange has no answer."""
    exchanging: bool = False
    waiting_since: float | None = None
    asked: bool = False
    """True while it asks for the next due time before a wait: much may happen meanwhile."""
    n: int = 0
    sent: list[tuple[str, bytes]] = field(default_factory=list)
    renewed: Since | None = None
    looked: Since | None = None
    more: bool = False
    ready: int = 0
    rested: int = 0
    """The number of its sleeps by its last exchange."""
    ended: dict[str, Since] = field(default_factory=dict)
    """The end of each unsettled attempt, by job."""
    exhausted: set[str] = field(default_factory=set)
    """The jobs with an event of it that they failed for good."""
    faltered_at: float = 0.0
    """The time of the last failed call."""
    suspects: set[str] = field(default_factory=set)
    running: Counter[str] = field(default_factory=Counter)
    """By job: a silent worker may have claimed again what it still runs."""
    grave: dict[str, Since] = field(default_factory=dict)
    """The entries of ``ended`` that are about suspects."""
    doubts: str = ""
    """The reason for which its own count of its jobs may be wrong; empty: none."""
    late: bool = False
    """True if a request of it was still on its way after its reply was lost: it may claim after the worker has left."""
    stopping: Since | None = None
    last_end: Since | None = None
    aside_before_s: float = 0.0
    stopped: bool = False
    broken_off: bool = False
    """True if its end was interrupted."""
    reasons: int = 0
    """The number of reasons to reconcile: replies, waits and starts that were lost or refused."""


class Dealings:
    """The dealings of all processes of a world. ``longest``: the longest time by promise, for choosing the bounds."""

    def __init__(self, world: World) -> None:
        self.violations: list[Violation] = []
        self.longest: dict[str, float] = {}
        self._world = world
        self._of: dict[SimRuntime, Dealing] = {}

    def of(self, process: SimRuntime) -> Dealing:
        if process not in self._of:
            self._of[process] = Dealing(process)
        return self._of[process]

    # -- time ---------------------------------------------------------------------------------

    def begins(self, one: Dealing) -> None:
        """A call begins, which takes no time without a fault."""
        one.calls += 1
        if one.stuck_since is None:
            one.stuck_since = self._world.kernel.time

    def ends(self, one: Dealing, failed: bool) -> None:
        one.calls -= 1
        if failed:
            one.reasons += 1
            one.faltered_at = self._world.kernel.time
        self._goes_on(one)

    def _goes_on(self, one: Dealing) -> None:
        if one.stuck_since is not None and not one.calls and not one.lost:
            one.stuck_s += self._world.kernel.time - one.stuck_since
            one.stuck_since = None

    def _now(self, one: Dealing) -> Since:
        now = self._world.kernel.time
        stuck_s = one.stuck_s + (0.0 if one.stuck_since is None else now - one.stuck_since)
        return Since(now, stuck_s + one.process.stood_still_s)

    def records(self, process: SimRuntime, call: Callable[[], dict[str, Refusal]]) -> dict[str, Refusal]:
        one = self.of(process)
        one.aside_since = self._world.kernel.time
        try:
            return call()
        finally:
            one.aside_s, one.aside_since = self._aside_s(one), None

    def _aside_s(self, one: Dealing) -> float:
        return one.aside_s + (0.0 if one.aside_since is None else self._world.kernel.time - one.aside_since)

    def _moved_s(self, one: Dealing, since: Since) -> float:
        """The time since then without standstills."""
        now = self._now(one)
        return now.at - since.at - (now.stuck_s - since.stuck_s)

    def _within(self, promise: str, seconds: float, most_s: float, what: str, job_id: str = "") -> None:
        self.longest[promise] = max(seconds, self.longest.get(promise, 0.0))
        if seconds > most_s + ROUNDING_S:
            self._broken(promise, f"{what}: {seconds:.6f} s, where {most_s:g} s are enough", job_id)

    def _broken(self, promise: str, why: str, job_id: str = "") -> None:
        self.violations.append(Violation(promise, job_id, why))

    # -- calls --------------------------------------------------------------------------------

    def exchange(
        self, process: SimRuntime, n: int, settlements: Sequence[Settlement], want: int, call: Callable[[], Exchange]
    ) -> Exchange:
        one = self.of(process)
        audit = n == one.n and not one.open
        self._sends(one, n, settlements, want)
        began = self._now(one)
        one.exchanging, one.open = True, not audit
        try:
            answer = call()
        except Exception as error:
            self._fails(one)
            self._doubts(one, error)
            raise
        finally:
            one.exchanging = False
        if one.renewed and began.at - one.renewed.at > self._world.lease_s:
            one.reasons += 1  # held up for so long, it has lost its jobs
        if answer.listing is not None and audit:
            one.doubts = ""
        elif any(settlements[i].move == "start" for i in answer.refused):
            one.doubts = "a start was refused"
        one.open = one.lost = False
        one.failures, one.failed = 0, None
        self._goes_on(one)
        one.renewed, one.ready = began, answer.ready
        return answer

    def _sends(self, one: Dealing, n: int, settlements: Sequence[Settlement], want: int) -> None:
        if one.exchanging:
            self._broken("one at a time", "two exchanges of one worker are under way")
        if one.lost != one.told_lost:
            self._broken("server told of", f"its server is {'lost' if one.lost else 'back'}, and it told nothing")
        if one.stopped and not one.open:
            self._broken("silent after stop", "an exchange of a worker that has stopped")
        if want and one.stopping and n > one.n:
            self._broken("silent after stop", f"asks for {want} jobs, and is to stop")
        self._numbered(one, n, [(s.move, s.old) for s in settlements], want)
        self._within("rests for a reason", one.process.sleeps - one.rested, 3, "rests between two exchanges")
        one.rested = one.process.sleeps
        lease_s = self._world.lease_s
        if one.renewed and not one.stopping:
            most_s = lease_s / 3 + min(TICK_S, lease_s / 3) + FLUSH_S
            self._within("renewed in time", self._moved_s(one, one.renewed), most_s, "no exchange for so long")
        if one.failed and not one.stopping:
            whole_s = self._world.kernel.time - one.failed.at
            gap_s = whole_s - (one.process.stood_still_s - one.failed.stuck_s)
            most_s = min(BACKOFF_FIRST_S * 2 ** (one.failures - 1), BACKOFF_MAX_S)
            what = f"from failure {one.failures} to the next try"
            self._within("tries again", gap_s, most_s, what)
            if whole_s < most_s / 2 - ROUNDING_S:
                self._broken("tries again", f"{what}: {whole_s:.6f} s, less than half of {most_s:g} s")

    def _numbered(self, one: Dealing, n: int, sent: list[tuple[str, bytes]], want: int) -> None:
        """A number without an answer is sent again, as it was; only a listing is asked for under an old one."""
        if one.open:
            if n != one.n or (sent != one.sent and (sent or want)):
                self._broken("numbered", f"exchange {n} follows {one.n}, which has no answer, and is another one")
        elif n == one.n:
            if sent or want:
                self._broken("numbered", f"exchange {n} has an answer, and is sent again")
            if not (one.reasons or one.process.stood_still_s or any(self._world.struck[rule] for rule in TAKEN_AWAY)):
                self._broken("compared for a reason", "asks what it holds, and nothing had gone wrong")
        elif n != one.n + 1:
            self._broken("numbered", f"exchange {n} follows {one.n}")
        one.n, one.sent = n, sent

    def _doubts(self, one: Dealing, error: BaseException) -> None:
        if isinstance(error, ReplyLost):
            one.doubts = "a reply was lost"
            one.late = one.late or self._world.late > 0

    def _fails(self, one: Dealing) -> None:
        one.lost = True
        one.failures += 1
        now = self._world.kernel.time
        one.failed = Since(now, one.process.stood_still_s)
        if one.stuck_since is None:
            one.stuck_since = now

    def arrived(self, process: SimRuntime, job_ids: Sequence[str], refused: bool) -> None:
        """Settlements are on the server, whatever becomes of them."""
        one = self.of(process)
        one.reasons += refused
        for job_id in job_ids:
            if (since := one.ended.pop(job_id, None)) is not None:
                self._within(
                    "settled in time", self._moved_s(one, since), self._settled_s(one), "after its end", job_id
                )
            owes_reconcile = one.doubts and one.waiting_since is not None  # its keeper settles, a moment later
            if (since := one.grave.pop(job_id, None)) is not None and not (self._held_up(one) or owes_reconcile):
                self._within("suspects settled", self._moved_s(one, since), 0.0, "a suspect, after its end", job_id)

    def _settled_s(self, one: Dealing) -> float:
        return TICK_S + SETTLED_S if self._held_up(one) else SETTLED_S

    def _stopped_s(self) -> float:
        """A keeper that was busy when it was called sleeps once more."""
        return max(STOPPED_S, min(TICK_S, self._world.lease_s / 3) + FLUSH_S)

    def _held_up(self, one: Dealing) -> bool:
        """True if an open request goes first, or if a wait hangs: then it can't reconcile, and its keeper settles."""
        hangs = one.waiting_since is not None and self._world.kernel.time - one.waiting_since > WAIT_MAX_S + ROUNDING_S
        return hangs or (one.stopping is not None and one.reasons > 0)

    def interrupted(self, process: SimRuntime) -> None:
        """Ctrl-C: it does not rest before it tries once more, and something may have been lost. An attempt ends."""
        one = self.of(process)
        one.last_end, one.aside_before_s = self._now(one), self._aside_s(one)
        one.reasons += 1
        one.failures, one.failed = 0, None
        one.broken_off = one.stopping is not None

    def wait(self, process: SimRuntime, call: Callable[[], bytes | float | None]) -> bytes | float | None:
        one = self.of(process)
        if one.waiting_since is not None:
            self._broken("one at a time", "two waits of one worker are under way")
        if one.stopping and not one.asked:
            self._broken("silent after stop", "waits for a job, and is to stop")
        if one.ready and not one.asked:
            self._broken("claims together", f"waits for one job, where {one.ready} were ready")
        if one.doubts and not one.asked:
            self._broken("compares in time", f"waits before it has reconciled: {one.doubts}")
        one.waiting_since, one.asked = self._world.kernel.time, False
        try:
            return call()
        except BaseException as error:
            one.reasons += 1
            self._doubts(one, error)
            raise
        finally:
            one.aside_s += max(self._world.kernel.time - one.waiting_since - WAIT_MAX_S, 0.0)
            one.waiting_since = None

    def next_due(self, process: SimRuntime) -> None:
        one = self.of(process)
        if one.renewed and self._world.kernel.time - one.renewed.at <= WAIT_MAX_S / 2 and not one.stopping:
            self._broken("asks with a reason", "asks what is due, and has just been told")
        one.asked = True

    def expired(self, process: SimRuntime, call: Callable[[], Expired]) -> Expired:
        one = self.of(process)
        lease_s = self._world.lease_s
        if one.looked is not None:
            gap_s = self._moved_s(one, one.looked)
            most_s = lease_s / 3 + 2 * min(TICK_S, lease_s / 3) + FLUSH_S  # one tick, if it has just settled for some
            if one.more:
                most_s = MORE_S + FLUSH_S
            self._within("looks after the dead", gap_s, most_s, "between two looks at what the dead hold")
            if not one.more and self._world.kernel.time - one.looked.at < lease_s / 3 - ROUNDING_S:
                self._broken("looks after the dead", f"looks again after {gap_s:.6f} s")
        one.looked, one.more = self._now(one), False
        found = call()
        one.more = found.more
        return found

    # -- what it tells --------------------------------------------------------------------------

    def see(self, event: events.Event, process: SimRuntime) -> None:
        one = self.of(process)
        if isinstance(event, events.AttemptSucceeded | events.AttemptFailed | events.AttemptSnoozed):
            one.last_end, one.aside_before_s = self._now(one), self._aside_s(one)
            if event.type:
                one.ended[event.job_id] = one.last_end
                one.running[event.job_id] -= 1
                if event.job_id in one.suspects and one.running[event.job_id] <= 0:
                    one.grave[event.job_id] = one.last_end
        elif isinstance(event, events.AttemptStarted):
            one.running[event.job_id] += 1
            if event.suspect:
                one.suspects.add(event.job_id)
            else:
                one.suspects.discard(event.job_id)
        elif isinstance(event, events.ServerLost | events.ServerBack):
            lost = isinstance(event, events.ServerLost)
            if lost == one.told_lost or lost != one.lost:
                self._broken("server told of", f"tells that its server is {'lost' if lost else 'back'}, and it is not")
            one.told_lost = lost
        elif isinstance(event, events.JobFailed):
            one.exhausted.add(event.job_id)
        elif isinstance(event, events.WorkerStarted):
            one.worker = event.worker
        elif isinstance(event, events.WorkerStopping):
            one.stopping, one.aside_before_s = self._now(one), self._aside_s(one)
        elif isinstance(event, events.WorkerStopped):
            self._stopped(one, event)

    def exits(self, process: SimRuntime, handed_back: bool) -> None:
        """What ``hand_back`` has said, at the exit of the process."""
        one = self.of(process)
        if handed_back and not one.doubts and (held := self._held(one.worker)):
            self._broken("handed back", f"its process exits and says that all is handed back; the server has {held}")

    def _held(self, worker: str) -> int:
        """The number of the worker's jobs on the server, without jobs that it may have again since a rollback."""
        share = self._world.server.contents().shares.get(worker)
        raws = (*share.held, *share.running) if share else ()
        return sum(id_of(raw) not in self._world.rolled_back for raw in raws)

    def returned(self, process: SimRuntime) -> None:
        """``work()`` has returned, or ``join()`` has said that all threads have ended."""
        one = self.of(process)
        if not (one.stopped or one.broken_off):
            self._broken("joined", "the caller goes on, and its worker has not stopped")

    def _stopped(self, one: Dealing, event: events.WorkerStopped) -> None:
        one.stopped = True
        since = max((at for at in (one.stopping, one.last_end) if at), default=self._now(one))
        busy_s = self._aside_s(one) - one.aside_before_s
        self._within("stops in time", self._moved_s(one, since) - busy_s, self._stopped_s(), "after all had ended")
        if (held := self._held(event.worker)) > event.unsettled and not one.late:
            self._broken("leaves nothing held", f"stopped with {event.unsettled} unsettled; the server has {held}")
        if one.lost != one.told_lost:
            self._broken("server told of", f"its server is {'lost' if one.lost else 'back'}, and it told nothing")
        if self._world.stored and one.faltered_at < since.at and not any(self._world.struck[rule] for rule in DATABASE):
            for job_id in sorted(one.exhausted & {id_of(raw) for _, raw in self._world.server.contents().unrecorded}):
                self._broken("recorded at the end", "its worker has stopped, and the table took whatever came", job_id)
