"""The suite has teeth: each known-bad implementation is rejected by its own clauses, and by no unrelated one."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache

import pytest
from kashvi_spec.clauses import load
from kashvi_spec.kit.driver.conformance import about_drivers
from kashvi_spec.kit.museum import MUSEUM, VARIANTS, Exhibit
from kashvi_spec.kit.museum.mutants import Matrix, Row, judging

CLAUSES = {clause.id: clause for clause in judging()}
ALL = MUSEUM | VARIANTS
FEW = len(CLAUSES) // 13
"""The most other clauses that may reject an exhibit, for what follows from it."""
WHOLE = bool(os.environ.get("CI"))
"""At a desk an exhibit is tried by the clauses it names alone, which takes a tenth of the time."""
PARTS, AT_ONCE = 8, 4
"""Trials often wait, in real threads and processes: so some exhibits of a part are tried at a time. At the end of a
part the longest trial goes on alone: so parts are large."""


@cache
def matrix() -> Matrix:
    """One look at what the checks call is enough."""
    return Matrix(ALL.values())


def rows(exhibits: Sequence[Exhibit]) -> Iterator[Row]:
    """Of the clauses that this place tries."""
    return matrix().rows(AT_ONCE, exhibits) if WHOLE else matrix().named(AT_ONCE, exhibits)


@pytest.mark.parametrize("part", range(PARTS))
def test_an_exhibit_is_rejected_by_the_clauses_it_names(part: int) -> None:
    """A legal variant by none. With ``CI`` set, and in ``spec:mutants``: and by no other clause."""
    found = rows(list(ALL.values())[part::PARTS])
    wrong = {row.exhibit.name: (row.wrong if WHOLE else row.survives, row.rejected) for row in found}
    assert {name: said for name, said in wrong.items() if said[0]} == {}


def test_every_must_has_two_known_bad_implementations_that_break_little_else() -> None:
    """One might be an accident; and what breaks everything says little of a clause."""
    narrow = [exhibit for exhibit in MUSEUM.values() if len(exhibit.also) <= FEW]
    own = Counter(clause for exhibit in narrow for clause in exhibit.clauses)
    assert [clause.id for clause in load() if clause.level == "MUST" and own[clause.id] < 2] == []
    assert len(MUSEUM) - len(narrow) <= len(MUSEUM) // 25


def test_there_are_enough_legal_variants() -> None:
    """Each takes a freedom that some clause leaves."""
    assert len(VARIANTS) >= 10


def test_exhibits_name_clauses_that_are_there_and_whose_bug_they_are() -> None:
    """And no clause twice."""
    for exhibit in ALL.values():
        assert exhibit.clauses
        assert exhibit.clauses | exhibit.also <= CLAUSES.keys(), exhibit.name
        assert not exhibit.clauses & exhibit.also, exhibit.name
        assert exhibit.about
        assert exhibit.source or exhibit.legal


def test_a_driver_that_does_nothing_fails_every_clause_about_drivers() -> None:
    """No clause holds for want of something to look at."""
    nothing = MUSEUM["nothing at all"]
    assert {clause.id for clause in about_drivers()} <= nothing.clauses | nothing.also
