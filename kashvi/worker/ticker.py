"""Fires the ticks of cron entries: in each worker, a thread that asks the server at each tick of an entry.

All workers ask, and the server's step lets one of them fire (``Ticking.tick``). So there is no leader, and a worker's
clock decides nothing: when to ask is reckoned from the server's last answer.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable
from datetime import UTC, datetime

from .. import events
from ..cron.entry import Entry, Sealer
from ..dispatch import Sealed
from ..errors import CommandRefused, DriverError
from ..ports import Runtime
from ..stream import EventStream
from ..text import visible
from ..ticking import Ask, Ticked, Ticking, TickJob
from .attempt import describe

ASK_S = 3600.0
"""An entry is asked for at least so often: the server's clock may have been set, or the server rolled back."""
FLOOR_S = 1.0
"""An entry is asked for at most so often."""
LOOK_S = 0.01
"""The shortest time between two looks: entries that tick together were answered one after another."""
AWAY_S = 5.0
"""The wait after a call that failed."""
BROKEN_S = 60.0
"""The wait after a job that can't be made."""
LATE_S = 60.0
"""With ``missed="skip"``, an older tick is left out."""
MOST = 1000
"""The most late ticks that fire at a time."""
REQUEST_MAX = 4 * 1024 * 1024
"""The most bytes of jobs in one request, if there are several."""
TRIES = 5
"""How often one look asks for an entry again because the answer has changed what is due."""


class _Line:
    """An entry, and what this worker knows of it."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.known: Ticked | None = None
        """The server's last answer."""
        self.heard_at = self.ask_at = 0.0
        """When that came, and when to ask next, on the monotonic clock."""
        self.tried = 0
        """The tick whose job is under way; 0: none is."""
        self.told: int | None = None
        """What ``tried`` was at the last refusal that was told; None once that has an answer."""


class Ticker:
    """Of one worker."""

    def __init__(
        self,
        worker: str,
        entries: Iterable[Entry],
        driver: Ticking,
        sealer: Sealer,
        runtime: Runtime,
        stream: EventStream,
    ) -> None:
        self._worker = worker
        self._lines = [_Line(entry) for entry in entries]
        self._driver = driver
        self._sealer = sealer
        self._runtime = runtime
        self._stream = stream
        self._bell = runtime.condition()
        self._stopped = False

    def start(self) -> None:
        """Ask in a thread of its own: an app's job, or a server that hangs, must not hold up the keeper."""
        try:
            self._runtime.spawn(self._run, "kashvi-cron")
        except BaseException as error:  # no more threads to be had
            events.warn(f"kashvi worker {self._worker} fires no ticks, for want of a thread", error)

    def stop(self) -> None:
        """Fire no more ticks; does not wait for a call under way."""
        self._stopped = True
        self.ring()

    def ring(self) -> None:
        """Look again now: in a simulation, time has leapt."""
        with self._bell:
            self._bell.notify_all()

    def _run(self) -> None:
        while not self._stopped:
            seconds = self.look()
            with self._bell:
                if not self._stopped:
                    self._bell.wait(seconds)

    def look(self) -> float:
        """Ask for each entry whose time has come; returns the seconds until the next look."""
        now = self._runtime.monotonic
        for line in self._lines:
            if self._stopped or line.ask_at > now():
                continue
            try:
                self._ask(line)
            except DriverError as error:
                line.ask_at = now() + AWAY_S
                if isinstance(error, CommandRefused):
                    self._refused(line, str(error))
            except BaseException as error:  # of an app's class or driver, or a logging handler
                line.ask_at = now() + BROKEN_S
                self._refused(line, describe(error))
        return self.next_s()

    def next_s(self) -> float:
        """The seconds until the next look."""
        if self._stopped:
            return math.inf
        return max(min(line.ask_at for line in self._lines) - self._runtime.monotonic(), LOOK_S)

    def _ask(self, line: _Line) -> None:
        """Ask, and fire what is due."""
        entry = line.entry
        for n in range(TRIES):
            line.tried = 0
            due, more = self._due(line)
            if n and not due:
                break
            fires = self._fires(line, due)
            made = self._made(line, fires)
            whole = len(made) == len(fires)
            through = None if not due else due[-1] if whole else made[-1][0]
            before = line.known
            jobs = [TickJob(tick, one.envelope, (one.lock, one.job_id)) for tick, one in made]
            last = before and before.last
            answer = self._driver.tick(Ask(entry.name, entry.schedule.key, last, through, entry.queue, jobs))
            line.known, line.heard_at = answer, self._runtime.monotonic()
            if line.told == line.tried:
                line.told = None
            if answer.outcome == "reset":
                self._reset(line, before)
            elif answer.outcome == "fired":
                self._fired(line, answer, made)
                self._missed(line, due, fires, more)
            over = answer.outcome in ("unchanged", "early") or (answer.outcome == "fired" and whole)
            if before and over:
                break
        line.ask_at = line.heard_at + self._wait_s(line)

    def _due(self, line: _Line) -> tuple[list[int], bool]:
        """The newest ticks that have come and did not fire, oldest first; and whether there are more."""
        known = line.known
        if known is None:
            return [], False
        return line.entry.schedule.between(max(known.last, known.since), self._server_time(line, known), MOST + 1)

    def _fires(self, line: _Line, due: list[int]) -> list[int]:
        """Those of them that fire, late as they are."""
        entry = line.entry
        if not due or line.known is None:
            return []
        now = self._server_time(line, line.known)
        late_s = min(LATE_S, entry.max_late_s) if entry.missed == "skip" else entry.max_late_s
        fires = [tick for tick in due[-MOST:] if tick >= now - late_s]
        return fires[-1:] if entry.missed == "once" else fires

    def _server_time(self, line: _Line, known: Ticked) -> float:
        """By the server's last answer."""
        return known.server_at + self._runtime.monotonic() - line.heard_at

    def _made(self, line: _Line, ticks: list[int]) -> list[tuple[int, Sealed]]:
        """The ticks, each with its job, up to the one that reaches REQUEST_MAX."""
        made: list[tuple[int, Sealed]] = []
        size = 0
        for line.tried in ticks:
            job = self._sealer.at(line.entry, line.tried)
            made.append((line.tried, job))
            size += len(job.envelope)
            if size >= REQUEST_MAX:
                break
        return made

    def _wait_s(self, line: _Line) -> float:
        """The seconds until the next tick, by the server's clock; or until it is to be asked in any case."""
        assert line.known is not None
        tick = line.entry.schedule.after(max(line.known.last, line.known.since))
        return max(min(ASK_S, ASK_S if tick is None else tick - line.known.server_at), FLOOR_S)

    # -- what is told ---------------------------------------------------------------------------

    def _fired(self, line: _Line, answer: Ticked, fired: list[tuple[int, Sealed]]) -> None:
        for (tick, one), holder in zip(fired, answer.holders, strict=True):
            about = {"job_id": one.job_id, "type": one.type, "queue": one.queue, "server_at": answer.server_at}
            about |= {"cron": line.entry.name, "tick": float(tick)}
            if holder:
                self._stream.emit(events.JobDuplicate, holder=holder, **about)
            else:
                self._stream.emit(events.JobDispatched, unique=one.lock, **about)

    def _missed(self, line: _Line, due: list[int], fires: list[int], more: bool) -> None:
        late = sorted(set(due) - set(fires))
        if late:
            about = {"name": line.entry.name, "count": len(late), "newest": float(late[-1]), "more": more}
            self._stream.emit(events.TicksMissed, **about)
            so_many = f"{'more than ' if more else ''}{len(late):,}"
            events.log.info(
                "the cron entry %s leaves out %s ticks, up to %s", line.entry.name, so_many, shown(late[-1])
            )

    def _reset(self, line: _Line, before: Ticked | None) -> None:
        self._stream.emit(events.ScheduleReset, name=line.entry.name, before=before.last if before else 0.0)
        events.warn(f"the server's clock was set back: the cron entry {line.entry.name} starts afresh")

    def _refused(self, line: _Line, why: str) -> None:
        """Once a tick; of looks without one, once until the server answers."""
        if line.told == line.tried:
            return
        line.told = line.tried
        what = f"fire its tick of {shown(line.tried)}" if line.tried else "be asked for"
        with contextlib.suppress(BaseException):  # of a logging handler
            self._stream.emit(events.TickRefused, name=line.entry.name, tick=float(line.tried), error=why)
            events.warn(f"the cron entry {line.entry.name} can't {what}: {visible(why)}")


def shown(tick: float) -> str:
    """A tick in a message."""
    return f"{datetime.fromtimestamp(tick, UTC):%Y-%m-%dT%H:%MZ}"
