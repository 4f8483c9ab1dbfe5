"""Judges of the records of failed and undeliverable jobs."""

from __future__ import annotations

from collections.abc import Iterator

from .judging import FAILING, LATE_S, LIMIT, Finding, NotSeen, judges, named, pushed
from .story import UNRECORDED, Pushed, Record, Story, document


@judges("FAILURES-1")
def recorded_iff_exhausted(story: Story) -> Iterator[Finding]:
    for one in pushed(story, *FAILING):
        if len(story.told(one.name)) >= LIMIT and not story.recorded(one.name):
            yield Finding(
                f"{one.name!r} had its last attempt; it is neither in the table nor in kashvi:queue:unrecorded",
                (one.name,),
            )
    for one in story.pushed.values():
        if one.fate == "done" and story.told(one.name, "end") and story.recorded(one.name):
            yield Finding(f"{one.name!r} succeeded, and is recorded as failed", (one.name,))
    if unwritten := _unwritten(story):
        yield Finding(
            f"{named(unwritten)} {'has' if len(unwritten) == 1 else 'have'} no row: {LATE_S:g} s later still in "
            "kashvi:queue:unrecorded, though a worker was there that had a database",
            tuple(unwritten[:2]),
        )


def _unwritten(story: Story) -> list[str]:
    """Jobs without a row although one worker lived long enough to write it."""
    first = {one.job: one.at for one in reversed(story.records) if one.where == "unrecorded"}
    rows = {one.job for one in story.records if one.where == "table"}
    lives = [_life(story, worker) for worker in sorted({entry.worker for entry in story.entries})]
    return [
        job
        for job, at in sorted(first.items(), key=lambda one: one[1])
        if job not in rows and any(born <= at and at + LATE_S <= until for born, until in lives)
    ]


def _life(story: Story, worker: str) -> tuple[float, float]:
    """The time from a worker's first job to the first signal to it."""
    done = [one.at for one in story.happened if one.worker == worker and one.what != "started"]
    last = max([one.at for one in story.entries] + [one.at for one in story.happened])
    return min(one.at for one in story.entries if one.worker == worker), min([*done, last])


@judges("FAILURES-4")
def last_error(story: Story) -> Iterator[Finding]:
    for one, record in _recorded(story):
        last = story.told(one.name)[-1].id
        if last not in record.error:
            yield Finding(f"the last error of {one.name!r} names {last}; recorded is {record.error!r}", (one.name,))
            return


@judges("FAILURES-5")
def number_of_attempts(story: Story) -> Iterator[Finding]:
    for one, record in _recorded(story):
        if (made := len(story.told(one.name))) != record.attempts:
            yield Finding(f"{one.name!r} had {made} attempts, and {record.attempts} are recorded", (one.name,))
            return


@judges("FAILURES-9")
def nothing_is_dropped(story: Story) -> Iterator[Finding]:
    if kind := story.wrong_types.get(UNRECORDED):
        yield Finding(f"{UNRECORDED} is a {kind}, not a sorted set: no worker can take from it what is to be recorded")
    dropped = [one.name for one in pushed(story, "undeliverable") if not story.recorded(one.name)]
    if dropped:
        yield Finding(
            f"{named(dropped, 5)} can't be attempted; dropped: neither in the table nor in the sorted set {UNRECORDED}",
            tuple(dropped),
        )
    for one in story.of("undeliverable"):
        records = story.recorded(one.name)
        if not records:
            continue
        if records[0].attempts != 0:
            yield Finding(
                f"{one.name!r} can't be attempted, and {records[0].attempts} attempts are recorded", (one.name,)
            )
        elif records[0].at - min(entry.at for entry in story.entries) > LATE_S:
            yield Finding(f"{one.name!r} was not recorded at once", (one.name,))


@judges("TABLE-1")
def columns(story: Story) -> Iterator[Finding]:
    documented = {"id", "job_type", "payload", "error", "attempts", "failed_at", "job_id"}
    if not story.columns:
        raise NotSeen("there was no table kashvi_failed_jobs in the database")
    if missing := sorted(documented - set(story.columns)):
        yield Finding(f"the table has no column {named(missing)}; it has {', '.join(story.columns)}")
    for record in story.records:
        if record.where == "table" and "id" in story.columns and not record.key.isdecimal():
            yield Finding(f"the id of a row is no integer: {record.key}", (record.job,))
            return


@judges("TABLE-2")
def what_a_row_says(story: Story) -> Iterator[Finding]:
    for one, record in _recorded(story, "table"):
        sent = document(one.raw)
        for what, wrong in (
            (f"job_type is {record.type!r}, not {one.type!r}", record.type != one.type),
            (f"the payload is {record.payload}, not what was sent", document(record.payload) != sent["payload"]),
            ("there is no time in failed_at", record.failed_at is None),
        ):
            if wrong:
                yield Finding(f"in the row of {one.name!r}, {what}", (one.name,))
                return
    for column, job in story.no_text.items():
        if column != "payload":
            yield Finding(f"in the row of {job!r}, {column} has bytes that are no UTF-8", (job,))


@judges("TABLE-4")
def one_row_a_job(story: Story) -> Iterator[Finding]:
    rows = {
        one.name: [r for r in story.records if r.job == one.name and r.where == "table"]
        for one in story.pushed.values()
    }
    if not any(rows.values()):
        raise NotSeen("no row was written")
    for name, found in rows.items():
        if len(found) > story.pushed[name].copies:
            yield Finding(f"{name!r} has {len(found)} rows", (name,))


@judges("TABLE-5")
def payload_as_text(story: Story) -> Iterator[Finding]:
    rows = {record.job: record for record in story.records if record.where == "table"}
    odd, plain = rows.get("garbage with NUL"), rows.get("garbage")
    if job := story.no_text.get("payload"):
        yield Finding("bytes that are no UTF-8 are stored as they are, not as base64:…", (job,))
        return
    if odd is None and plain is None:
        raise NotSeen("bytes that are no envelope have no row (see FAILURES-9)")
    if odd and not odd.payload.startswith("base64:"):
        yield Finding(f"bytes that are no text are stored as {odd.payload!r}, not as base64:…", (odd.job,))
    if plain and plain.payload.encode() != story.pushed["garbage"].raw:
        yield Finding(f"a payload that is plain text is stored as {plain.payload!r}", (plain.job,))


def _recorded(story: Story, where: str = "") -> list[tuple[Pushed, Record]]:
    """Failing jobs with the record of each. Raises NotSeen if there is none."""
    found = [
        (one, record)
        for one in pushed(story, *FAILING)
        for record in story.recorded(one.name)[:1]
        if where in ("", record.where)
    ]
    if not found:
        raise NotSeen("no failure of these jobs was recorded (see FAILURES-1)" if not where else "no row was written")
    return found
