"""Judges each exchange: when it is sent, what it is about, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from kashvi_spec.predicates.suspects import GRAVE, patience_s

from kashvi.errors import ReplyLost
from kashvi.jobs.envelope import read
from kashvi.ports import Exchange, Settlement, Want

from .dealing import (
    BACKOFF_FIRST_S,
    BACKOFF_MAX_S,
    FLUSH_S,
    MOMENT_S,
    ROUNDING_S,
    SETTLED_S,
    TICK_S,
    WAIT_MAX_S,
    Dealing,
    Since,
    Timed,
)
from .ledger import id_of

if TYPE_CHECKING:
    from .runtime import SimRuntime

LAST_TRIES = 3
"""A worker that gives up tries once more, to know what became of its request; so may its keeper."""
JUMPS = ("server_forward", "server_back")
TAKEN_AWAY = ("restart", "failover", "server_forward", "server_back")
"""After these faults the server may lack jobs that a worker believes it holds."""


class Exchanges(Timed):
    """Exchanges, and the settlements in them."""

    def exchange(
        self, process: SimRuntime, n: int, settlements: Sequence[Settlement], want: Want, call: Callable[[], Exchange]
    ) -> Exchange:
        one = self.of(process)
        audit = n == one.n and not one.open
        self._sends(one, n, settlements, want if isinstance(want, int) else want.total)
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
        if one.renewed and self._world.kernel.time - one.renewed.at > self._world.lease_s:
            one.reasons += 1  # held up for so long, it may have lost its jobs
        if answer.listing is not None and audit:
            one.doubts, one.reconciled_at = "", self._world.kernel.time
        elif any(settlements[i].move == "start" for i in answer.refused):
            one.doubts = "a start was refused"
        one.open = one.lost = False
        one.failures, one.failed = 0, None
        self._goes_on(one)
        one.renewed = began
        one.leaves = one.leaves or any(s.move == "leave" and s.owner == one.worker for s in settlements)
        if answer.paused:
            one.ready, one.due_at = 0, None
        elif answer.listing is None and not one.leaves:
            self._learns(one, want, answer)
        one.tries = 0
        now = self._now(one)
        for raw in answer.claimed:
            self._claims(one, raw, now)
        return answer

    def _learns(self, one: Dealing, want: Want, answer: Exchange) -> None:
        """Without a want, what has come is no news to a worker that has found all empty, or all but what is paused: it
        may be at its end.
        """
        wants = want if isinstance(want, int) else want.total
        if not (wants or one.ready or any(one.running.values())) and one.may_end:
            return
        due_at = None if answer.next_due_s is None else self._world.kernel.time + answer.next_due_s
        if wants:
            one.hidden = bool(answer.paused_queues)
        elif one.hidden:
            one.ready, one.due_at = min(one.ready, answer.ready), one.due_at and due_at
            return
        one.ready, one.due_at = answer.ready, due_at

    def _sends(self, one: Dealing, n: int, settlements: Sequence[Settlement], want: int) -> None:
        if one.exchanging:
            self._broken("one at a time", "two exchanges of one worker are under way")
        if one.lost != one.told_lost:
            self._broken("server told of", f"its server is {'lost' if one.lost else 'back'}, and it told nothing")
        if one.stopped and not one.open:
            self._broken("silent after stop", "an exchange of a worker that has stopped")
        if want and one.stopping and n > one.n:
            self._broken("silent after stop", f"asks for {want} jobs, and is to stop")
        for s in settlements:
            if s.move == "start" and n > one.n:
                self._announces(one, id_of(s.old), read(s.old).lost)
        if n > one.n and one.renewed and not one.may_end:
            self._looks(one, one.renewed)
        limits = one.process.limits
        if n > one.n and limits and limits.max_jobs is not None and want and want + one.begun > limits.max_jobs:
            self._broken("limits kept", f"asks for {want} after {one.begun} jobs, under {limits}")
        self._numbered(one, n, [(s.move, s.old) for s in settlements], want)
        self._within("rests for a reason", one.process.sleeps - one.rested, 3, "rests between two exchanges")
        one.rested = one.process.sleeps
        lease_s = self._world.lease_s
        if one.renewed and not one.may_end:
            most_s = lease_s / 3 + min(TICK_S, lease_s / 3) + FLUSH_S
            self._within("renewed in time", self._moved_s(one, one.renewed), most_s, "no exchange for so long")
        if one.stopping:
            self._sends_at_its_end(one)
        if one.failed and not one.may_end:
            whole_s = self._world.kernel.time - one.failed.at
            gap_s = whole_s - (one.process.stood_still_s - one.failed.stuck_s)
            most_s = min(BACKOFF_FIRST_S * 2 ** (one.failures - 1), BACKOFF_MAX_S)
            what = f"from failure {one.failures} to the next try"
            self._within("tries again", gap_s, most_s, what)
            if whole_s < most_s / 2 - ROUNDING_S:
                self._broken("tries again", f"{what}: {whole_s:.6f} s, less than half of {most_s:g} s")

    def _sends_at_its_end(self, one: Dealing) -> None:
        """A stop cuts a pause short; it does not go on for ever."""
        assert one.stopping
        now = self._world.kernel.time
        told = Since(one.stopping.at, one.still_s_at_stop)
        if one.hurries:
            one.hurries = False
            self._within("hurries to its end", self._awake_s(one, told), 0.0, "from the stop to the next try")
        tired = now - told.at > self._world.lease_s + BACKOFF_MAX_S
        if one.failed and tired and not any(one.running.values()):
            one.tries += 1
            if one.tries > LAST_TRIES:
                self._broken("gives up", f"tries to reach its server {now - told.at:.6f} s after it was told to stop")

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

    def _claims(self, one: Dealing, raw: bytes, now: Since) -> None:
        one.suspected = one.suspected or b'"lost":' in raw
        job_id = id_of(raw)
        if job_id and one.running[job_id] <= 0:
            one.claimed[job_id] = now

    def _announces(self, one: Dealing, job_id: str, lost: int) -> None:
        """A suspect that waits for nothing starts; a wait on the server may have claimed what was ahead of it."""
        since = one.claimed.pop(job_id, None)
        if since and one.two_free and not (one.doubts or one.reasons or one.suspects & set(+one.running)):
            since = max(at for at in (since, one.two_free, one.last_end) if at)
            if one.held_up_at > since.at:
                return  # what the wait claimed had the first turn
            most_s = WAIT_MAX_S + FLUSH_S + (patience_s(self._world.lease_s, lost) if lost >= GRAVE else 0.0)
            self._within("suspects start", self._moved_s(one, since), most_s, "a suspect, whose turn it was", job_id)

    def _looks(self, one: Dealing, renewed: Since) -> None:
        """It knows when the next job is due; unless it stood still, a free thread looks then."""
        now, due = self._now(one), one.due_at
        if due is None or due > now.at or one.two_free is None or now.stuck_s > renewed.stuck_s or one.suspected:
            return
        if one.doubts and (one.waiting_since is not None or one.held_up_at > due):
            return  # it reconciles first, after the wait
        if not any(self._world.struck[rule] for rule in JUMPS):
            self._within(
                "looks when due", now.at - max(due, one.two_free.at, renewed.at), MOMENT_S, "after a job was due"
            )

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

    def claimed(self, process: SimRuntime, want: Want, answer: Exchange) -> None:
        """An exchange is on the server, whatever becomes of its answer."""
        wrong = self.of(process).claims.wrong(want, answer, self._world.server.ready)
        if wrong:
            self._broken(*wrong)

    def arrived(self, process: SimRuntime, job_ids: Sequence[str], refused: bool) -> None:
        """Settlements are on the server, whatever becomes of them."""
        one = self.of(process)
        one.reasons += refused
        for job_id in job_ids:
            one.claimed.pop(job_id, None)
            one.suspects.discard(job_id)  # an earlier attempt of it, unannounced, may still run here
            if job_id in one.to_return:
                one.to_return.discard(job_id)
                assert one.stopping
                waited_s = self._moved_s(one, one.stopping)
                self._within("handed back in time", waited_s, self._settled_s(one), "after it was told to stop", job_id)
            if (since := one.ended.pop(job_id, None)) is not None:
                self._within(
                    "settled in time", self._moved_s(one, since), self._settled_s(one), "after its end", job_id
                )
            owes_reconcile = one.doubts and one.waiting_since is not None  # its keeper settles, a moment later
            if (since := one.grave.pop(job_id, None)) is not None and not (
                self._held_up(one) or owes_reconcile or one.reconciled_at >= since.at
            ):
                self._within("suspects settled", self._moved_s(one, since), 0.0, "a suspect, after its end", job_id)

    def _settled_s(self, one: Dealing) -> float:
        return TICK_S + SETTLED_S if self._held_up(one) else SETTLED_S

    def _held_up(self, one: Dealing) -> bool:
        """True if an open request goes first, or if a wait hangs: then it can't reconcile, and its keeper settles."""
        hangs = one.waiting_since is not None and self._world.kernel.time - one.waiting_since > WAIT_MAX_S + ROUNDING_S
        return hangs or (one.stopping is not None and one.reasons > 0)
