"""Values as a page shows them: foreign texts made harmless, durations and times in a few characters."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import datetime

from ..text import visible
from ..view import BUCKETS_S, Histogram

Redact = Callable[[str, str, str], str]
"""Of a job's type, the part (``payload``, ``error``, ``traceback``) and its text; returns the text to show instead."""
HIDDEN = "(not shown: redact failed)"
WHOLE_MAX = 20_000
LINE_MAX = 300
"""The most characters of a text on its own page, and in a list."""

log = logging.getLogger("kashvi")


class Texts:
    """Foreign texts: redacted, cut, and with control characters made visible. Jinja escapes what is left."""

    def __init__(self, redact: Redact | None) -> None:
        self._redact = redact

    def line(self, job_type: str, part: str, text: str) -> str:
        """The beginning, in one line."""
        return visible(" ".join(self._allowed(job_type, part, text)[: LINE_MAX * 2].split()))[:LINE_MAX]

    def whole(self, job_type: str, part: str, text: str, most: int | None = WHOLE_MAX) -> tuple[str, int]:
        """The text with its lines, up to ``most`` characters, and how many it has in all."""
        told = self._allowed(job_type, part, text)
        return "\n".join(map(visible, told[:most].split("\n"))), len(told)

    def _allowed(self, job_type: str, part: str, text: str) -> str:
        if self._redact is None or not text:
            return text
        try:
            return str(self._redact(job_type, part, text))
        except Exception:
            log.warning("redact failed for a job of the type %s; its %s is not shown", visible(job_type), part)
            return HIDDEN


def span(seconds: float | None) -> str:
    """``350 ms``, ``12 s``, ``3 min 5 s``, ``2 h 10 min``, ``4 d 3 h``."""
    if seconds is None:
        return "–"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms" if seconds > 0 else "0 s"
    if seconds < 10:
        return f"{seconds:.1f} s".replace(".0 ", " ")
    whole = round(seconds)
    for size, name, smaller, rest in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            more = whole % size // smaller
            return f"{whole // size} {name}" + (f" {more} {rest}" if more else "")
    return f"{whole} s"


def distance(at: datetime | None, now: datetime) -> str:
    """``3 min 5 s ago``, ``in 12 s``."""
    if at is None:
        return "–"
    seconds = (now - at).total_seconds()
    return f"in {span(-seconds)}" if seconds < 0 else f"{span(seconds)} ago"


def clock(at: datetime | None) -> str:
    """``2026-11-27 10:39:40``; UTC, as the page says once."""
    return "–" if at is None else at.strftime("%Y-%m-%d %H:%M:%S")


def rate(per_minute: float) -> str:
    """Jobs a minute."""
    return f"{per_minute:,.0f}" if per_minute >= 10 or per_minute == 0 else f"{per_minute:.1f}"


def within(histogram: Iterable[int] | None, share: float) -> str:
    """The bucket in which this share of the durations has ended: ``≤ 25 ms``; "–" if there is none."""
    counts = list(histogram or ())
    if not sum(counts):
        return "–"
    seen, most = 0, share * sum(counts)
    for bound, count in zip(BUCKETS_S, counts, strict=False):
        seen += count
        if seen >= most:
            return f"≤ {span(bound)}"
    return f"> {span(BUCKETS_S[-1])}"


def added(histograms: Iterable[Histogram]) -> list[int]:
    """One histogram of all."""
    return [sum(column) for column in zip(*histograms, strict=True)]
