"""Judges of claims: their times and order."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from .judging import EARLY_S, LATE_S, LIMIT, Finding, NotSeen, judges, named, pushed
from .pushing import NUMBER, TEXT
from .story import DELAYED, JOBS, Pushed, Story

ASKED_PER_S = 5
ASKED_MORE = 5
"""Slack for calls at the edges of the window."""


@judges("JOBS-3")
def values_arrive(story: Story) -> Iterator[Finding]:
    for one in pushed(story, "values"):
        starts = story.told(one.name)
        if not starts:
            yield Finding("a job with blanks, escapes and an unknown key in its envelope did not run", (one.name,))
        for entry in starts[:1]:
            for field, sent in (("text", TEXT), ("number", str(NUMBER))):
                if entry.fields.get(field) != sent:
                    yield Finding(f"{field} was {sent!r} and arrived as {entry.fields.get(field)!r}", (one.name,))


@judges("JOBS-6")
def star_is_the_same_name(story: Story) -> Iterator[Finding]:
    for one in pushed(story, "star"):
        if not story.told(one.name):
            yield Finding("the type '*spec.Echo' was not run as 'spec.Echo'", (one.name,))


@judges("DISPATCH-2")
def idle_worker_starts_at_once(story: Story) -> Iterator[Finding]:
    yield from _late(story, pushed(story, "idle"), "was pushed to an idle worker")


@judges("DISPATCH-3")
def first_in_first_out(story: Story) -> Iterator[Finding]:
    yield from _overtaken(story, pushed(story, "in order"), "pushed")


@judges("DELAY-1")
def never_early(story: Story) -> Iterator[Finding]:
    for one in story.pushed.values():
        if one.due is not None and (starts := story.told(one.name)) and starts[0].at < one.due - EARLY_S:
            yield Finding(f"{one.name!r} started {one.due - starts[0].at:.3f} s before it was due", (one.name,))


@judges("DELAY-2")
def due_jobs_start(story: Story) -> Iterator[Finding]:
    yield from _late(story, pushed(story, "delayed"), "was due, and the worker idle")


@judges("DELAY-5")
def due_order(story: Story) -> Iterator[Finding]:
    jobs = pushed(story, "due before")
    yield from _overtaken(story, sorted(jobs, key=lambda one: one.due or 0), "due")


@judges("DELAY-6")
def ties_by_id(story: Story) -> Iterator[Finding]:
    jobs = pushed(story, "due together")
    yield from _overtaken(story, sorted(jobs, key=lambda one: one.raw), "due at one time, and by id")


@judges("DELAY-8")
def promoted_once(story: Story) -> Iterator[Finding]:
    jobs = [one.name for one in pushed(story, "race")]
    if twice := [job for job in jobs if len(story.told(job)) > 1]:
        yield Finding(
            f"{len(twice)} of {len(jobs)} due jobs ran more than once when two workers looked at the same moment: "
            f"{named(twice)}. What is due has to be taken from the set and put on the list in one step",
            tuple(twice[:1]),
        )


@judges("DELAY-9")
def delayed_outlives_workers(story: Story) -> Iterator[Finding]:
    for one in pushed(story, "outlives"):
        if not story.told(one.name):
            yield Finding(
                "a delayed job did not run after every worker had been killed and others started", (one.name,)
            )


@judges("REDIS-1")
def list_from_the_right(story: Story) -> Iterator[Finding]:
    yield from _wrong_type(story, JOBS, "a list")
    yield from _not_run(story, pushed(story, "in order"), "pushed to kashvi:queue:jobs from the left")
    yield from _overtaken(story, pushed(story, "in order"), "pushed")


@judges("REDIS-2")
def delayed_in_the_set(story: Story) -> Iterator[Finding]:
    if DELAYED in story.wrong_types:
        yield from _wrong_type(story, DELAYED, "a sorted set")
        return
    yield from _not_run(story, pushed(story, "delayed", "due before"), "put into kashvi:queue:delayed")
    for one in pushed(story, "failing", "odd bytes", "flaky"):
        starts = [entry.at for entry in story.told(one.name)[:LIMIT]]
        for n, (failed, again) in enumerate(pairwise(starts), 1):
            seen = [wait for wait in story.waiting if wait.job == one.name and failed <= wait.at <= again + EARLY_S]
            if not seen:
                yield Finding(
                    f"between attempts {n} and {n + 1}, {one.name!r} was not in kashvi:queue:delayed", (one.name,)
                )
            elif all(abs(wait.due - failed - n) > LATE_S for wait in seen):
                yield Finding(
                    f"after attempt {n}, {one.name!r} had a score that is no time when it is due", (one.name,)
                )
            else:
                continue
            return


@judges("REDIS-3")
def jobs_outlive_processes(story: Story) -> Iterator[Finding]:
    yield from _not_run(story, pushed(story, "in order"), "on the server before there was any worker")
    yield from _not_run(story, pushed(story, "outlives"), "on the server when all workers were killed")


@judges("REDIS-4")
def no_key_expires(story: Story) -> Iterator[Finding]:
    for key, ms in story.expiring.items():
        if ":counts:" in key:  # of history
            continue
        yield Finding(f"the key {key} had a time to live, {ms} ms: what is in it would be lost")


@judges("REDIS-8")
def lives_through_a_cut(story: Story) -> Iterator[Finding]:
    for one in pushed(story, "cut off"):
        if not story.ended(one):
            yield Finding("all connections of the worker were closed, and it ran no job after that", (one.name,))


@judges("REDIS-9")
def wrong_type_loses_nothing(story: Story) -> Iterator[Finding]:
    yield from _not_run(
        story,
        pushed(story, "wrong type"),
        "due while kashvi:queue:jobs was no list for a moment (so a worker has to make sure that the list takes a job, "
        "before it takes that from the set, and has to recover)",
    )


@judges("REDIS-10")
def idle_asks_little(story: Story) -> Iterator[Finding]:
    if not story.idle_s:
        raise NotSeen(story.missed.get("idle commands", f"the kit did not come so far: {story.cut_short}"))
    if len(story.asked_idle) > ASKED_PER_S * story.idle_s + ASKED_MORE:
        yield Finding(
            f"an idle worker asked the server {len(story.asked_idle)} times in {story.idle_s:g} s, such as: "
            + "; ".join(story.asked_idle[:3])
        )


def _wrong_type(story: Story, key: str, should: str) -> Iterator[Finding]:
    if kind := story.wrong_types.get(key):
        yield Finding(f"{key} has to be {should}, and a worker made it a {kind}")


def _late(story: Story, jobs: list[Pushed], what: str) -> Iterator[Finding]:
    for one in jobs:
        since = one.at if one.due is None else one.due
        starts = story.told(one.name)
        if not starts:
            yield Finding(f"{one.name!r} {what}, and did not start", (one.name,))
        elif starts[0].at - since > LATE_S:
            yield Finding(f"{one.name!r} {what}, and started {starts[0].at - since:.1f} s later", (one.name,))


def _not_run(story: Story, jobs: list[Pushed], what: str) -> Iterator[Finding]:
    if missing := [one.name for one in jobs if not story.told(one.name)]:
        yield Finding(
            f"{named(missing)} {'was' if len(missing) == 1 else 'were'} {what}, and did not run", tuple(missing[:2])
        )


def _overtaken(story: Story, jobs: list[Pushed], how: str) -> Iterator[Finding]:
    """Jobs that too many later ones overtook. With n threads, n - 1 claimed jobs may log their start late."""
    starts = {one.name: story.told(one.name)[0].at for one in jobs if story.told(one.name)}
    order = {entry.id: n for n, entry in enumerate(story.entries)}
    place = {name: order[story.told(name)[0].id] for name in starts}
    names = [one.name for one in jobs if one.name in starts]
    for n, name in enumerate(names):
        before = [other for other in names[:n] if place[other] > place[name]]
        if len(before) >= story.threads:
            yield Finding(
                f"{name!r} started before {len(before)} jobs that were {how} before it: {named(before)}",
                (name, *before[:2]),
            )
            return
