"""When a cron entry ticks: pure arithmetic on Unix seconds, by an expression and a time zone.

cronsim reads the expression and decides which days match. Each day's ticks are its local times, in UTC. If neither the
minute nor the hour begins with ``*``, they are *fixed*: a time in a gap of the zone's clock moves to the end of the
gap, and a repeated time ticks at its first passing. Else each passing of a matching local time ticks, and no other.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from typing import TYPE_CHECKING

from ..errors import InvalidSetting, UnusableSetting

if TYPE_CHECKING:
    from cronsim import CronSim

INSTALL = "pip install 'kashvi[cron]'"
EXPRESSION = "five fields (minute, hour, day of month, month, day of week), as '0 9 * * mon' for every Monday at 9"
EXPRESSION_MAX = 256
DAYS_MAX = 50 * 366
"""The search for a tick ends after this number of days."""
LAST_DAY = date(9990, 1, 1)
DAY = timedelta(days=1)
MINUTE_S = 60


class Schedule:
    """An expression in a time zone. Raises InvalidSetting for an expression or a zone that can't be used."""

    def __init__(self, expression: str, zone: str = "UTC") -> None:
        self._cron = _read(expression)
        self._zone = _zone(zone)
        self.expression = " ".join(expression.split())
        self.zone = zone
        text = f"{self.expression.upper()}\n{zone}"
        self.key = hashlib.sha256(text.encode()).hexdigest()[:16]
        """The same for equal schedules."""
        self._fixed = not (self._cron.parts[1].startswith("*") or self._cron.parts[2].startswith("*"))
        self._times = sorted(
            hour * 3600 + minute * MINUTE_S
            for hour in _numbers(self._cron.hours)
            for minute in _numbers(self._cron.minutes)
        )
        self._ticks_of = lru_cache(maxsize=8)(self._of_day)

    def __str__(self) -> str:
        return self.expression if self.zone == "UTC" else f"{self.expression} ({self.zone})"

    def after(self, at: float) -> int | None:
        """The first tick after ``at``, in Unix seconds; None if there is none within 50 years."""
        day = self._day(at) - DAY  # a gap may move a tick to the next day
        for _ in range(DAYS_MAX):
            if day > LAST_DAY:
                return None
            if self._matches(day) and (ticks := self._ticks_of(day)) and ticks[-1] > at:
                return ticks[bisect_right(ticks, at)]
            day += DAY
        return None

    def between(self, after: float, until: float, most: int) -> tuple[list[int], bool]:
        """The newest ticks in (after, until], oldest first, ``most`` at most; and whether there are more."""
        found: list[int] = []
        for tick in self._before(until):
            if tick <= after:
                break
            if found and found[-1] == tick:
                continue
            if len(found) == most:
                return found[::-1], True
            found.append(tick)
        return found[::-1], False

    def _before(self, until: float) -> Iterator[int]:
        """The ticks up to ``until``, newest first. One may come twice, at the end of a gap."""
        day = self._day(until)
        for _ in range(DAYS_MAX):
            if self._matches(day):
                ticks = self._ticks_of(day)
                for n in range(bisect_right(ticks, until) - 1, -1, -1):
                    yield ticks[n]
            if day == date.min:
                return
            day -= DAY

    def _day(self, at: float) -> date:
        return datetime.fromtimestamp(at, self._zone).date()

    def _matches(self, day: date) -> bool:
        return day.month in self._cron.months and self._cron.match_day(day)

    def _of_day(self, day: date) -> list[int]:
        """The ticks of a day, in order."""
        midnight, end = self._moment(day, 0), self._moment(day + DAY, 0)
        if midnight is not None and end is not None and end - midnight == 86400:  # the clock is not changed
            return [midnight + seconds for seconds in self._times]
        if self._fixed:
            return sorted({self._moved(day, seconds) for seconds in self._times})
        passings = (self._moment(day, seconds, fold) for seconds in self._times for fold in (0, 1))
        return sorted({moment for moment in passings if moment is not None})

    def _moved(self, day: date, seconds: int) -> int:
        """The first passing of a local time, or the end of the gap that it is in."""
        while (moment := self._moment(day, seconds)) is None:
            seconds += MINUTE_S
        return moment

    def _moment(self, day: date, seconds: int, fold: int = 0) -> int | None:
        """When the zone's clock shows this time of the day; None if it never does."""
        local = datetime.combine(day, time()) + timedelta(seconds=seconds)
        utc = local.replace(tzinfo=self._zone, fold=fold).astimezone(UTC)
        return int(utc.timestamp()) if utc.astimezone(self._zone).replace(tzinfo=None) == local else None


def _numbers(found: object) -> list[int]:
    return sorted(found)  # type: ignore[call-overload, no-any-return]


def _read(expression: object) -> CronSim:
    try:
        from cronsim import CronSim, CronSimError
    except ModuleNotFoundError:
        raise UnusableSetting(f"the cron expression {expression!r}", f"cronsim is missing: {INSTALL}") from None
    fields = expression.split() if isinstance(expression, str) else []
    if not isinstance(expression, str) or len(fields) != 5 or len(expression) > EXPRESSION_MAX:
        shown = expression[:EXPRESSION_MAX] if isinstance(expression, str) else expression
        raise InvalidSetting("a cron expression", shown, EXPRESSION + _advice(fields))
    try:
        return CronSim(expression, datetime(2000, 1, 1, tzinfo=UTC))
    except (CronSimError, ValueError, AssertionError) as error:
        what = str(error).removeprefix("Bad ") if isinstance(error, CronSimError) else "expression"
        raise InvalidSetting("a cron expression", expression, f"{EXPRESSION}; its {what} can't be read") from None


def _advice(fields: list[str]) -> str:
    if fields and fields[0].startswith("@"):
        return "; '0 0 * * *' is @daily"
    return ", and none for seconds" if len(fields) == 6 else ""


def _zone(name: object) -> tzinfo:
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo, available_timezones

    try:
        if isinstance(name, str):
            return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        """It is no zone's name, or there are no zones."""
    if isinstance(name, str) and not available_timezones():
        why = f"this system has no time zones: {INSTALL}, which brings tzdata"
        raise UnusableSetting(f"the time zone {name!r}", why)
    raise InvalidSetting("a time zone", name, f"the name of one, as 'Europe/Berlin' or 'UTC'{_close(name)}")


def _close(name: object) -> str:
    from difflib import get_close_matches
    from zoneinfo import available_timezones

    by_name = {zone.lower(): zone for zone in available_timezones()}
    found = get_close_matches(name.lower(), by_name, 1) if isinstance(name, str) and len(name) <= 64 else []
    return f" (perhaps {by_name[found[0]]!r})" if found else ""
