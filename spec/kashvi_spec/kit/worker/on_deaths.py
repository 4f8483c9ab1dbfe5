"""Judges of jobs whose process is killed, paused or told to stop."""

from __future__ import annotations

from collections.abc import Iterator

from .judging import LATE_S, NO_LIMIT, TAKEOVER_S, Finding, NotSeen, judges, limit_of, named, pushed
from .story import UNRECORDED, Pushed, Story, document

FIRST_WAIT_S = 1.0
"""The wait after a first attempt."""
REPEATED = (
    "killed",
    "paused",
    "paused last",
    "dies again",
    "cancelled",
    "across",
    "greeting",
    "race",
    "told twice",
    "no id",
    "odd bytes",
    "flaky",
    "failing",
)
"""Situations with a reason for a second start, or in which another clause judges it."""


@judges("DISPATCH-1")
def none_lost(story: Story) -> Iterator[Finding]:
    there = b"\n".join(raw for _, raw in story.left)
    lost = [one for one in _unsettled(story) if _quoted(one) not in there]
    if lost:
        yield Finding(
            f"{_counted(lost)} did not come to an end, and {'is' if len(lost) == 1 else 'are'} nowhere on the queue",
            _one_of_each(lost),
        )


@judges("DELIVERY-1")
def drains(story: Story) -> Iterator[Finding]:
    if unsettled := _unsettled(story):
        yield Finding(
            f"with a worker that is well, {_counted(unsettled)} did not come to an end", _one_of_each(unsettled)
        )
    for key in sorted({key for key, _ in story.left if key != UNRECORDED}):
        yield Finding(f"in {key}, {sum(k == key for k, _ in story.left)} jobs are left over when all should be done")


@judges("DELIVERY-2")
def killed_is_run_again(story: Story) -> Iterator[Finding]:
    back = _back_at(story)
    running = _running_when_killed(story)
    if lost := [one.name for one in running if not _after_the_kill(story, one)]:
        yield Finding(
            f"{named(lost)} ran when the process was killed; within {story.lease_s + TAKEOVER_S:g} s, no other ran "
            f"{'it' if len(lost) == 1 else 'them'}",
            tuple(lost[:2]),
        )
    for one in running:
        again = _after_the_kill(story, one)
        if again and again[0] > back + story.lease_s + TAKEOVER_S:
            yield Finding(
                f"{one.name!r} was run again {again[0] - back:.1f} s after another worker was there", (one.name,)
            )
    if across := [one.name for one in story.of("across") if not story.ended(one)]:
        yield Finding(f"{named(across)} ran when a worker was killed beside one of the other kind", tuple(across[:2]))


@judges("DELIVERY-3")
def lease_is_kept(story: Story) -> Iterator[Finding]:
    held = [one for one in _running_when_killed(story) + held_up(story) if story.elsewhere(one.name)]
    if not held:
        raise NotSeen("no worker took over a job of a worker that was killed or held up (see DELIVERY-2)")
    for one in held:
        second = story.told(one.name)[1]
        # Its lease may have been renewed some time before, but less than half a lease.
        if second.at < one.at + story.lease_s / 2:
            yield Finding(
                f"{one.name!r} was pushed, and had been taken from its worker {second.at - one.at:.3f} s later, with a "
                f"lease of {story.lease_s:g} s",
                (one.name,),
            )


@judges("DELIVERY-4")
def longer_than_the_lease(story: Story) -> Iterator[Finding]:
    for one in pushed(story, "long"):
        starts = len(story.told(one.name))
        if starts != 1 or not story.told(one.name, "end"):
            yield Finding(
                f"a job that takes {story.lease_s + 1.5:g} s, with a lease of {story.lease_s:g} s, was started "
                f"{starts} times and {'ended' if story.told(one.name, 'end') else 'did not end'}",
                (one.name,),
            )


@judges("DELIVERY-5")
def settled_once(story: Story) -> Iterator[Finding]:
    pushed(story, "paused")
    if not (held := held_up(story)):
        raise NotSeen("the job ended before its worker could be held up")
    if not (held := [one for one in held if story.elsewhere(one.name)]):
        raise NotSeen("no other worker took over the job of one that was held up for longer than its lease")
    if (limit := limit_of(story)) is None:
        raise NotSeen(NO_LIMIT)
    for one in held:
        starts, records = story.told(one.name), story.recorded(one.name)
        # One attempt that did not count, in the worker that was held up; then as many as are left.
        too_many = len(starts) > 1 + max(limit - document(one.raw).get("attempts", 0), 1)
        if too_many or len(records) > 1 or any(starts[0].id in record.error for record in records):
            yield Finding(
                f"{one.name!r}, taken over while its worker was held up, had {len(starts)} attempts and {len(records)} "
                "records: what the first worker said of it afterwards still counted",
                (one.name,),
            )


@judges("DELIVERY-7")
def started_once(story: Story) -> Iterator[Finding]:
    if any(not end.asked for end in story.did("ended")):
        raise NotSeen("a worker ended by itself, so its jobs had to be started again (see WORKERS-2)")
    for one in story.pushed.values():
        if one.situation not in REPEATED and len(story.told(one.name)) > one.copies:
            yield Finding(
                f"{one.name!r} was started {len(story.told(one.name))} times, with no death and no silence in between",
                (one.name,),
            )
            return


@judges("DELIVERY-8")
def first_death_is_free(story: Story) -> Iterator[Finding]:
    jobs = [one for one in _running_when_killed(story) if one.fate == "failed" and _after_the_kill(story, one)]
    if not jobs:
        raise NotSeen("no job that fails was run again after its process was killed (see DELIVERY-2)")
    if (limit := limit_of(story)) is None:
        raise NotSeen(NO_LIMIT)
    for one in jobs:
        starts = len(_after_the_kill(story, one))
        if not limit <= starts <= limit + _held_up_in(story, one):
            yield Finding(
                f"{one.name!r} was running when its process was killed, and had {starts} attempts after that, "
                f"not {limit} as others that fail",
                (one.name,),
            )


@judges("DELIVERY-10")
def death_is_counted(story: Story) -> Iterator[Finding]:
    """A job was alone in two killed processes: the first death is free, the second is not."""
    one = pushed(story, "dies again")[-1]
    if (limit := limit_of(story)) is None:
        raise NotSeen(NO_LIMIT)
    starts = story.told(one.name)
    if not died_twice(story, one.name):
        raise NotSeen("the job was not run again after its process was killed (see DELIVERY-2)")
    if len(starts) > limit + 1:
        yield Finding(
            f"{one.name!r} was alone in two processes that were killed, and had {len(starts)} attempts in all, not "
            f"{limit + 1}: the second death was not counted, so a job that kills its process is never given up",
            (one.name,),
        )
    elif len(starts) < limit + 1:
        yield Finding(
            f"{one.name!r} was alone in two processes that were killed, and had {len(starts)} attempts in all, not "
            f"{limit + 1}: only one of the two deaths counts",
            (one.name,),
        )


@judges("DELIVERY-14")
def suspects_alone(story: Story) -> Iterator[Finding]:
    again = [
        (entries[1], ends[-1])
        for one in _running_when_killed(story)
        if len(entries := story.told(one.name)) > 1 and (ends := story.told(one.name, "end"))
    ]
    pairs = [(a, b) for a in again for b in again if a is not b and a[0].worker == b[0].worker]
    if not pairs:
        raise NotSeen("no worker ran two jobs of one that was killed")
    for (start, end), (other, _) in pairs:
        if start.at < other.at < min(end.at, start.at + 10 * story.lease_s):
            yield Finding(
                f"{other.job!r} was started beside {start.job!r}: both had been running when their process died",
                (start.job, other.job),
            )
            return


def _unsettled(story: Story) -> list[Pushed]:
    """Unsettled jobs that can be run. FAILURES-9 judges undeliverable ones, JOBS-6 names with a star."""
    known = [one for one in story.pushed.values() if one.fate in ("done", "failed") and not one.type.startswith("*")]
    return [one for one in known if not story.ended(one)]


def _counted(jobs: list[Pushed]) -> str:
    """``3 jobs (wrong type 0, stopped 1 and 2 more)``, with the name of one of each situation."""
    return f"{len(jobs)} job{'' if len(jobs) == 1 else 's'} ({named(_one_of_each(jobs), 6)})"


def _one_of_each(jobs: list[Pushed]) -> tuple[str, ...]:
    """The first job of each situation."""
    return tuple({one.situation: one.name for one in reversed(jobs)}.values())


def _quoted(one: Pushed) -> bytes:
    return b'"%s"' % one.name.encode()


def _killed_at(story: Story) -> float:
    jobs = pushed(story, "killed")
    kills = [one.at for one in story.did("SIGKILL") if one.at >= jobs[0].at]
    if not kills:
        raise NotSeen("no worker was killed")
    in_time = (at for at in kills for one in jobs if _runs_at(story, one, at))
    return next(in_time, kills[0])


def _running_when_killed(story: Story) -> list[Pushed]:
    """The jobs that ran when their process was killed. Raises NotSeen if there is none."""
    at = _killed_at(story)
    found = [one for one in story.of("killed") if _runs_at(story, one, at)]
    if not found:
        raise NotSeen("no job was running when its process was killed")
    return found


def any_ran_when_killed(story: Story) -> bool:
    """True if a job was running when its process was killed."""
    at = _killed_at(story)
    return any(_runs_at(story, one, at) for one in story.of("killed"))


def held_up(story: Story) -> list[Pushed]:
    """The jobs that ran when their worker was paused; empty if they had ended."""
    jobs = story.of("paused", "paused last")
    return [one for one in jobs for stop in story.did("SIGSTOP") if _runs_at(story, one, stop.at)]


def stopped_too_late(story: Story, name: str) -> bool:
    """True if the job's worker was stopped after it, or went on when the other's attempt was nearly over.

    In the second case, the retries of both could be in the set together.
    """
    if all(one.name != name for one in held_up(story)):
        return True
    first, *others = story.told(name)[:2]
    went_on = max((one.at for one in story.did("SIGCONT", first.worker)), default=0.0)
    margin_s = (_takes_s(story.pushed[name]) - FIRST_WAIT_S) / 2
    return any(went_on > other.at + margin_s for other in others)


def died_twice(story: Story, name: str) -> bool:
    """True if the process was killed during both of the first two attempts, and during no other."""
    takes_s, kills = _takes_s(story.pushed[name]), story.did("SIGKILL")
    starts = story.told(name)
    died = [any(k.worker == start.worker and 0 <= k.at - start.at <= takes_s for k in kills) for start in starts]
    return died[:2] == [True, True] and sum(died) == 2


def _back_at(story: Story) -> float:
    """The end of the first job of a process started after the kill; the kill if there is none."""
    at, killed = _killed_at(story), _killed(story)
    return min((one.at for one in story.entries if one.at > at and one.worker not in killed), default=at)


def _killed(story: Story) -> set[str]:
    at = _killed_at(story)
    return {kill.worker for kill in story.did("SIGKILL") if kill.at <= at + LATE_S}


def _held_up_in(story: Story, one: Pushed) -> int:
    """The number of attempts during which a worker was paused: another may have repeated them, uncounted."""
    stops = story.did("SIGSTOP")
    return sum(
        any(entry.worker == stop.worker and entry.at <= stop.at <= entry.at + _takes_s(one) for stop in stops)
        for entry in story.told(one.name)
    )


def _takes_s(one: Pushed) -> float:
    return float(document(one.raw)["payload"]["seconds"])


def _runs_at(story: Story, one: Pushed, at: float) -> bool:
    """True if its first attempt ran at that time, with a margin: a signal may arrive a little after its note."""
    starts = story.told(one.name)
    if not starts or not starts[0].at <= at <= starts[0].at + _takes_s(one) / 2:
        return False
    return not any(entry.worker == starts[0].worker for entry in story.told(one.name, "end"))


def _after_the_kill(story: Story, one: Pushed) -> list[float]:
    at, killed = _killed_at(story), _killed(story)
    return [entry.at for entry in story.told(one.name) if entry.at > at and entry.worker not in killed]
