"""The jobs of each situation as bytes, as other programs push them, among them the Go program."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from kashvi.runtime import SystemRuntime

from .story import Fate

TEXT = "h\u00e9llo <&> \u2028 \U0001f600"
NUMBER = 9_007_199_254_740_993
"""2**53 + 1: an integer that no float holds."""
UNKNOWN_FIELD = '"origin":"worker kit 1"'
HELD_UP_S = 1.7
"""The duration of a job whose worker is paused or killed during it. In each round it differs from all waits between
attempts, so that two copies of a retry are not in the set together, where they would be one member."""
TAKES_S = 1.0
"""The duration of a job beside others whose process is killed."""
BACKLOG = 6
"""Jobs for each thread in situations about an order."""


class Round(NamedTuple):
    """A scene is played again, with longer jobs, if its signals came too late, on a busy machine."""

    suffix: str
    """The end of its jobs' names."""
    longer: float
    """The factor of their durations."""


ROUNDS = (Round("", 1.0), Round(" again", 3.0), Round(" once more", 6.0))


@dataclass(frozen=True)
class ToPush:
    """A job before it is pushed. ``delay``: seconds from now, negative for long due."""

    name: str
    situation: str
    type: str
    raw: bytes
    delay: float | None = None
    fate: Fate = "done"
    copies: int = 1


class Jobs:
    """Makes the jobs; ``log`` is the key of their log."""

    def __init__(self, log: str, threads: int) -> None:
        self._log = log
        self._threads = threads
        self._new_id = SystemRuntime().new_id

    def _job(self, situation: str, name: str, type_: str, /, fate: Fate = "done", **payload: object) -> ToPush:
        """A job with an id. A ``delay`` in the payload is also the job's delay."""
        delay = payload.pop("delay", None)
        assert delay is None or isinstance(delay, float)
        envelope = {"id": self._new_id(), "type": type_, "payload": {"log": self._log, "name": name, **payload}}
        return ToPush(name, situation, type_, _compact(envelope), delay, fate)

    def echo(self, situation: str, name: str, delay: float | None = None) -> ToPush:
        return self._job(situation, name, "spec.Echo", text=name, number=1, delay=delay)

    def fail(self, situation: str, name: str, seconds: float = 0.0) -> ToPush:
        return self._job(situation, name, "spec.Fail", "failed", seconds=seconds, seen=0)

    def cancelled(self, turn: Round) -> ToPush:
        """A job that is cancelled during its first attempt, which fails."""
        seconds = HELD_UP_S * turn.longer
        return self._job("cancelled", f"cancelled{turn.suffix}", "spec.Fail", "cancelled", seconds=seconds, seen=0)

    def flaky(self, situation: str, name: str, fails: int) -> ToPush:
        return self._job(situation, name, "spec.Flaky", fails=fails)

    def sleep(self, situation: str, name: str, seconds: float, fate: Fate = "done") -> ToPush:
        return self._job(situation, name, "spec.Sleep", fate, seconds=seconds)

    def before_any_worker(self) -> Iterator[ToPush]:
        """A backlog, to show an order, and all odd quick jobs."""
        backlog = range(BACKLOG * self._threads)
        yield from (self.echo("in order", f"in order {n}") for n in backlog)
        for n in sorted(backlog, key=lambda n: n % 3):
            yield self.echo("due before", f"due before {n}", delay=n * 0.5 - 1000.0)
        yield from reversed([self.echo("due together", f"due together {n}", delay=-2000.0) for n in backlog])
        yield self._values()
        yield self._job("star", "star", "*spec.Echo", text="star", number=1)
        yield from self._undeliverable()

    def _values(self) -> ToPush:
        """A payload escaped as by Go, with fields in another order, blanks, and an unknown key."""
        text = json.dumps(TEXT).replace("<", "\\u003c").replace("&", "\\u0026").replace(">", "\\u003e")
        raw = (
            f'{{ "payload" : {{"number": {NUMBER}, "nobody knows": [1, {{}}], "text": {text}, "name": "values",'
            f' "log": {json.dumps(self._log)}}}, "type": "spec.Echo", "id": "{self._new_id()}" }}'
        )
        return ToPush("values", "values", "spec.Echo", raw.encode())

    def _undeliverable(self) -> Iterator[ToPush]:
        unknown = self._job("undeliverable", "unknown type", "spec.Nobody", "undeliverable", text="", number=1)
        misfit = self._job("undeliverable", "misfit", "spec.Echo", "undeliverable", text="", number="1")
        lacking = self._job("undeliverable", "lacks a field", "spec.Echo", "undeliverable", text="")
        noise = f"no envelope of {self._log}".encode()
        yield from (unknown, misfit, lacking)
        yield ToPush("garbage", "undeliverable", "", noise, fate="undeliverable")
        yield ToPush("garbage with NUL", "undeliverable", "", b"\xff\x00" + noise, fate="undeliverable")

    def failing(self) -> list[ToPush]:
        """At least one failing job for each thread: a worker that sleeps between attempts has no free thread then."""
        plain = {"log": self._log, "name": "no id", "seconds": 0, "seen": 0}
        jobs = [
            ToPush("no id", "no id", "spec.Fail", _compact({"type": "spec.Fail", "payload": plain}), None, "failed", 2),
            self._odd(),
            self.flaky("flaky", "flaky", fails=2),
        ]
        more = max(1, self._threads - 4)
        return jobs + [self.fail("failing", f"failing {n}") for n in range(more)]

    def killed(self, turn: Round) -> list[ToPush]:
        """Jobs whose process is killed during them, the failing one first."""
        seconds = TAKES_S * turn.longer
        others = [f"killed {n}{turn.suffix}" for n in range(min(3, 2 * self._threads - 1))]
        failing = self.fail("killed", f"killed and failing{turn.suffix}", seconds)
        return [failing, *(self.sleep("killed", name, seconds) for name in others)]

    def held_up(self, turn: Round = ROUNDS[0]) -> list[ToPush]:
        """One job that would be tried again, and one in its last attempt. No wait between attempts is as long."""
        name, last_name, seconds = f"paused{turn.suffix}", f"paused last{turn.suffix}", HELD_UP_S * turn.longer
        plain = {"log": self._log, "name": last_name, "seconds": seconds, "seen": 0}
        envelope = {"id": self._new_id(), "type": "spec.Fail", "payload": plain, "attempts": 2}
        last = ToPush(last_name, "paused last", "spec.Fail", _compact(envelope), None, "failed")
        return [self.fail("paused", name, seconds), *([last] if self._threads > 1 else [])]

    def _odd(self) -> ToPush:
        """A payload whose bytes would change as numbers or dictionaries of another language."""
        raw = (
            f'{{"id":"{self._new_id()}","type":"spec.Fail",{UNKNOWN_FIELD},"payload":{{ "x":1.0,"name":"odd bytes",'
            f' "big":{NUMBER},"seen":0,"log":{json.dumps(self._log)},  "seconds":0}}}}'
        )
        return ToPush("odd bytes", "odd bytes", "spec.Fail", raw.encode(), None, "failed")


def _compact(envelope: object) -> bytes:
    return json.dumps(envelope, separators=(",", ":")).encode()
