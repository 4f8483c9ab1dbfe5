"""The port ``Reporting``: by ``report.lua`` and ``counted.lua`` on a server, and in memory.

On a server, ``…:about`` is a HASH of workers: number, time and JSON of the last report; ``…:counts:<minute>`` a HASH of
counts: ``n <queue> <outcome> <type>``, ``w <queue> <bucket>`` for waits and ``r <queue> <bucket>`` for runs.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..reporting import COUNTS_MAX, KEPT_S, OTHER, Counts, Report
from .keys import ServerKeys

if TYPE_CHECKING:
    from .connection import Script
    from .lines import MemoryStore

MINUTES_AT_ONCE = 15


class ReportedToServer(ServerKeys):
    """The part of the driver for Redis that keeps reports."""

    _REPORT: Script
    _COUNTED: Script
    _REPORTS: Script

    def report(self, worker: str, n: int, minute: int, about: bytes, counts: Counts) -> bool:
        keys = [self._workers, f"{self.prefix}:about", self._counts_key(minute)]
        args: list[Any] = [worker, n, about, self._now(), KEPT_S, COUNTS_MAX]
        for (queue, outcome, name), number in counts.ended.items():
            args += (f"n {queue} {outcome} {name}", f"n {queue} {outcome} {OTHER}", number)
        for what, of_it in (("w", counts.waits), ("r", counts.runs)):
            for (queue, bucket), number in of_it.items():
                args += (f"{what} {queue} {bucket}", "", number)
        return bool(self._server.run(self._REPORT, keys, args))

    def reports(self, workers: list[str]) -> dict[str, Report]:
        if not workers:
            return {}
        raw = [self._odd.get(name, name) for name in workers]
        found = self._server.run(self._REPORTS, [self._workers, f"{self.prefix}:about"], raw)
        reports = dict[str, Report]()
        for name, one in zip(workers, found, strict=True):
            with suppress(ValueError):  # there is none, or another program's
                _, at, about = one.split(b" ", 2)
                reports[name] = Report(about, float(at))
        return reports

    def counted(self, minutes: range) -> dict[int, Counts]:
        found = dict[int, Counts]()
        for i in range(0, len(minutes), MINUTES_AT_ONCE):
            part = minutes[i : i + MINUTES_AT_ONCE]
            answers = self._server.run(self._COUNTED, [self._counts_key(minute) for minute in part], [])
            for minute, fields in zip(part, answers, strict=True):
                counts = Counts({}, {}, {})
                for field, number in zip(fields[::2], fields[1::2], strict=True):
                    with suppress(ValueError):  # of another program
                        _add(counts, field.decode("utf-8", "replace"), int(number))
                if counts:
                    found[minute] = counts
        return found

    def _counts_key(self, minute: int) -> str:
        return f"{self.prefix}:counts:{minute}"


def _add(counts: Counts, field: str, number: int) -> None:
    """Raises ValueError for a field that is none of these."""
    what, queue, rest = field.split(" ", 2)
    if what == "n":
        outcome, name = rest.split(" ", 1)
        counts.ended[queue, outcome, name] = number
    elif what in ("w", "r"):
        (counts.waits if what == "w" else counts.runs)[queue, int(rest)] = number


class ReportedToMemory:
    """The part of the memory driver that keeps reports."""

    store: MemoryStore

    def report(self, worker: str, n: int, minute: int, about: bytes, counts: Counts) -> bool:
        store = self.store
        with store.condition:
            now = store.now()
            if worker not in store.workers:
                return False
            last, _ = store.about.get(worker, (0, None))
            if n <= last:
                return True
            if counts:
                there = store.counts.setdefault(minute, Counts({}, {}, {}))
                _merge(there, counts)
            if about:
                store.about[worker] = (n, Report(about, now))
            else:
                store.about.pop(worker, None)
            for name in [name for name in store.about if name not in store.workers]:
                del store.about[name]
            for old in [one for one in store.counts if one * 60 < now - KEPT_S]:
                del store.counts[old]
            return True

    def reports(self, workers: list[str]) -> dict[str, Report]:
        with self.store.condition:
            about = self.store.about
            return {name: about[name][1] for name in workers if name in about and name in self.store.workers}

    def counted(self, minutes: range) -> dict[int, Counts]:
        with self.store.condition:
            found = {minute: self.store.counts[minute] for minute in minutes if minute in self.store.counts}
            return {m: Counts(dict(one.ended), dict(one.waits), dict(one.runs)) for m, one in found.items()}


def _merge(there: Counts, counts: Counts) -> None:
    size = len(there.ended) + len(there.waits) + len(there.runs)
    for (queue, outcome, name), number in counts.ended.items():
        key = (queue, outcome, name)
        if key not in there.ended and size >= COUNTS_MAX:
            key = (queue, outcome, OTHER)
        size += key not in there.ended
        there.ended[key] = there.ended.get(key, 0) + number
    for of_it, more in ((there.waits, counts.waits), (there.runs, counts.runs)):
        for at, number in more.items():
            size += at not in of_it
            of_it[at] = of_it.get(at, 0) + number
