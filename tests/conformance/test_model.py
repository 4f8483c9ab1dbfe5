"""The model of the queue: explored to the end, and found out where its table is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from kashvi_spec.clauses import load
from kashvi_spec.model import explore as exploring
from kashvi_spec.model.explore import Explored, Kind, Scope, explore
from kashvi_spec.model.invariants import CLAUSES
from kashvi_spec.model.states import Job, State, Step, steps
from kashvi_spec.model.table import LIMITS, TABLE, Decisions, Row

DEEP = Scope(workers=2, jobs=1, crashes=2, silences=2, limit=3)
"""One job, and what can happen to it at the worst: three announced attempts die, after a first death."""
TWO_AT_ONCE = Scope(workers=2, jobs=2, crashes=2, limit=3)
"""An announced job dies beside another, after a first death."""


@pytest.mark.parametrize(
    ("scope", "states", "found"),
    [
        (Scope(2, 2, 1), 1002, 2707),
        (Scope(2, 2, 1, silences=1), 21075, 71466),
        (Scope(3, 2, 2, limit=3), 5103, 14139),
        (DEEP, 7726, 25431),
        (Scope(2, 2, 1, queues=2, pauses=1, cancels=1), 38295, 138912),
    ],
)
def test_a_scope_is_explored_to_the_end_and_every_clause_holds(scope: Scope, states: int, found: int) -> None:
    """The numbers are those of spec/model.md: another number is another model."""
    explored = explore(scope)
    assert explored.broken == []
    assert (explored.states, explored.steps) == (states, found)


def test_what_is_judged_are_clauses() -> None:
    """By their ids."""
    assert set(CLAUSES) <= {clause.id for clause in load()}


@pytest.mark.parametrize(
    "scope",
    [
        Scope(2, 2, 1),
        Scope(2, 1, 1, silences=1, limit=3),
        Scope(1, 2, 2),
        Scope(2, 1, 1, queues=2, pauses=1, cancels=1),
    ],
)
def test_what_is_left_out_comes_to_the_same(scope: Scope) -> None:
    """The search that leaves nothing out takes steps of the same kinds; a worker that quits gives back, and is gone."""
    all_of_it, reduced = explore(scope, reduce=False), explore(scope)
    assert all_of_it.broken == reduced.broken == []
    assert all_of_it.kinds.keys() - reduced.kinds.keys() <= {Kind("quit"), Kind("quit", "a suspect")}
    assert reduced.kinds.keys() <= all_of_it.kinds.keys()
    assert reduced.states < all_of_it.states


def mutated() -> Iterator[tuple[str, Row, Row]]:
    """Each row, with one thing in it changed. What has come to its end is no suspect; what was announced is one."""
    for row in TABLE:
        name = f"{row.end} {row.attempt}/{row.limit}"
        for to in ("done", "delayed", "unrecorded", "ready"):
            if to != row.to:
                yield f"{name} to {to}", row, row._replace(to=to)
        yield f"{name} counts", row, row._replace(counts=not row.counts)
        for suspect in {True, False, None} - {row.suspect}:
            was_one = row.end in ("lost", "beside") and suspect is None
            if row.to in ("ready", "delayed") and not was_one and (row.to == "ready" or suspect is not None):
                yield f"{name} suspect {suspect}", row, row._replace(suspect=suspect)
        yield f"{name} waits", row, row._replace(wait_s=row.wait_s + 1)


@pytest.mark.parametrize(("row", "wrong"), [pytest.param(*rows, id=name) for name, *rows in mutated()])
def test_a_wrong_row_of_the_table_is_found(row: Row, wrong: Row) -> None:
    """By a clause, with the shortest way there."""
    table = tuple(wrong if one is row else one for one in TABLE)
    scope = TWO_AT_ONCE if row.end == "beside" else DEEP
    explored = explore(scope._replace(limit=row.limit or LIMITS[-1]), table)
    assert explored.broken
    assert explored.path


@pytest.mark.parametrize("action", ["take over", "promote", "record", "settle", "announce", "restart", "resume"])
def test_a_step_that_is_missing_is_found(action: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing bad happens then, and nothing good either: jobs never come to their end."""
    real = exploring.private

    def without(state: State, table: Decisions) -> list[Step]:
        return [step for step in real(state, table) or steps(state, table) if step.action != action]

    monkeypatch.setattr(exploring, "private", without)
    explored: Explored = explore(Scope(1 if action == "restart" else 2, 1, 2, pauses=int(action == "resume")))
    assert [one.clause for one in explored.broken] == ["DELIVERY-1"]


def claims_though_paused(state: State, step: Step) -> State:
    return step.state._replace(paused=state.paused) if step.action == "claim" else step.state


def returns_to_the_first_queue(state: State, step: Step) -> State:
    j = step.job
    if step.row is None or step.state.jobs[j].place not in ("ready", "delayed"):
        return step.state
    jobs = list(step.state.jobs)
    jobs[j] = jobs[j]._replace(queue=0)
    return step.state._replace(jobs=tuple(jobs))


def heeds_no_mark(state: State, step: Step) -> State:
    j = step.job
    if step.row is None or step.state.jobs[j].place != "cancelled":
        return step.state
    jobs = list(step.state.jobs)
    jobs[j] = Job(step.row.to, queue=jobs[j].queue)
    return step.state._replace(jobs=tuple(jobs))


def hands_back_what_is_cancelled(state: State, step: Step) -> State:
    if step.action != "quit":
        return step.state
    gone = [job.owner == step.worker and job.marked for job in state.jobs]
    jobs = (job._replace(place="ready") if was else job for job, was in zip(step.state.jobs, gone, strict=True))
    return step.state._replace(jobs=tuple(jobs))


@pytest.mark.parametrize(
    ("wrong", "clause"),
    [
        (claims_though_paused, "QUEUES-5"),
        (returns_to_the_first_queue, "QUEUES-4"),
        (heeds_no_mark, "QUEUES-9"),
        (hands_back_what_is_cancelled, "QUEUES-9"),
    ],
)
def test_a_wrong_step_of_queues_pauses_and_cancels_is_found(
    wrong: Callable[[State, Step], State], clause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its clause."""

    def with_wrong_steps(state: State, table: Decisions) -> list[Step]:
        seen = state._replace(paused=()) if wrong is claims_though_paused else state
        return [step._replace(state=wrong(state, step)) for step in steps(seen, table)]

    monkeypatch.setattr(exploring, "private", with_wrong_steps)
    explored = explore(Scope(1, 1, 1, queues=2, pauses=1, cancels=1))
    assert [one.clause for one in explored.broken] == [clause]


def test_what_is_cancelled_may_end_and_starts_no_more() -> None:
    """Of a marked job, an attempt that succeeds is done; each other end removes it, from each place."""
    explored = explore(Scope(2, 1, 2, silences=1, limit=3, pauses=1, cancels=1))
    cancelled = {str(kind) for kind in explored.kinds if "cancelled" in kind.about}
    assert explored.broken == []
    assert {
        "settle (failed 1, cancelled)", "settle (snoozed, cancelled)", "return (returned, cancelled)",
        "postpone (unknown, cancelled)", "take over (died, cancelled)", "take over (lost 2, cancelled)",
    } <= cancelled  # fmt: skip
    assert not any("succeeded" in kind for kind in cancelled)
