"""The last tick of each cron entry, as drivers keep it: ``last``, and for each schedule of the name since when the
server knows it, and when it was last asked for.

Two versions of an app's table may be alive at a time. So a schedule has no tick from before the server first saw it,
and the name's ``last`` goes on when the schedule changes (CRON-4).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..ticking import TICK_AHEAD_S, TICK_OLD_S, Ask, Outcome, Ticked


@dataclass
class Known:
    """One name. On Redis it is a text: last, then of each schedule: its key, since, asked."""

    last: float
    schedules: dict[str, tuple[float, float]] = field(default_factory=dict)
    """By its key: since when it is known, and when it was last asked for."""

    def ask(self, ask: Ask, now: float) -> Ticked:
        """Whether the ticks up to ``through`` may fire now (``fired``); all is stored but ``through``."""
        schedule, last, through = ask.schedule, ask.last, ask.through
        reset = self._set_back(now)
        first = schedule not in self.schedules
        since, _ = self.schedules.get(schedule, (now, now))
        self.schedules[schedule] = (since, now)
        self.schedules = {key: one for key, one in self.schedules.items() if one[1] > now - TICK_OLD_S}
        outcome: Outcome
        if reset:
            outcome = "reset"
        elif first:
            outcome = "first"
        elif last not in (None, self.last):
            outcome = "moved"
        elif last is None or through is None or through <= self.last:
            outcome = "unchanged"
        else:
            outcome = "early" if through > now else "fired"
        return Ticked(outcome, now, self.last, since)

    def _set_back(self, now: float) -> bool:
        """Times that were written while the server's clock was ahead become now."""
        limit = now + TICK_AHEAD_S
        ahead = self.last > limit or any(since > limit for since, _ in self.schedules.values())
        self.last = now if self.last > limit else self.last
        self.schedules = {
            key: (now if since > limit else since, min(asked, now)) for key, (since, asked) in self.schedules.items()
        }
        return ahead
