"""The suite has teeth: each known-bad driver, worker or store is rejected by the clauses that say the opposite."""

from __future__ import annotations

import pytest
from kashvi_spec.clauses import load
from kashvi_spec.kit.conformance import about_drivers, conformance
from kashvi_spec.kit.itself import run_code
from kashvi_spec.kit.museum import MUSEUM, Exhibit
from kashvi_spec.kit.subject import subject_of

CLAUSES = {clause.id: clause for clause in load()}
TESTED = {clause.id: clause for clause in about_drivers()}


def rejecting(exhibit: Exhibit) -> set[str]:
    """Which of its own clauses say no."""
    mine = [TESTED[one] for one in sorted(exhibit.clauses & TESTED.keys())]
    found = {one.clause.id for one in conformance(subject_of("memory"), mine) if one.outcome == "failed"}
    for one in exhibit.clauses - TESTED.keys():
        try:
            for code in CLAUSES[one].code:
                run_code(CLAUSES[one], code)
        except Exception:
            found.add(one)
    return found


@pytest.mark.parametrize("exhibit", MUSEUM.values(), ids=MUSEUM)
def test_a_known_bad_implementation_is_rejected_by_its_clauses(exhibit: Exhibit) -> None:
    """And by none of them once the bug is gone."""
    assert exhibit.clauses
    with exhibit.planted():
        assert rejecting(exhibit) == exhibit.clauses
    assert rejecting(exhibit) == set()


def test_every_trace_clause_rejects_something() -> None:
    """Or nobody knows whether it can."""
    rejected = {clause for exhibit in MUSEUM.values() for clause in exhibit.clauses}
    assert {clause.id for clause in CLAUSES.values() if clause.kind == "trace"} <= rejected
    assert rejected <= CLAUSES.keys()


def test_a_driver_that_does_nothing_fails_every_clause() -> None:
    """No clause holds for want of something to look at."""
    with MUSEUM["nothing at all"].planted():
        verdicts = list(conformance(subject_of("memory")))
    assert [verdict.clause.id for verdict in verdicts if verdict.outcome != "failed"] == []
    assert all(verdict.reasons for verdict in verdicts)
