"""Bugs of cron entries: ticks that fire twice, too early, too often or never."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click
import msgspec
from cronsim import CronSim

from kashvi.cli import schedule as command
from kashvi.cron import entry, listed, schedule
from kashvi.cron.entry import Entry, Sealer
from kashvi.cron.listed import Scheduled
from kashvi.cron.schedule import Schedule
from kashvi.drivers.memory import MemoryDriver
from kashvi.drivers.ticks import Known
from kashvi.ticking import Ask, Ticked
from kashvi.worker.ticker import Ticker

from . import Patch, exhibit


@exhibit(
    "each process fires its ticks",
    "and none asks whether another one did",
    "CRON-1",
    source="RQ's rq cron; asynq #371, #395, #653, #1013; Celery beat #2856",
    also="CRON-4 CRON-5 DELIVERY-5 DELIVERY-7 DISPATCH-5",
)
def _(patch: Patch) -> None:
    real = MemoryDriver.tick

    def tick(self: MemoryDriver, ask: Ask) -> Ticked:
        answer = real(self, ask)
        if answer.outcome != "moved" or ask.through is None:
            return answer
        self.push([one.envelope for one in ask.jobs], 0.0, [ask.queue] * len(ask.jobs))
        return answer._replace(outcome="fired", holders=("",) * len(ask.jobs))

    patch.setattr(MemoryDriver, "tick", tick)


@exhibit(
    "a late worker fires an old tick again",
    "the server asks whether this tick is there, and the newer one has replaced it",
    "CRON-1",
    source="procrastinate: defer_periodic_job deletes the rows of older ticks",
)
def _(patch: Patch) -> None:
    real = Known.ask

    def ask(self: Known, ask: Ask, now: float) -> Ticked:
        answer = real(self, ask, now)
        old = ask.through is not None and ask.through < self.last
        if old and answer.outcome in ("moved", "unchanged") and ask.last is not None:
            return answer._replace(outcome="fired", last=0.0, since=0.0)
        return answer

    patch.setattr(Known, "ask", ask)


@exhibit(
    "the worker's clock decides",
    "one that is ahead fires early, one that is behind late",
    "CRON-1",
    source="oban-py #17: ticks missed and doubled by clock drift",
    also="CRON-5",
)
def _(patch: Patch) -> None:
    real = Known.ask

    def ask(self: Known, ask: Ask, now: float) -> Ticked:
        return real(self, ask, max(now, ask.through or 0.0))

    def due(self: Ticker, line: Any) -> tuple[list[int], bool]:
        known = line.known
        if known is None:
            return [], False
        return line.entry.schedule.between(max(known.last, known.since), self._runtime.now(), 1001)  # type: ignore[no-any-return]

    patch.setattr(Known, "ask", ask)
    patch.setattr(Ticker, "_due", due)


@exhibit(
    "asked in a repeated hour, it answers in the past",
    "so a first start fires at once, or a worker spins for an hour",
    "CRON-2",
    source="cronsim 2.8, taken as it is",
)
def _(patch: Patch) -> None:
    def after(self: Schedule, at: float) -> int:
        local = datetime.fromtimestamp(at, self._zone)
        return int(next(CronSim(self.expression, local)).astimezone(UTC).timestamp())

    patch.setattr(Schedule, "after", after)


@exhibit(
    "a zone's clock is never changed", "ticks are an hour off for half a year", "CRON-2", source="RQ: the local clock"
)
def _(patch: Patch) -> None:
    real = schedule._zone
    patch.setattr(schedule, "_zone", lambda name: real(name) and UTC)


@exhibit(
    "a tick in the gap is lost",
    "so the nightly job does not run on that day",
    "CRON-2",
    source="Laravel's docs: a task at that time may run twice or not at all",
)
def _(patch: Patch) -> None:
    def moved(self: Schedule, day: Any, seconds: int) -> int:
        moment = self._moment(day, seconds)
        return 0 if moment is None else moment

    patch.setattr(Schedule, "_moved", moved)


@exhibit(
    "the leader forgets",
    "when its last tick was: what was missed is lost with it",
    "CRON-3",
    source="River: approximate, it starts over at each election",
    also="CRON-1 CRON-4",
)
def _(patch: Patch) -> None:
    real = MemoryDriver.tick

    def tick(self: MemoryDriver, ask: Ask) -> Ticked:
        if ask.last is None:
            self.store.cron.pop(ask.name, None)
        return real(self, ask)

    patch.setattr(MemoryDriver, "tick", tick)


@exhibit(
    "a first start fires at once",
    "a new entry has ticks from before it was there",
    "CRON-3",
    source="redbeat #81",
    also="CRON-1 CRON-4 CRON-5",
)
def _(patch: Patch) -> None:
    real = Known.ask

    def ask(self: Known, ask: Ask, now: float) -> Ticked:
        new = not self.schedules
        answer = real(self, ask, now)
        if not new:
            return answer
        self.last -= 3600
        self.schedules[ask.schedule] = (self.last, now)
        return answer._replace(last=self.last, since=self.last)

    patch.setattr(Known, "ask", ask)


@exhibit("all missed ticks fire, however old they are", "and whatever the entry says", "CRON-3")
def _(patch: Patch) -> None:
    patch.setattr(Ticker, "_fires", lambda self, line, due: due)


@exhibit(
    "a changed entry makes up for a past that it did not have",
    "of its schedule nothing is kept",
    "CRON-4",
)
def _(patch: Patch) -> None:
    real = Known.ask

    def ask(self: Known, ask: Ask, now: float) -> Ticked:
        answer = real(self, ask, now)
        return answer._replace(since=min(answer.since, answer.last))

    patch.setattr(Known, "ask", ask)


@exhibit("two versions of a table reset each other", "the last tick belongs to the schedule", "CRON-4")
def _(patch: Patch) -> None:
    real = Known.ask

    def ask(self: Known, ask: Ask, now: float) -> Ticked:
        others = {other: one for other, one in self.schedules.items() if other != ask.schedule}
        answer = real(self, ask, now)
        if others:
            self.last, self.schedules = now, {ask.schedule: (now, now)}
            return answer._replace(outcome="reset", last=now, since=now)
        return answer

    patch.setattr(Known, "ask", ask)


@exhibit("a clock that was ahead silences an entry", "until that time comes, in years", "CRON-4")
def _(patch: Patch) -> None:
    patch.setattr(Known, "_set_back", lambda self, now: False)


@exhibit(
    "each process gives a tick's job an id of its own",
    "so its id is no idempotency key",
    "CRON-5",
    source="asynq: its advice is a TaskID of one's own",
)
def _(patch: Patch) -> None:
    def at(self: Sealer, entry: Entry, tick: int) -> Any:
        sealed = real(self, entry, tick)
        mine = self.runtime.new_id()
        envelope = sealed.envelope.replace(sealed.job_id.encode(), mine.encode())
        return msgspec.structs.replace(sealed, job_id=mine, envelope=envelope)

    real = Sealer.at
    patch.setattr(Sealer, "at", at)


@exhibit("two queues give their ticks the same ids", "and one failure table takes both for one", "CRON-5")
def _(patch: Patch) -> None:
    real = entry.id_of
    patch.setattr(entry, "id_of", lambda prefix, name, tick: real("", name, tick))


@exhibit("a job does not know its tick", "and reports about the day on which it runs", "CRON-5")
def _(patch: Patch) -> None:
    def at(self: Sealer, entry: Entry, tick: int) -> Any:
        sealed = real(self, entry, tick)
        return msgspec.structs.replace(sealed, envelope=sealed.envelope.replace(b',"tick":%d' % tick, b""))

    real = Sealer.at
    patch.setattr(Sealer, "at", at)


@exhibit("a wrong zone counts as UTC", "and the report comes two hours late", "CRON-6")
def _(patch: Patch) -> None:
    real = schedule._zone

    def zone(name: Any) -> Any:
        try:
            return real(name)
        except ValueError:
            return UTC

    patch.setattr(schedule, "_zone", zone)


@exhibit(
    "the second entry of a name replaces the first",
    "which is never fired again",
    "CRON-6",
    source="RQ: by its function",
)
def _(patch: Patch) -> None:
    patch.setattr(Entry, "same", lambda self, other: True)


@exhibit("an entry that the app has is forgotten", "and its workers start it afresh", "CRON-7")
def _(patch: Patch) -> None:
    def forget(queue: Any, name: str) -> None:
        queue.forget_ticks(name) or click.get_current_context().exit(2)
        click.echo(f"Forgotten: {name}.")

    patch.setattr(command, "_forget", forget)


@exhibit("entries in no table are not listed", "though they may be another app's, or a mistake", "CRON-7")
def _(patch: Patch) -> None:
    real = listed.scheduled

    def those_here(*about: Any) -> list[Scheduled]:
        return [one for one in real(*about) if one.here]

    patch.setattr(listed, "scheduled", those_here)
