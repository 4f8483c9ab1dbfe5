"""Judges of a worker process's threads and signals."""

from __future__ import annotations

from collections.abc import Iterator

from .judging import LATE_S, Finding, NotSeen, Remark, judges, named, pushed
from .story import Story, document


@judges("WORKERS-1")
def threads_bounded(story: Story) -> Iterator[Finding]:
    jobs = pushed(story, "at once")
    spans = [
        (starts[0].at, ends[0].at)
        for one in jobs
        if (starts := story.told(one.name)) and (ends := story.told(one.name, "end"))
    ]
    if not spans:
        raise NotSeen("the jobs that should show it did not run to their end")
    most = max(sum(start <= at < end for start, end in spans) for at, _ in spans)
    if most != story.threads:
        yield Finding(
            f"of {len(jobs)} jobs that take a second, {most} ran at the same time; with --threads {story.threads} "
            f"it has to be {story.threads}",
            tuple(one.name for one in jobs[:4]),
        )


@judges("WORKERS-2")
def goes_on(story: Story) -> Iterator[Finding]:
    for end in story.did("ended"):
        if not end.asked:
            yield Finding(
                f"{end.worker} ended by itself at {story.since(end.at)}, with exit code {end.code}: a worker lives "
                "through whatever jobs do (and what else is broken may come of that)"
            )


@judges("WORKERS-3")
def stops_in_order(story: Story) -> Iterator[Finding | Remark]:
    jobs = pushed(story, "stopped")
    told = _told_to_stop(story)
    yield from _running_ones_end(story)
    if story.handed_back is None:
        yield Finding("the worker did not end when it was told to", ("running 0",))
        return
    worker, at = told
    waiting = [one for one in jobs if one.name.startswith("not started")]
    if late := [one.name for one in waiting for e in story.told(one.name)[:1] if e.worker == worker and e.at > at]:
        yield Finding(f"after it was told to stop, it started {named(late)}", tuple(late[:2]))
    back = [document(raw).get("id") for raw in story.handed_back]
    should = [document(one.raw)["id"] for one in waiting if not any(e.worker == worker for e in story.told(one.name))]
    if [one for one in back if one in should] != should:
        yield Finding(
            "what had not started is not back in kashvi:queue:jobs, in the order in which it was pushed",
            tuple(one.name for one in waiting[:3]),
        )
    if any(document(raw).get("attempts") for raw in story.handed_back):
        yield Finding("what had not started was handed back with an attempt counted")
    if not story.held:
        yield Remark("the worker had taken no job that it had not started, so nothing was handed back")


@judges("COMMANDS-13")
def signals(story: Story) -> Iterator[Finding]:
    pushed(story, "stopped")
    yield from _running_ones_end(story)
    if story.handed_back is None:
        yield Finding("the process went on after SIGTERM, and was killed", ("running 0",))
    jobs = story.of("told twice")
    if not jobs or story.missed.get("told twice"):
        return
    if story.handed_back_at_once is None:
        yield Finding(f"the process was there {LATE_S:g} s after the second SIGTERM, and was killed", (jobs[0].name,))
    elif sorted(story.handed_back_at_once) != sorted(one.raw for one in jobs):
        yield Finding(
            "after the second SIGTERM, the jobs that ran are not in kashvi:queue:jobs as they were", (jobs[0].name,)
        )


def _running_ones_end(story: Story) -> Iterator[Finding]:
    worker, at = _told_to_stop(story)
    running = [
        one.name for one in story.of("stopped") if any(e.worker == worker and e.at <= at for e in story.told(one.name))
    ]
    if cut := [job for job in running if not any(e.worker == worker for e in story.told(job, "end"))]:
        yield Finding(
            f"the worker was told to stop, and {named(cut)}, which it was running, did not end", tuple(cut[:2])
        )


def _told_to_stop(story: Story) -> tuple[str, float]:
    """The worker that was told to stop while it ran jobs, and the time. Raises NotSeen."""
    starts = [entry for one in story.of("stopped") for entry in story.told(one.name)[:1]]
    for told in story.did("SIGTERM"):
        if any(entry.worker == told.worker and entry.at <= told.at for entry in starts):
            return told.worker, told.at
    raise NotSeen("no job was running when the worker was told to stop")
