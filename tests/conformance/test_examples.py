"""Every example of the specification runs, and holds: ``nox -s spec`` runs this file alone."""

from __future__ import annotations

import pytest
from kashvi_spec.clauses import Clause, load
from kashvi_spec.kit.example.examples import run
from kashvi_spec.kit.example.itself import run_code
from kashvi_spec.kit.example.situation import example_of

CLAUSES = load()
EXAMPLES = [(clause, text) for clause in CLAUSES for text in clause.examples]
CODE = [(clause, code) for clause in CLAUSES for code in clause.code]


def ids_of(found: list[tuple[Clause, str]]) -> list[str]:
    return [f"{clause.id}-{n}" for n, (clause, _) in enumerate(found)]


@pytest.mark.parametrize(("clause", "text"), EXAMPLES, ids=ids_of(EXAMPLES))
def test_the_example_runs_as_it_says_and_breaks_no_clause(clause: Clause, text: str) -> None:
    """Its own and every other."""
    ran = run(example_of(text))
    assert ran.mistakes == []
    assert ran.violations == []


@pytest.mark.parametrize("clause", [clause for clause in CLAUSES if clause.predicate], ids=lambda clause: clause.id)
def test_the_examples_of_a_trace_clause_give_its_predicate_something_to_judge(clause: Clause) -> None:
    """Or they would hold of a queue that does nothing."""
    assert sum(run(example_of(text)).judged[clause.predicate] for text in clause.examples) > 0


@pytest.mark.parametrize(("clause", "code"), CODE, ids=ids_of(CODE))
def test_the_python_of_a_clause_runs_by_itself(clause: Clause, code: str) -> None:
    """In a module of its own."""
    run_code(clause, code)


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("ran = [2]\nassert ran == [1]", r"expected ran == \[1\], and ran is \[2\]"),
        ("n = 7\nassert 0 < n <= 5", "expected 0 < n <= 5, and n is 7"),
        ("done = False\nassert done", "expected done"),
        ("n = 7\nassert n == 5, 'of the second'", "of the second: expected n == 5, and n is 7"),
    ],
)
def test_an_assert_of_a_clause_says_what_it_saw(code: str, why: str) -> None:
    """Its reader has not written it."""
    with pytest.raises(AssertionError, match=why):
        run_code(CLAUSES[0], code)
