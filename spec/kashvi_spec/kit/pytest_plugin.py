"""The suite for drivers, for pytest: a test with the fixture ``kashvi_clause`` runs once for each clause.

from kashvi_spec.kit.driver.subject import DriverUnderTest

MINE = DriverUnderTest(empty=lambda now: MyDriver(now=now))

def test_my_driver(kashvi_clause):
    kashvi_clause.holds_of(MINE)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ..clauses import Clause
    from .driver.subject import DriverUnderTest


@dataclass(frozen=True)
class HeldClause:
    """The fixture's value: one clause."""

    clause: Clause

    def holds_of(self, subject: DriverUnderTest) -> None:
        """Fail the test if the driver breaks the clause; skip it if the driver lacks an ability it needs."""
        from .driver.conformance import conformance

        [verdict] = conformance(subject, [self.clause])
        if verdict.outcome == "incapable":
            pytest.skip("; ".join(verdict.reasons))
        if verdict.outcome == "failed":
            pytest.fail(f"{self.clause.id}: {self.clause.sentence}\n" + "\n".join(verdict.reasons), pytrace=False)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kashvi_clause" in metafunc.fixturenames:
        from .driver.conformance import about_drivers

        clauses = [HeldClause(clause) for clause in about_drivers()]
        metafunc.parametrize("kashvi_clause", clauses, ids=[one.clause.id for one in clauses])
