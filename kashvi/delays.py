"""Delays: seconds or a timedelta, from 0 to 100 years."""

from __future__ import annotations

from datetime import timedelta

from .errors import InvalidDelay

DELAY_MAX_S = 100 * 366 * 86_400.0
"""A hundred years: a longer delay is a mistake, and its due time may be no valid date."""


def seconds_of(delay: object) -> float:
    """A delay as seconds. Raises InvalidDelay."""
    seconds = delay.total_seconds() if isinstance(delay, timedelta) else delay
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= DELAY_MAX_S:
        raise InvalidDelay(delay)
    return float(seconds)
