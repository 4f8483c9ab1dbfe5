"""Judges each process's dealings with its server: its events, and how soon it settles, renews, polls and stops.

Judged call by call, with bounds exact to the millisecond. Time in which the network, the server or the process itself
stood still does not count: the actual time of this process, not the longest time of a fault.
"""

from __future__ import annotations

from collections.abc import Callable

from kashvi import events
from kashvi.names import served
from kashvi.ports import Expired

from .dealing import FLUSH_S, MOMENT_S, MORE_S, ROUNDING_S, TICK_S, WAIT_MAX_S, Dealing
from .ends import Ends
from .runtime import SimRuntime


class Dealings(Ends):
    """Waits, looks after the dead, and a process's own events."""

    def interrupted(self, process: SimRuntime) -> None:
        """Ctrl-C: it does not rest before it tries once more, and something may have been lost. An attempt ends."""
        one = self.of(process)
        one.last_end, one.aside_before_s = self._now(one), self._aside_s(one)
        one.told = True
        one.reasons += 1
        one.failures, one.failed = 0, None
        one.broken_off = one.may_end

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
            got = call()
            if isinstance(got, bytes):
                self._claims(one, got, self._now(one))
            return got
        except BaseException as error:
            one.reasons += 1
            self._doubts(one, error)
            if isinstance(error, KeyboardInterrupt):
                one.doubts = "a wait was interrupted"
            raise
        finally:
            held_up_s = self._world.kernel.time - one.waiting_since - WAIT_MAX_S
            if held_up_s > ROUNDING_S:
                one.aside_s += held_up_s
                one.held_up_at = self._world.kernel.time
            one.waiting_since = None

    def paused(self, process: SimRuntime) -> None:
        """It hears that the queue is paused, and need not look."""
        one = self.of(process)
        one.ready, one.due_at = 0, None

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
            one.begun += isinstance(event, events.AttemptFailed) and not event.attempt
            if event.type:
                one.ended[event.job_id] = one.last_end
                one.running[event.job_id] = max(one.running[event.job_id] - 1, 0)
                self._counts(one)
                if event.job_id in one.suspects and one.running[event.job_id] <= 0:
                    one.grave[event.job_id] = one.last_end
        elif isinstance(event, events.AttemptStarted):
            self._starts(one, event)
            if event.suspect:
                one.suspected = True
                one.suspects.add(event.job_id)
            else:
                one.suspects.discard(event.job_id)
        elif isinstance(event, events.ServerLost | events.ServerBack):
            lost = isinstance(event, events.ServerLost)
            if lost == one.told_lost or lost != one.lost:
                self._broken("server told of", f"tells that its server is {'lost' if lost else 'back'}, and it is not")
            one.told_lost = lost
        elif isinstance(event, events.JobPostponed):
            one.begun += 1
        elif isinstance(event, events.JobFailed):
            one.exhausted.add(event.job_id)
        elif isinstance(event, events.WorkerStarted):
            one.worker, one.threads, one.began = event.worker, event.threads, self._now(one)
            one.claims.serves = served(event.queues)
            self._counts(one)
        elif isinstance(event, events.RetryScheduled | events.JobSnoozed):
            one.ended.pop(event.job_id, None)  # it may have arrived as bytes without an id
        elif isinstance(event, events.JobReturned | events.AttemptLost):
            one.suspected = one.suspected or event.owner != one.worker
        elif isinstance(event, events.AttemptStuck):
            one.disobeyed = self._world.patience_s is not None
        elif isinstance(event, events.WorkerStopping):
            self._stopping(one)
        elif isinstance(event, events.WorkerStopped):
            self._stopped(one, event)

    def _starts(self, one: Dealing, event: events.AttemptStarted) -> None:
        one.running[event.job_id] += 1
        one.begun += 1
        most = one.process.limits and one.process.limits.max_jobs
        if most and one.begun > most:
            self._broken("limits kept", f"its job number {one.begun}, where {most} are the limit", event.job_id)
        one.to_return.discard(event.job_id)
        since = one.claimed.pop(event.job_id, None)
        if since and one.two_free and not one.suspected:
            idle_s = self._moved_s(one, max(since, one.two_free))
            self._within("starts at once", idle_s, MOMENT_S, "claimed, beside two free threads", event.job_id)
        self._counts(one)

    def _counts(self, one: Dealing) -> None:
        """How many threads are free."""
        if one.threads - sum(one.running.values()) < 2:
            one.two_free = None
        elif one.two_free is None:
            one.two_free = self._now(one)
