"""What an action has done, said on the next page: a code and numbers in the URL, so that no text comes from there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

Kind = Literal["good", "warn", "bad"]

MESSAGES: dict[str, tuple[Kind, str]] = {
    "paused": ("good", "Paused: no job of this queue starts, in any worker, until it is resumed."),
    "resumed": ("good", "Resumed: workers go on within a second."),
    "cleared": ("good", "Cleared: {n} removed. Jobs that workers have were left."),
    "cancelled": ("good", "Cancelled: the job was taken off its queue."),
    "asked": ("good", "Cancelled: a worker has the job. This attempt may end, and no other starts."),
    "retried": ("good", "Sent back: {n}."),
    "forgotten": ("good", "Forgotten: {n}."),
    "ended": ("warn", "Too late: no job with this id is on a queue any more. Nothing was changed."),
    "moved": ("warn", "Too late: this job has moved since the page was made. Nothing was changed; look again."),
    "none": ("warn", "Nothing was selected."),
}
COUNTED: dict[str, tuple[Kind, str]] = {
    "late": ("warn", "Too late: {n} had been sent back, deleted or replaced since the page was made."),
    "held": ("warn", "Left: {n}, since other jobs have the keys of these unique ones."),
    "other": ("warn", "Left: {n} of another queue prefix; its own dashboard sends them back."),
}


class Told(NamedTuple):
    """A line at the top of a page."""

    kind: Kind
    text: str


def told(asked: Mapping[str, str]) -> list[Told]:
    """The lines that the URL's codes stand for."""
    lines = []
    if found := MESSAGES.get(asked.get("told", "")):
        lines.append(Told(found[0], found[1].format(n=jobs(_number(asked.get("n", ""))))))
    for name, (kind, text) in COUNTED.items():
        if number := _number(asked.get(name, "")):
            lines.append(Told(kind, text.format(n=jobs(number))))
    return lines


def jobs(n: int) -> str:
    """``1 job``, ``1,234 jobs``."""
    return f"{n:,} job{'' if n == 1 else 's'}"


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else 0
