"""Judges: each reads a story and yields the findings that break its clause."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .story import Pushed, Story

EARLY_S = 0.005
"""Earlier than this is early: the log's times are whole milliseconds."""
LATE_S = 5.0
"""Later than this is late, also on a busy machine."""
TAKEOVER_S = 10.0
"""The most seconds from a lease's end until a held job starts elsewhere, also on a busy machine."""
LIMIT = 3
"""Attempts in all."""
NO_LIMIT = "jobs that always fail had different numbers of attempts (see RETRY-1)"
FAILING = ("failing", "odd bytes")
"""Situations of jobs that fail at each attempt, undisturbed."""


class NotSeen(Exception):
    """The story does not show whether the clause holds. The message has the reason."""


@dataclass(frozen=True)
class Finding:
    """A sentence about a broken clause, and the jobs that are the evidence."""

    why: str
    jobs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Remark:
    """The part of a kept clause that was not checked."""

    text: str


Judge = Callable[[Story], Iterable[Finding | Remark]]
JUDGES: dict[str, Judge] = {}
"""The judge of each clause."""


def judges(clause: str) -> Callable[[Judge], Judge]:
    """Register the judge of a clause. A judge yields findings, or raises NotSeen."""

    def add(judge: Judge) -> Judge:
        assert clause not in JUDGES, clause
        JUDGES[clause] = judge
        return judge

    return add


def pushed(story: Story, *situations: str) -> list[Pushed]:
    """The pushed jobs of these situations. Raises NotSeen if there is none."""
    if why := next((story.missed[one] for one in situations if one in story.missed), ""):
        raise NotSeen(why)
    found = story.of(*situations)
    if not found:
        raise NotSeen(f"the kit did not come so far: {story.cut_short}")
    return found


def limit_of(story: Story) -> int | None:
    """The number of attempts of jobs that always fail; None if the numbers differ, which RETRY-1 judges."""
    numbers = {len(story.told(one.name)) for one in pushed(story, *FAILING)}
    return numbers.pop() if len(numbers) == 1 else None


def named(jobs: Iterable[str], most: int = 3) -> str:
    """``a, b and 4 more``"""
    names = [repr(job) for job in jobs]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
