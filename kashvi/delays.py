"""Delays: seconds or a timedelta, from 0 to 100 years; and times as people write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from .errors import InvalidDelay

DELAY_MAX_S = 100 * 366 * 86_400.0
"""A hundred years: a longer delay is a mistake, and its due time may be no valid date."""


def seconds_of(delay: object) -> float:
    """A delay as seconds. Raises InvalidDelay."""
    seconds = delay.total_seconds() if isinstance(delay, timedelta) else delay
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= DELAY_MAX_S:
        raise InvalidDelay(delay)
    return float(seconds)


def moment(text: str, now: float) -> float:
    """``2h`` before ``now``, or an ISO 8601 time (UTC by default), as Unix seconds. Raises ValueError."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
    if text[-1:] in units and text[:-1].replace(".", "", 1).isdecimal():
        return now - float(text[:-1]) * units[text[-1]]
    at = datetime.fromisoformat(text)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
