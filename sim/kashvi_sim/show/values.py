"""A run as values for ``lanes.js``: what is drawn, what happened step by step, and where each job was."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from kashvi import events
from kashvi.events import Event, JobEvent

from ..world.kernel import EPOCH
from ..world.trace import FaultStruck, ProcessKilled, SimEvent
from .lanes import Picture, picture_of
from .timeline import Timeline, told

HOWS = ("succeeded", "failed", "cut off", "running", "snoozed")
"""The ways in which an attempt ends, as ``Span.how``; ``lanes.js`` gets the place in this list."""
DIGITS = 4
"""Times are rounded to this many digits after the second."""
FEW = 60
"""If a run has no more steps, each is worth a look."""

Values = dict[str, Any]


def values_of(
    times: Sequence[float],
    trace: Sequence[Event],
    names: Mapping[str, str],
    *,
    begin: float = 0.0,
    end: float = math.inf,
    jobs: Mapping[str, str] | None = None,
) -> Values:
    """The values of a run, or of the seconds from ``begin`` to ``end`` of it.

    ``times``: Unix seconds of the world's clock. ``names``: of processes, by id. ``jobs``: names of jobs, by id.
    """
    picture = picture_of(times, trace, names)
    end = min(end, picture.ends)
    lanes = _lanes(picture, begin, end)
    place = {lane: n for n, lane in enumerate(lanes)}
    numbers = {job_id: number for number, job_id in picture.ids.items()}
    texts: dict[str, int] = {}
    before, steps = _steps(times, trace, names, numbers, texts, begin, end)
    return {
        "from": begin,
        "to": _short(end),
        "lanes": lanes,
        "jobs": {str(numbers[job_id]): name for job_id, name in (jobs or {}).items() if job_id in numbers},
        "shifts": [
            [place[f"{one.process} · {n}"], _short(max(one.began, begin)), _short(min(one.ended, end))]
            for one in picture.shifts
            if one.began <= end and one.ended >= begin
            for n in range(1, one.threads + 1)
        ],
        "spans": [
            [place[one.lane], one.job, one.attempt, HOWS.index(one.how), _short(one.began), _short(one.ended)]
            + ([1] if one.suspect else [])
            for one in sorted(picture.spans, key=lambda span: (span.began, span.lane))
            if one.began <= end and one.ended >= begin
        ],
        "marks": [
            [_short(one.at), place.get(one.lane, -1), one.kind, one.job, one.text, one.clause]
            for one in picture.marks
            if begin <= one.at <= end
        ],
        "waits": list(_waits(times, trace, numbers, begin, end)),
        "before": before,
        "steps": steps,
        "texts": list(texts),
    }


def _short(seconds: float) -> float:
    return round(seconds, DIGITS)


def _lanes(picture: Picture, begin: float, end: float) -> list[str]:
    """The threads that were there in these seconds, top to bottom."""
    there = {one.process: one for one in picture.shifts if one.began <= end and one.ended >= begin}
    return [f"{name} · {n}" for name, one in there.items() for n in range(1, one.threads + 1)]


def _waits(
    times: Sequence[float], trace: Sequence[Event], numbers: Mapping[str, int], begin: float, end: float
) -> Iterator[list[float]]:
    """Each wait until a due time: the job, from, to, and the row in which it is drawn."""
    rows: list[float] = []
    for at, event in zip(times, trace, strict=True):
        due = getattr(event, "due", None)
        if not isinstance(event, JobEvent) or due is None or event.job_id not in numbers:
            continue
        since, until = at - EPOCH, due - EPOCH
        if until < begin or since > end:
            continue
        row = next((n for n, free in enumerate(rows) if free <= since), len(rows))
        rows[row : row + 1] = [until]
        yield [numbers[event.job_id], _short(max(since, begin)), _short(min(until, end)), row]


def _steps(
    times: Sequence[float],
    trace: Sequence[Event],
    names: Mapping[str, str],
    numbers: Mapping[str, int],
    texts: dict[str, int],
    begin: float,
    end: float,
) -> tuple[list[Any], list[list[Any]]]:
    """Where the jobs are at the begin, and each step: time, process, job, text, where the job is then, and 1 if
    it is worth a look.
    """
    timeline = Timeline(names)
    befallen = {event.job_id for event in trace if isinstance(event, JobEvent) and not _calm(event)}
    places: dict[int, tuple[str, str]] = {}
    steps: list[list[Any]] = []
    for at, event in zip(times, trace, strict=True):
        process = event.victim if isinstance(event, FaultStruck | ProcessKilled) else timeline.short(event.process)
        job = numbers[event.job_id] if isinstance(event, JobEvent) else 0
        place = _place(event)
        if at - EPOCH < begin:
            if place == "dead":
                places = {n: ("dead", by) if by == process and was == "held" else (was, by)
                          for n, (was, by) in places.items()}  # fmt: skip
            elif place and job:
                places[job] = place, process
        elif at - EPOCH <= end:
            text = texts.setdefault(told(cast("SimEvent", event)), len(texts))
            notable = not isinstance(event, JobEvent) or event.job_id in befallen
            steps.append([_short(at - EPOCH), process, job, text, place, int(notable)])
    if len(steps) <= FEW:
        steps = [[*step[:-1], 1] for step in steps]
    over = sum(place in ("done", "row") for place, _ in places.values())
    return [over, *([n, *where] for n, where in sorted(places.items()) if where[0] not in ("done", "row"))], steps


def _calm(event: JobEvent) -> bool:
    """True for the events of a job that succeeds at once."""
    if isinstance(event, events.AttemptStarted):
        return event.attempt == 1 and not event.suspect
    return isinstance(event, events.JobDispatched | events.AttemptSucceeded | events.JobSucceeded)


def _place(event: SimEvent | Event) -> str:
    """Where the event's job is from now on: ready, due, held, done, failed, row, gone; dead: all of a process."""
    match event:
        case events.JobDispatched(due=None) | events.JobReturned():
            return "ready"
        case (
            events.JobDispatched()
            | events.RetryScheduled()
            | events.JobSnoozed()
            | events.JobPostponed()
        ):  # fmt: skip
            return "due"
        case events.AttemptStarted():
            return "held"
        case events.JobSucceeded():
            return "done"
        case events.JobFailed():
            return "failed"
        case events.FailureRecorded():
            return "row"
        case events.JobCancelled():
            return "gone"
        case ProcessKilled():
            return "dead"
    return ""
