"""What a worker's keeper reports every 5 s, for people who look: what it is about, and what it has counted."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import msgspec

from .. import events
from ..errors import CommandRefused, DriverError
from ..ports import Runtime
from ..reporting import REPORT_S, Counts, Reporting
from .settle import Delivery
from .tally import Tally

if TYPE_CHECKING:
    from .shell import Worker

LOOK_S = 0.9
AGAIN_S = 60.0
"""What has not changed is reported again after this time: a server may have lost it."""
SHOWN_MAX = 100
"""The most attempts, and suspects, of a report."""

_encode = msgspec.json.Encoder().encode


class Ran(msgspec.Struct):
    """An attempt of a report."""

    job_id: str
    type: str
    queue: str
    attempt: int
    since: float
    """Unix seconds of the server's clock, when the keeper first saw it: up to a second after it began."""


class Suspected(msgspec.Struct):
    """A suspect of a report."""

    job_id: str
    type: str
    lost: int
    announced: bool


class About(msgspec.Struct):
    """What a report says of its worker."""

    host: str
    pid: int
    version: str
    threads: int
    queues: list[str]
    running: list[Ran]
    suspects: list[Suspected]


class Reporter:
    """Of one worker. The keeper calls it; no job waits for it."""

    def __init__(self, worker: Worker, driver: Reporting, runtime: Runtime, version: str) -> None:
        self.tally = Tally()
        self._worker = worker
        self._driver = driver
        self._runtime = runtime
        self._version = version
        self._seen: dict[int, tuple[Delivery, float]] = {}
        self._host = runtime.host()
        self._look_at = 0.0
        self._next_at = runtime.monotonic() + REPORT_S
        self._again_at = 0.0
        self._n = 0
        self._pending: tuple[int, int, bytes, Counts] | None = None
        """The report that has no answer yet: it is sent again as it was."""
        self._said = b""
        self._refused = False
        """The server refuses reports, and we have said so."""

    def look(self) -> None:
        """Note which attempts run, and report if it is time and there is news. The keeper calls it after each step."""
        now = self._runtime.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_S
        about = self._about()
        if now < self._next_at:
            return
        self._next_at = now + REPORT_S
        text = _encode(about)
        if self._pending is None:
            counts = self._take()
            if not counts and text == self._said and now < self._again_at:
                return
            self._n += 1
            self._pending = (self._n, self._minute(), text, counts)
        self._again_at = now + AGAIN_S
        self._send()

    def leave(self) -> None:
        """The last report: the worker is about to go off the list. It is sent once, so it is never counted twice."""
        if self._pending is not None:
            self._send()
        counts = self._take()
        if counts or self._said:
            with contextlib.suppress(DriverError):
                self._driver.report(self._worker.id, self._n + 1, self._minute(), b"", counts)

    def _send(self) -> None:
        assert self._pending is not None
        try:
            if self._driver.report(self._worker.id, *self._pending):
                self._said, self._pending = self._pending[2], None
        except CommandRefused as error:  # the server is full, or a right is missing: what was counted is dropped
            self._pending = None
            if not self._refused:
                self._refused = True
                events.warn(f"kashvi worker {self._worker.id} can't report what it does: {error}")
        except DriverError:
            """No answer came: it is sent again, under its number."""

    def _take(self) -> Counts:
        with self._worker.lock:
            return self.tally.take()

    def _minute(self) -> int:
        return int(self._worker.server_now() // 60)

    def _about(self) -> About:
        worker, at = self._worker, self._worker.server_now()
        machine, seen = worker.machine, self._seen
        with worker.lock:
            running = list(machine.running.items())
            announced, waiting = machine.suspect, list(machine.suspects)[:SHOWN_MAX]
        self._seen = {i: (d, seen[i][1] if i in seen and seen[i][0] is d else at) for i, d in running}
        ran = [
            Ran(d.job_id, d.type, d.queue, d.attempts + 1, since) for d, since in list(self._seen.values())[:SHOWN_MAX]
        ]
        suspects = [Suspected(d.job_id, d.type, d.lost, d is announced) for d in (announced, *waiting) if d is not None]
        queues = list(map(str, machine.queues))
        return About(self._host, self._runtime.process(), self._version, worker.threads, queues, ran, suspects)
