"""The lessons of ``lessons.md``, with the runs that their pages show."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from ...clauses import text_of


@dataclass(frozen=True)
class Workload:
    """Some seconds of a workload's runs: the seeds in which the bug shows."""

    name: str
    seeds: tuple[int, ...]
    faults: str = "none"
    begin: float = 0.0
    end: float = 400.0


@dataclass(frozen=True)
class Lesson:
    """A section of ``lessons.md``, and what its page shows beside it."""

    title: str
    clause: str
    """Its example is the first story."""
    also: tuple[str, ...]
    """The other clauses that it is about."""
    bug: str
    workload: Workload
    peers: tuple[str, ...]
    """Exhibits of the museum whose sources are other queues."""
    written: str = ""
    """One more story, in the clauses' format, where the bug does not show in the clause's example."""

    @property
    def slug(self) -> str:
        """The name of its page, without ``.html``."""
        return re.sub(r"[^a-z]+", "-", self.title.lower()).strip("-")


LESSONS = (
    Lesson(
        "At least once",
        "DELIVERY-5",
        ("DISPATCH-1", "DELIVERY-7"),
        "ack before handling",
        Workload("storm", (0, 1, 2), faults="all"),
        ("ack before handling", "claim without reserving", "no worker reclaims", "a late retry is added",
         "settle not fenced"),
    ),
    Lesson(
        "Delay",
        "DELAY-2",
        ("DELAY-1", "DELAY-7"),
        "early promotion",
        Workload("storm", (0, 1, 5)),
        ("early promotion", "a long delay is never due", "looks for due jobs every three seconds",
         "a producer behind the time"),
        written="""# the second dispatch wakes the worker before the first job is due
jobs = [{ name = "delayed", at = 5.2, delay = 0.6 }, { name = "other", at = 5.6 }]
attempts_at = { delayed = [5.8], other = [5.6] }
for_s = 8
""",
    ),
    Lesson(
        "Backoff",
        "RETRY-2",
        ("RETRY-4", "RETRY-6", "RETRY-7"),
        "constant backoff",
        Workload("storm", (0, 1, 5)),
        ("constant backoff", "waits in the worker", "a hand-back counts", "backoff in milliseconds",
         "retry off by one"),
    ),
    Lesson(
        "Failure",
        "FAILURES-7",
        ("FAILURES-1", "TABLE-4"),
        "removed before it is recorded",
        Workload("outage", (0, 1, 2), begin=12, end=48),
        ("removed before it is recorded", "a database that is down is a failure like any other", "the job is not kept"),
    ),
    Lesson(
        "Crash",
        "DELIVERY-10",
        ("DELIVERY-8", "DELIVERY-14", "DELIVERY-16"),
        "every lost job is counted",
        Workload("poison", (2, 1, 3), begin=18, end=58),
        ("every lost job is counted", "a lost attempt is never counted", "the dead keep what they announced"),
    ),
    Lesson(
        "Who is to blame?",
        "DELIVERY-16",
        ("DELIVERY-14", "DELIVERY-15", "DELIVERY-17"),
        "each that was announced is charged",
        Workload("poison", (2, 0, 3), begin=18, end=58),
        ("each that was announced is charged", "a lost attempt is never counted", "every lost job is counted"),
    ),
)  # fmt: skip


def lesson_named(name: str) -> Lesson | None:
    """The lesson with that number or (nearly) that title."""
    if name.isdigit():
        return LESSONS[int(name) - 1] if 0 < int(name) <= len(LESSONS) else None
    titles = {key: lesson for lesson in LESSONS for key in (lesson.title.lower(), lesson.slug)}
    near = difflib.get_close_matches(name.lower(), titles, n=1, cutoff=0.6)
    return titles[near[0]] if near else None


def text_of_lesson(lesson: Lesson) -> str:
    """Its section of ``lessons.md``, without the heading."""
    _, _, rest = text_of("lessons").partition(f"## {LESSONS.index(lesson) + 1}. {lesson.title}\n")
    return re.split(r"^## |^What next:", rest, maxsplit=1, flags=re.MULTILINE)[0].strip()
