"""Judges of attempts, and of jobs that wait for their next one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from .judging import EARLY_S, FAILING, LATE_S, LIMIT, NO_LIMIT, Finding, NotSeen, judges, limit_of, pushed
from .pushing import NUMBER, UNKNOWN_FIELD
from .story import Story, document

ROUNDING_S = 0.1
"""The most rounding of a time with a fraction; a time in whole seconds may be rounded up."""
SOON_S = 2.5
"""A failure counts as recorded at once within this; the original waits 3 s."""


@judges("JOBS-2")
def settled_as_it_ended(story: Story) -> Iterator[Finding]:
    limit = limit_of(story)
    for one in pushed(story, "flaky"):
        if not story.told(one.name, "end") and (limit is None or limit >= LIMIT):
            yield Finding("a job that fails twice and then succeeds did not succeed", (one.name,))
    for one in pushed(story, *FAILING):
        if len(story.told(one.name)) == 1:
            yield Finding(f"{one.name!r} failed and was not tried again", (one.name,))
            return


@judges("QUEUES-9")
def cancelled_ends(story: Story) -> Iterator[Finding]:
    found = [one for one in pushed(story, "cancelled") if cancelled_in_time(story, one.name)]
    if not found:
        raise NotSeen("the job had ended before the kit could cancel it")
    for one in found:
        again = [entry.at for entry in story.told(one.name)[1:]]
        if again or story.recorded(one.name):
            what = "tried again" if again else "recorded as failed"
            yield Finding(f"{one.name!r} was cancelled during its first attempt, and was {what}", (one.name,))


def cancelled_in_time(story: Story, name: str) -> bool:
    """True if the job was marked in the first half of its first attempt."""
    starts, at = story.told(name), story.cancelled.get(name)
    if not starts or at is None:
        return False
    takes_s = float(document(story.pushed[name].raw)["payload"]["seconds"])
    return starts[0].at <= at <= starts[0].at + takes_s / 2


@judges("JOBS-7")
def fresh_instances(story: Story) -> Iterator[Finding]:
    again = [one for one in pushed(story, *FAILING) if len(story.told(one.name)) > 1]
    if not again:
        raise NotSeen("no failed job was tried again")
    for one in again:
        seen = [entry.fields.get("seen", "") for entry in story.told(one.name)]
        if set(seen) != {"0"}:
            yield Finding(
                f"{one.name!r} was sent with seen = 0 and adds 1 to it when it runs; its attempts were given "
                f"{', '.join(seen)}: what an attempt changed was still there in the next",
                (one.name,),
            )
            return


@judges("ENVELOPE-4")
def without_an_id(story: Story) -> Iterator[Finding]:
    [one] = pushed(story, "no id")
    limit, starts = limit_of(story), len(story.told(one.name))
    without = [wait for wait in story.waiting if wait.job == one.name and not document(wait.raw).get("id")]
    if without:
        yield Finding("a job that came without an id waits for its next attempt without one", (one.name,))
    if limit is None:
        raise NotSeen(NO_LIMIT)
    if starts < limit * one.copies:
        yield Finding(
            f"two equal jobs without an id should have had {limit * one.copies} attempts, as others that fail, and had "
            f"{starts}",
            (one.name,),
        )


@judges("ENVELOPE-5")
def bytes_are_kept(story: Story) -> Iterator[Finding]:
    for one in pushed(story, "odd bytes"):
        seen = [wait.raw for wait in story.waiting if wait.job == one.name]
        if not seen:
            raise NotSeen("no retry was seen in kashvi:queue:delayed (see REDIS-2)")
        payload = one.raw[one.raw.index(b'"payload":') + len(b'"payload":') : -1]
        if any(payload not in raw for raw in seen):
            yield Finding(
                f"the payload's bytes are not those that were pushed; 1.0, {NUMBER} and blanks have to stay",
                (one.name,),
            )
        if any(
            UNKNOWN_FIELD.encode() not in raw.replace(b" ", b"").replace(b"workerkit1", b"worker kit 1") for raw in seen
        ):
            yield Finding(f"the field {UNKNOWN_FIELD} of the envelope is gone", (one.name,))


@judges("ENVELOPE-6")
def misfits_do_not_run(story: Story) -> Iterator[Finding]:
    for one in pushed(story, "undeliverable"):
        if story.told(one.name):
            yield Finding(f"{one.name!r} ran, though its payload does not fit its type", (one.name,))


@judges("RETRY-1")
def three_attempts(story: Story) -> Iterator[Finding]:
    for one in pushed(story, *FAILING):
        if (starts := len(story.told(one.name))) != LIMIT:
            yield Finding(f"{one.name!r} always fails, and had {starts} attempts, not {LIMIT}", (one.name,))


@judges("RETRY-2")
def backoff(story: Story) -> Iterator[Finding]:
    gaps = 0
    for one in pushed(story, *FAILING, "flaky"):
        starts = [entry.at for entry in story.told(one.name)[:LIMIT]]
        for n, (failed, again) in enumerate(pairwise(starts), 1):
            gaps += 1
            if again - failed < n - EARLY_S:
                yield Finding(
                    f"{one.name!r} was tried again {again - failed:.3f} s after attempt {n}, not {n} s", (one.name,)
                )
            elif too_long := _too_long(story, one.name, n, failed, again):
                yield Finding(f"{one.name!r} {too_long} after attempt {n}, not {n} s", (one.name,))
    if not gaps:
        raise NotSeen("no failed job was tried again")


def _too_long(story: Story, job: str, n: int, failed: float, again: float) -> str:
    """The reason if the wait is too long, else empty. By the score if there is one, else by the start, often late."""
    for wait in story.waiting:
        if wait.job == job and failed <= wait.at <= again + EARLY_S:
            rounding = 1.0 if wait.due.is_integer() else ROUNDING_S
            if n + rounding < wait.due - wait.at < n + LATE_S:
                return f"had a score in kashvi:queue:delayed that was {wait.due - wait.at:.3f} s ahead"
            break
    return f"was tried again {again - failed:.3f} s" if again - failed > n + LATE_S else ""


@judges("RETRY-3")
def no_wait_after_the_last(story: Story) -> Iterator[Finding]:
    known = 0
    for one in pushed(story, *FAILING):
        starts, records = story.told(one.name), [record for record in story.records if record.job == one.name]
        if not starts or not records:
            continue
        known += 1
        # A recorder may be late; then the row has the time of failure, unless it is in whole seconds.
        told = [record.failed_at for record in records if record.failed_at and record.failed_at % 1]
        soonest = min([record.at for record in records] + told)
        if soonest - starts[-1].at > SOON_S:
            yield Finding(
                f"{one.name!r} had its last attempt, and was recorded as failed only "
                f"{soonest - starts[-1].at:.1f} s later",
                (one.name,),
            )
            return
    if not known:
        raise NotSeen("no job was recorded after its last attempt (see FAILURES-1)")


@judges("RETRY-4")
def waiting_holds_no_worker(story: Story) -> Iterator[Finding]:
    [behind] = pushed(story, "behind")
    starts = story.told(behind.name)
    # Between the second attempts and the third: a worker that waits has no thread free before the third.
    between = [(at[1].at + at[2].at) / 2 for one in story.of("failing") if len(at := story.told(one.name)) >= LIMIT]
    if not starts or (between and starts[0].at > min(between)):
        failing = [one.name for one in story.of("failing")]
        waited = f"started {starts[0].at - behind.at:.1f} s later" if starts else "did not start"
        yield Finding(
            f"a job behind failing ones {waited}: the worker waited for their next attempts and did nothing else",
            (behind.name, *failing[:1]),
        )


@judges("RETRY-6")
def attempts_are_counted(story: Story) -> Iterator[Finding]:
    jobs = pushed(story, *FAILING, "flaky")
    seen = [wait for one in jobs for wait in story.waiting if wait.job == one.name]
    if not seen:
        raise NotSeen("no retry was seen in kashvi:queue:delayed (see REDIS-2)")
    for wait in seen:
        made = sum(entry.at <= wait.at for entry in story.told(wait.job))
        if (said := document(wait.raw).get("attempts", 0)) != made:
            yield Finding(f"after attempt {made}, the envelope of {wait.job!r} says attempts = {said}", (wait.job,))
            return


@judges("RETRY-7")
def done_is_done(story: Story) -> Iterator[Finding]:
    for one in pushed(story, *FAILING, "flaky"):
        ends = [entry.at for entry in story.told(one.name, "end")] + [record.at for record in story.recorded(one.name)]
        if ends and any(entry.at > min(ends) for entry in story.told(one.name)):
            yield Finding(f"{one.name!r} had ended, and was started again", (one.name,))
