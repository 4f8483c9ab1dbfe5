"""The jobs of a worker: claimed, running, finished; and its stop."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence

from msgspec.structs import replace

from .. import settle
from ..settle import Delivery, Settling
from . import exchange, stop, suspects
from .state import ALL, State
from .steps import SECOND


class Jobs(State):
    """Changes the jobs that the worker holds."""

    def _call(self) -> None:
        """Wake one idle thread, which wakes the next: short jobs need few."""
        if self.stopping_at is not None:
            self.wake = ALL
        elif self.idle and not self.called:
            self.called = True
            self.wake = self.wake or 1

    def _admit(self, now: int, claimed: Iterable[Delivery]) -> None:
        """Take on claimed jobs, and announced ones that a listing showed."""
        for d in claimed:
            if d.place == "running":
                self.ready.appendleft(d)
            elif d.suspect:
                at = suspects.place_of(d, self.suspects)
                self.suspects.insert(at, d)
                if at == 0:
                    self.suspects_since = now
                self.overtaking = self.waiting
            else:
                self.ready.append(d)

    def _begin(self, now: int, d: Delivery) -> None:
        """A suspect is announced, may start, or starts: its window counts from the last of these."""
        self.suspect = d
        self.suspect_at = self.suspects_since = now

    def _announced(self, now: int, d: Delivery, refused: bool) -> None:
        if refused:  # we may hold it all the same, if another worker took it over and we claimed it again unchanged
            self.to_reconcile = True
            if d is self.suspect:
                self.suspect = None
            return
        self.marked_at = None  # it was on no list if the keeper asked meanwhile which jobs are cancelled
        moved = replace(d, place="running")
        self._begin(now, moved)
        self.ready.appendleft(moved)

    def _ended(self, now: int, settling: Settling) -> None:
        """An attempt is over."""
        d, took_s = settling.delivery, settling.took_s
        if self.running.pop(id(d), None) is None and self.left_behind:
            return  # it was settled when the worker left it behind
        if d.place == "running":
            if d is self.suspect:  # an earlier suspect that outlived its window may end later
                self.suspect = None
            self.urgent = True  # until it is settled, our death would count against a job that has ended
        if not self.outbox:
            self.owed_since = now
        self.outbox.append(settling)
        if settling.follow_ups:
            self.owed_bytes += settling.follow_up_bytes
            self.urgent = self.urgent or exchange.too_much_owed(self)
        if took_s is not None:
            took = int(took_s * SECOND)
            pace = took if self.pace is None else self.pace + (took - self.pace) // 5
            self.pace = pace if pace > 1 else 1

    def _owe(self, now: int, settlings: Sequence[Settling]) -> None:
        if not self.outbox:
            self.owed_since = now
        self.outbox += settlings

    # -- cancelled jobs -------------------------------------------------------------------------

    def told_marks(self, now: int, marked: Collection[str]) -> None:
        """Which of the worker's jobs are cancelled: unstarted ones go, running ones may ask."""
        known, self.cancelled = self.cancelled, {}
        for number, d in self.running.items():
            if d.job_id in marked or known.get(number) is d:
                self.cancelled[number] = d
        self._release(now, lambda d: d.job_id in marked)

    def not_told(self) -> None:
        """No answer came: ask again after the next exchange."""
        self.marked_at = None

    # -- stopping -------------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        """Whether it has taken as many jobs as it may."""
        return self.limits.max_jobs is not None and self.taken >= self.limits.max_jobs

    @property
    def owes(self) -> bool:
        """Finished work is to be handed over, or the server wants a sign of life after a wait."""
        return bool(self.outbox) or self.waited_at is not None

    def _ask_to_flush(self) -> None:
        """Have the keeper hand over what is finished, if no thread does so soon."""
        if not self.flush_asked:
            self.flush_asked = self.bell = True

    @property
    def unsettled(self) -> int:
        """The number of jobs whose settlement the server has not confirmed."""
        return sum(s.move != "leave" for s in (*self.outbox, *(self.open.settlings if self.open else ())))

    def stop(self, now: int) -> None:
        """Take no more jobs; hand back what has not started; let what runs end."""
        if self.stopping_at is None:
            self.news.append("stopping")
        self._stop(now)
        self.bell = self.hurry = True

    def _stop(self, now: int) -> None:
        if self.stopping_at is None:
            self.stopping_at = now
            self._release(now)
        self.wake = ALL

    def _release_if_stopping(self, now: int) -> None:
        """Hand back the jobs that a call brought after the stop."""
        if self.stopping_at is not None:
            self._release(now)

    def _release(self, now: int, goes: Callable[[Delivery], bool] = lambda d: True) -> None:
        """Hand back claimed jobs that have not started: all, or those that it is true of."""
        back = stop.going_back(self, goes)
        self._owe(now, [settle.returned(d, now / SECOND) for d in back])
        if any(d.place == "running" for d in back):
            self.suspect = None
        self.ready = deque(d for d in self.ready if not goes(d))
        self.suspects = deque(d for d in self.suspects if not goes(d))

    def one_try(self) -> None:
        """The process is about to exit: wait no longer for a server that does not answer."""
        if self.stopping_at is not None:
            self.stopping_at -= self.lease
        self.hurry = True
