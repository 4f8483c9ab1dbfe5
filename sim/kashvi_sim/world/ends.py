"""Judges the end of a worker: why it stops, how soon, and what it leaves behind."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from kashvi import events
from kashvi.worker import Limits

from .dealing import FLUSH_S, MOMENT_S, STOPPED_S, TICK_S, Dealing
from .exchanges import Exchanges
from .ledger import id_of

if TYPE_CHECKING:
    from .runtime import SimRuntime

DATABASE = ("insert_fails", "insert_reply_lost", "database_down", "row_refused", "database_slow")
BY_ITSELF_S = 3.0
"""A worker that has reached its limits ends by then: it looks once a second, and a wait ends by itself."""
RECORDS_S = 10.0
"""A worker waits so long for its recorder at its end."""
UNLIMITED = Limits()


class Ends(Exchanges):
    """Stops, limits and exits."""

    def told(self, process: SimRuntime) -> None:
        """The process is told to stop."""
        one = self.of(process)
        if not (one.told or one.stopped) and one.worker:
            self._goes_on_too_long(one)
        one.told = True

    def _goes_on_too_long(self, one: Dealing) -> None:
        """What has reached its limits has stopped by itself."""
        limits, began = one.process.limits or UNLIMITED, one.began
        if began is None or one.lost or one.stopping:
            return
        over_s = self._moved_s(one, began) - (math.inf if limits.max_time_s is None else limits.max_time_s)
        records_s = self._aside_s(one) - one.aside_before_s  # it may wait for the table at its end
        idle_s = 0.0 if any(one.running.values()) else self._moved_s(one, one.last_end or began) - records_s
        full = limits.max_jobs is not None and one.begun >= limits.max_jobs
        if over_s > BY_ITSELF_S or (full and idle_s > BY_ITSELF_S):
            self._broken("limits kept", f"works on under {limits}, after {one.begun} jobs")

    def _ended_by_itself(self, one: Dealing) -> None:
        """For a reason that its limits name."""
        limits = one.process.limits or UNLIMITED
        full = limits.max_jobs is not None and one.begun >= limits.max_jobs
        # Its keeper may have brought jobs of the dead back just when it found the queue empty.
        empty = limits.until != "stopped" and (not one.ready or one.suspected)
        drained = one.due_at is None or limits.until == "empty"
        if not (full or (empty and drained) or one.lost):
            why = f"after {one.begun} jobs, with {one.ready} ready and the next one due at {one.due_at}"
            self._broken("limits kept", f"ends by itself under {limits}, {why}")

    def _over_time(self, one: Dealing) -> None:
        """It stops by itself when its time is over, and not before."""
        limits = one.process.limits or UNLIMITED
        interrupted = one.process.main is not None and self._world.struck["base_exception"] > 0
        if one.told or one.disobeyed or interrupted or one.began is None or one.process.stood_still_s:
            return
        ran_s = self._world.kernel.time - one.began.at
        if limits.max_time_s is None or ran_s < limits.max_time_s - MOMENT_S:
            if limits.until == "stopped" or not one.lost:
                self._broken("limits kept", f"stops by itself under {limits} after {ran_s:.6f} s")
            return
        late_s = self._moved_s(one, one.began) - limits.max_time_s
        self._within("stops after its time", late_s, TICK_S + FLUSH_S, "more than its max_time")

    def _stopping(self, one: Dealing) -> None:
        if one.stopping:
            self._broken("server told of", "tells twice that it is to stop")
        one.stopping, one.aside_before_s = self._now(one), self._aside_s(one)
        one.still_s_at_stop = one.process.stood_still_s
        if one.failed and not one.exchanging:  # it pauses
            one.hurries = one.failed.at < one.stopping.at or not one.told
        self._over_time(one)
        share = self._world.server.contents().shares.get(one.worker)
        if share and not one.doubts:
            held = {job_id for raw in share.held if (job_id := id_of(raw))}
            one.to_return = {job_id for job_id in held if job_id in one.claimed and job_id not in one.ended}

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

    def returned(self, process: SimRuntime, error: BaseException | None) -> None:
        """``work()`` has returned or raised, or ``join()`` has said that all threads have ended. ``error``: theirs."""
        one = self.of(process)
        if one.broken_off:
            return
        if not one.stopped:
            self._broken("joined", "the caller goes on, and its worker has not stopped")
        elif bool(error) != one.away and not isinstance(error, KeyboardInterrupt):
            where = "away" if one.away else "there"
            self._broken("error kept", f"its server was {where} at its end, and it has {error!r}")

    def _stopped_s(self) -> float:
        """A keeper that was busy when it was called sleeps once more."""
        return max(STOPPED_S, min(TICK_S, self._world.lease_s / 3) + FLUSH_S)

    def _stopped(self, one: Dealing, event: events.WorkerStopped) -> None:
        one.stopped = True
        one.away = one.lost and not one.leaves and [move for move, _ in one.sent] != ["leave"]
        if not (one.stopping or one.broken_off):
            self._ended_by_itself(one)
        since = max((at for at in (one.stopping, one.last_end) if at), default=self._now(one))
        busy_s = self._aside_s(one) - one.aside_before_s
        if one.stopping or not one.may_end:  # what ends since the queue is empty may have been idle for long
            moved_s = self._moved_s(one, since) - busy_s
            patience_s = (self._world.patience_s or 0.0) if one.disobeyed and any(one.running.values()) else 0.0
            self._within("stops in time", moved_s, self._stopped_s() + patience_s, "after all had ended")
        unknowable = one.late or (one.away and one.doubts)  # a wait whose reply was lost may have claimed one
        if (held := self._held(event.worker)) > event.unsettled and not unknowable:
            self._broken("leaves nothing held", f"stopped with {event.unsettled} unsettled; the server has {held}")
        if one.lost != one.told_lost:
            self._broken("server told of", f"its server is {'lost' if one.lost else 'back'}, and it told nothing")
        still_s = self._now(one).stuck_s - since.stuck_s  # its recorder stood still with it
        if (
            self._world.stored
            and one.faltered_at < since.at
            and still_s < RECORDS_S
            and not any(self._world.struck[rule] for rule in DATABASE)
        ):
            left = {id_of(raw) for _, raw in self._world.server.contents().unrecorded}
            for job_id in sorted(one.exhausted & left - self._world.rolled_back.keys()):
                self._broken("recorded at the end", "its worker has stopped, and the table took whatever came", job_id)
