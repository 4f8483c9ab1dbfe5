"""A worker's calls of its server: the requests, and the changes that an answer or a lost answer makes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ...ports import EARLIER_S, Exchange, Want
from .. import settle
from ..settle import Delivery, Settling
from . import choose, exchange, shares, stop, suspects
from .jobs import Jobs
from .state import BACKOFF_FIRST, BACKOFF_MAX
from .steps import ASK_DUE, SECOND, WAIT_MAX, Again, AskDue, Request, Wait, micros, not_before

EARLIER = micros(EARLIER_S)


class Calls(Jobs):
    """Waits and exchanges: one of each at a time."""

    # -- waiting on the server --------------------------------------------------------------

    def _begin_wait(self, now: int) -> AskDue | Wait:
        self.waiting = True
        self.waits += 1
        return ASK_DUE if self.paused or now - self.renewed_at > WAIT_MAX // 2 else self._wait(now)

    def due(self, now: int, server_due: int | None, paused: bool = False) -> Wait:
        """``next_due`` has answered: other processes may have delayed jobs since our last exchange, or paused it."""
        if paused or self.paused:
            self._heed(now, paused, ())
        if paused:
            return Wait(0, now)
        if server_due is not None:
            self._due_at(server_due - self.server_ahead)
        return self._wait(now)

    def _heed(self, now: int, paused: bool, queues: tuple[str, ...]) -> None:
        """The server says which queues are paused. Nothing of them starts then: what has not goes back."""
        heard = shares.heard(self, paused, queues)
        for name in sorted(heard ^ self.paused_queues):
            self.news.append(f"{'paused' if name in heard else 'resumed'} {name}")
        resumed = self.paused_queues - heard
        self.paused, self.paused_queues = paused, heard
        if paused:
            self.asked_at, self.backlog, self.next_due_at = now, 0, None
            self._release(now)
        elif heard:
            self._release(now, lambda d: d.queue in heard)
        if resumed:
            self.look = True
            self._call()

    def _due_at(self, at: int) -> None:
        self.next_due_at = at if self.next_due_at is None else min(self.next_due_at, at)

    def _wait(self, now: int) -> Wait:
        """Wait until the next job is due."""
        if self.next_due_at is not None and self.next_due_at <= now:
            return Wait(0, now, shares.waited_for(self))
        at = choose.next_at(self, now)
        left = WAIT_MAX if at is None else max(at - now, 0)
        if self.idle and choose.watch(self, now) is not None:
            self.wake = self.wake or 1  # it will watch: a server may end our wait 100 ms late, and a network much later
        return Wait(min(WAIT_MAX, left), now, shares.waited_for(self))

    def waited(self, now: int, wait: Wait, got: Delivery | int | None) -> None:
        """A wait is over. ``got``: a job, or the time by the server's clock when one is due."""
        self.waiting = self.overtaking = False
        self.look = isinstance(got, Delivery) or now - self.counted_at >= self.lease // 4
        if isinstance(got, Delivery):
            self.waited_at = now
            self.holding[got.raw] += 1
            self._admit(now, [got])
            if self.paused_queues:
                self._release(now, lambda d: d.queue in self.paused_queues)
        elif got is not None:
            at = got - self.server_ahead
            self._due_at(at)
            # Not earlier than we would have looked: the server's clock jumped, and an exchange tells how far.
            self.look = self.look or at > wait.began + wait.time - EARLIER
        self._waited(now)

    def wait_lost(self, now: int, maybe_sent: bool) -> None:
        """A wait failed: the server may have given us a job."""
        self.waiting = self.overtaking = False
        self.look = True
        self.asked_at = now  # of a paused queue: no sooner again
        if maybe_sent:
            self.to_reconcile = self.ghost = True
        self._waited(now)

    def _waited(self, now: int) -> None:
        self._release_if_stopping(now)
        if self.stopping_at is not None or self.to_reconcile:
            self._call()

    # -- exchanges ----------------------------------------------------------------------------

    def _request(self, now: int, by_thread: bool) -> Request:
        """An exchange: hand finished work over, and claim. A request that an interrupt left unanswered goes first."""
        self.exchanging, self.flush_asked = True, False
        self._first_try()
        if self.open is None:
            self.n += 1
            waits = -1 if self.waiting else self.waits
            batch, want = self._sending(now, by_thread)
            self.open = Request(self.n, batch, want, False, by_thread, waits)
        return self.open

    def _sending(self, now: int, claim: bool) -> tuple[list[Settling], Want]:
        batch, self.outbox = self.outbox, []
        if self.owed_bytes:
            sent = exchange.sendable(batch)
            batch, self.outbox = batch[:sent], batch[sent:]
        for d in reversed(suspects.kept_out(self, now)):  # held beside a suspect, it would blur the cause of a death
            batch.append(settle.returned(d, now / SECOND))
            self.ready.remove(d)
        starting = choose.may_announce(self, now)
        if starting:
            d = self.suspects.popleft()
            self._begin(now, d)
            batch.append(settle.started(d, now / SECOND))
        self.look = False
        self.urgent = self.urgent and bool(self.outbox)
        self.waited_at = None
        most = max(choose.want(self, now) - starting, 0) if claim and self.stopping_at is None else 0
        want, self.credits = shares.divided(self, most)
        return batch, want

    def _compare(self) -> Request:
        """Send the last request's number again, for a listing. It may be number 0."""
        self.exchanging = True
        self._first_try()
        return Request(self.n, (), shares.divided(self, 0)[0], reconciles=True)

    def _first_try(self) -> None:
        self.repeated = self.last_try = False
        self.backoff = BACKOFF_FIRST

    def answered(
        self,
        now: int,
        request: Request,
        answer: Exchange,
        claimed: Sequence[Delivery],
        sent_at: int,
        unsent: Sequence[Settling] = (),
    ) -> None:
        """``claimed``: the jobs that the answer brought; if it ``reconciles``, all that it lists, announced first.

        ``unsent``: failed attempts, for those whose follow-ups can't be sent.
        """
        self.exchanging = self.gave_up = False
        self.bell = self.bell or self.left_behind or not self.alive
        server_at = micros(answer.server_at)
        self.renewed_at, self.server_ahead = sent_at, server_at - sent_at
        if server_at != self.server_at:
            self.server_at, self.server_moved_at = server_at, sent_at
        if self.server_lost:
            self.server_lost = False
            self.news.append("server back")
        if request.reconciles:
            self._listed(now, answer, claimed)
        else:
            self._settled(now, request, answer)
            if unsent:
                self._fail_unsent(now, unsent)
            if claimed:
                self.holding.update(answer.claimed)
                self.job_bytes = max(sum(map(len, answer.claimed)) // len(claimed), 1)
                self._admit(now, claimed)
            self._learnt(now, request, answer, sent_at)
        if answer.paused or self.paused_queues or answer.paused_queues:
            self._heed(now, answer.paused, answer.paused_queues)
        if answer.marked_at != self.marked_at:
            self.marked_at = answer.marked_at
            self.to_ask = answer.marked_at is not None
            self.bell = self.bell or self.to_ask
        self._release_if_stopping(now)
        if self.stopping_at is not None or not request.by_thread:
            self._call()
            if self.owes:  # an old request went first, and no idle thread may be there to hand over the rest
                self._ask_to_flush()

    def _settled(self, now: int, request: Request, answer: Exchange) -> None:
        """Drop the settled jobs, also refused ones. If the server has one still, its count differs: we reconcile."""
        self.open = None
        refused, holding, me = answer.refused, self.holding, self.id
        for i, settling in enumerate(request.settlings):
            d = settling.delivery
            if settling.move == "start":
                self._announced(now, d, i in refused)
                if i not in refused:
                    continue
            if d.owner == me and (left := holding.pop(d.raw, 0) - 1) > 0:
                holding[d.raw] = left
        if self.owed_bytes:
            self.owed_bytes -= sum(settling.follow_up_bytes for settling in request.settlings)

    def _fail_unsent(self, now: int, unsent: Sequence[Settling]) -> None:
        """We hold the jobs still, and settle them once more: as failed."""
        self.holding.update(settling.delivery.raw for settling in unsent)
        self.urgent = self.urgent or any(settling.delivery.place == "running" for settling in unsent)
        self._owe(now, unsent)
        self._ask_to_flush()

    def _learnt(self, now: int, request: Request, answer: Exchange, sent_at: int) -> None:
        self.backlog, self.unrecorded = answer.ready, answer.unrecorded
        self.next_due_at = None if answer.next_due_s is None else now + not_before(answer.next_due_s)
        if exchange.comparable(self, request):
            self.counted_at = sent_at
        if exchange.doubtful(self, request, answer):
            self.to_reconcile = True
        if answer.unrecorded and self.has_store:
            self.bell = True

    def _listed(self, now: int, answer: Exchange, listed: Sequence[Delivery]) -> None:
        """Hold what the server lists. An answer without a listing means that it does not know our number: ask again."""
        self.look = True
        if answer.listing is not None:
            self.to_reconcile = False
            known, self.holding = self.holding, Counter(d.raw for d in listed)
            self._admit(now, exchange.unknown(known, listed))

    def lost(self, now: int, request: Request, maybe_sent: bool) -> Again | None:
        """No answer came. Returns None if the machine gives up."""
        self.repeated = self.repeated or maybe_sent
        if not self.server_lost:
            self.server_lost = True
            self.news.append("server lost")
        if stop.time_is_over(self, now) or stop.unheard(self, now):
            self.stop(now)
        if stop.gives_up(self, now):
            if self.last_try or not maybe_sent:
                self.unanswered(now)
                return None
            self.last_try = True  # the server may have carried it out: one more try tells
            return Again(request, 0)
        pause, self.backoff = self.backoff, min(self.backoff * 2, BACKOFF_MAX)
        return Again(request, pause)

    def unanswered(self, now: int) -> None:
        """A request was given up or interrupted. If it claimed jobs, they show when it is sent again."""
        self.exchanging = False
        self.bell = self.bell or self.left_behind or not self.alive
        self.gave_up = stop.gives_up(self, now)
        self.look = True
        self._release_if_stopping(now)
        self._call()

    @property
    def stands_still(self) -> int:
        """How long the server's clock has not moved from answer to answer, while we wait for it to make jobs due."""
        waits_for_it = self.limits.until == "drained" and self.next_due_at is not None and not self.running
        return max(self.renewed_at - self.server_moved_at, 0) if waits_for_it else 0
