"""A worker's lease on its jobs: numbered exchanges, repaired when a reply is lost, and the count of what it holds.

A lost reply is repaired, not guessed: the same number is sent again, and the server answers what it did. What it
handed over meanwhile shows in its listing, against which the worker compares what it knows to hold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from . import events
from .errors import DriverError, unexpected
from .ports import Driver, Exchange, Place, Runtime
from .settle import Settling
from .text import visible

BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 5.0


class Request(NamedTuple):
    n: int
    settlings: Sequence[Settling]
    want: int


class Answered(NamedTuple):
    """A request and what the server said to it. ``repeated``: a reply was lost on the way."""

    request: Request
    answer: Exchange
    sent_at: float
    repeated: bool


class Lease:
    """Not thread-safe: the worker sees to it that one exchange is in flight."""

    def __init__(
        self, driver: Driver, worker: str, lease_s: float, runtime: Runtime, stream: events.EventStream
    ) -> None:
        self.worker = worker
        self.lease_s = lease_s
        self.renewed_at = runtime.monotonic()
        self.holding: Counter[bytes] = Counter()
        """The envelopes in this worker's two lists, as far as it knows."""
        self._driver = driver
        self._runtime = runtime
        self._stream = stream
        self._n = 0
        self._open: Request | None = None
        self._server_ahead_s = 0.0
        self._bell = runtime.condition()
        self._hurried = False
        self.lost: DriverError | None = None
        """Why the server can't be reached, since it was last heard of."""

    def exchange(self, settlings: Sequence[Settling], want: int, give_up: Callable[[], bool]) -> Answered | None:
        """Send, again and again until there is an answer or ``give_up()``.

        A request that an interrupt left unanswered goes first: look at the answer's ``request``.
        """
        if self._open is None:
            self._n += 1
            self._open = Request(self._n, settlings, want)
        answered = self._send(self._open, give_up)
        if answered is not None:
            self._open = None
        return answered

    @property
    def unanswered(self) -> Sequence[Settling] | None:
        """What a request that has no answer yet would settle."""
        return self._open.settlings if self._open else None

    def repeat(self, give_up: Callable[[], bool]) -> Exchange | None:
        """Ask for the last answer again, for its listing. Changes nothing on the server."""
        answered = self._send(Request(self._n, (), 0), give_up)
        return answered.answer if answered else None

    def _send(self, request: Request, give_up: Callable[[], bool]) -> Answered | None:
        backoff_s = BACKOFF_FIRST_S
        repeated = last_try = False
        while True:
            sent_at = self._runtime.monotonic()
            settlements = [settling.sent(sent_at) for settling in request.settlings]
            try:
                answer = self._driver.exchange(self.worker, request.n, self.lease_s, settlements, request.want)
            except Exception as caught:
                if not isinstance(caught, DriverError):
                    events.log.exception("the driver failed in a way it must not")
                error = caught if isinstance(caught, DriverError) else unexpected(caught)
                repeated = repeated or error.maybe_sent
                self._tell_lost(error)
                if give_up():
                    if last_try or not error.maybe_sent:
                        return None
                    last_try = True  # it may have been carried out: once more, to know
                    continue
                self._rest(backoff_s * (0.5 + self._runtime.random() / 2))
                backoff_s = min(backoff_s * 2, BACKOFF_MAX_S)
                continue
            self.renewed_at = sent_at
            self._server_ahead_s = answer.server_at - sent_at
            self._tell_back()
            return Answered(request, answer, sent_at, repeated or answer.listing is not None)

    def hurry(self) -> None:
        """Do not wait before the next try: there may be a reason to give up."""
        with self._bell:
            self._hurried = True
            self._bell.notify_all()

    def _rest(self, seconds: float) -> None:
        with self._bell:
            if not self._hurried:
                self._bell.wait(seconds)
            self._hurried = False

    def server_now(self) -> float:
        """The server's clock: never before it, ahead by a round trip at the most."""
        return self._runtime.monotonic() + self._server_ahead_s

    def compare(self, listing: tuple[list[bytes], list[bytes]]) -> list[tuple[bytes, Place]]:
        """Take the server's word for what is held; returns what it holds and we did not know of."""
        known = self.holding
        self.holding = Counter(listing[0]) + Counter(listing[1])
        found: list[tuple[bytes, Place]] = []
        places: tuple[Place, Place] = ("running", "held")
        for place, entries in zip(places, (listing[1], listing[0]), strict=True):
            for raw in entries:
                if known[raw] > 0:
                    known[raw] -= 1
                else:
                    found.append((raw, place))
        return found

    def _tell_lost(self, error: DriverError) -> None:
        if self.lost is None:
            self._stream.emit(events.ServerLost, error=str(error))
            events.log.warning("kashvi worker %s keeps trying: %s", self.worker, visible(str(error)))
        self.lost = error

    def _tell_back(self) -> None:
        if self.lost is not None:
            self.lost = None
            self._stream.emit(events.ServerBack)
            events.log.warning("kashvi worker %s: the server is back", self.worker)
