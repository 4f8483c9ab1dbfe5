"""The specification holds together: ids, citations, promises, terms."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest
from kashvi_spec import clauses
from kashvi_spec.clauses import AREAS, BrokenClause, Clause, load, promises, read, text_of
from kashvi_spec.kit.example.situation import example_of
from kashvi_spec.predicates.every import every_predicate

ROOT = Path(__file__).parents[2]
SPEC = ROOT / "spec"
PYPROJECT = tomllib.loads((ROOT / "spec" / "pyproject.toml").read_text())
CLAUSES = load()

GOOD = """
## RETRY-1 MUST: A sentence.

Why it is so.

- kind: value

```python
assert True
```
"""


def functions_of(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


def test_there_are_enough_clauses_of_every_kind_in_every_area() -> None:
    """None of the pages is empty."""
    assert sum(clause.level == "MUST" for clause in CLAUSES) >= 60
    assert {clause.area for clause in CLAUSES} == set(AREAS)
    assert {clause.kind for clause in CLAUSES} == {"trace", "value", "command"}


def test_ids_are_unique_and_sentences_too() -> None:
    """One rule, one place."""
    assert len({clause.id for clause in CLAUSES}) == len(CLAUSES)
    assert len({clause.sentence.lower() for clause in CLAUSES}) == len(CLAUSES)


@pytest.mark.parametrize("clause", CLAUSES, ids=lambda clause: clause.id)
def test_every_clause_has_a_check_that_is_there(clause: Clause) -> None:
    """An example, Python, or tests that exist under that very name."""
    assert clause.examples or clause.code or clause.tests
    for cited in clause.tests:
        name, _, function = cited.partition("::")
        assert function in functions_of(ROOT / name), cited
    for text in clause.examples:
        assert example_of(text).expects


@pytest.mark.parametrize("clause", [one for one in CLAUSES if one.level == "MUST"], ids=lambda clause: clause.id)
def test_every_must_has_an_example_that_runs(clause: Clause) -> None:
    """A test in another file is for those who doubt; an example is for those who read."""
    assert clause.examples or clause.code


def test_every_trace_clause_has_a_predicate_of_its_own_and_every_predicate_a_clause() -> None:
    """So that a count of what was judged is a count of one clause."""
    named = [clause.predicate for clause in CLAUSES if clause.kind == "trace"]
    assert sorted(named) == sorted(predicate.name for predicate in every_predicate())


def test_every_promise_is_kept_by_a_must_and_every_quotation_is_a_promise() -> None:
    """To the letter, on both sides."""
    quoted = {promise for clause in CLAUSES if clause.level == "MUST" for promise in clause.promises}
    assert len(promises()) >= 30
    assert quoted == set(promises())


def test_clauses_refer_to_clauses_that_are_there() -> None:
    """Wherever a page of the specification, the code or a test names one; what is retired is not used again."""
    ids = {clause.id for clause in CLAUSES}
    pages = [*SPEC.glob("*.md"), *(SPEC / "decisions").glob("*.md"), *(ROOT / "tests" / "conformance").glob("*.py")]
    names = "|".join(area.upper() for area in AREAS)
    _, _, list_of_retired = (SPEC / "README.md").read_text().partition("## Retired ids")
    retired = set(re.findall(rf"^- ((?:{names})-[0-9]+)", list_of_retired, re.MULTILINE))
    assert not retired & ids
    for page in pages:
        if page.name == "test_clauses.py":
            continue
        for found in re.findall(rf"\b(?:{names})-[0-9]+\b", page.read_text()):
            assert found in (ids | retired if page.name == "README.md" else ids), f"{page.name} names {found}"


def test_links_between_the_pages_lead_somewhere() -> None:
    """Relative ones."""
    for page in [*SPEC.glob("*.md"), *(SPEC / "decisions").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_term_is_defined_once() -> None:
    """In the glossary, in alphabetical order."""
    terms = re.findall(r"^\*\*(.+?)\*\*", text_of("glossary"), re.MULTILINE)
    assert len(terms) >= 15
    assert terms == sorted(set(terms), key=str.lower)


def test_every_page_of_clauses_travels_in_the_wheel() -> None:
    """Where ``clauses.py`` looks for it once it is installed."""
    included = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    for name in (*AREAS, "wire", "promises", "glossary", "worker-kit", "protocol"):
        assert included[f"{name}.md"] == f"kashvi_spec/{clauses.PLACES[1].name}/{name}.md"


def test_the_readme_names_every_page() -> None:
    """And every decision."""
    readme = (SPEC / "README.md").read_text()
    for page in [
        *(f"{area}.md" for area in AREAS),
        *(f"decisions/{p.name}" for p in (SPEC / "decisions").glob("*.md")),
    ]:
        assert f"({page})" in readme, page


def test_a_clause_is_read_as_it_is_written() -> None:
    """Each part in its place."""
    [clause] = read(GOOD, "retry")
    assert (clause.id, clause.level, clause.sentence, clause.why) == ("RETRY-1", "MUST", "A sentence.", "Why it is so.")
    assert (clause.kind, clause.code, clause.examples) == ("value", ("assert True\n",), ())


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("RETRY-1 MUST", "RETRY-1 must", "is not '## AREA-1 MUST"),
        ("RETRY-1", "DELAY-1", "begins with RETRY-"),
        ("A sentence.", "A sentence", "not a sentence"),
        ("Why it is so.", "", "has no paragraph with a reason"),
        ("- kind: value", "", "needs one line '- kind: …'"),
        ("- kind: value", "- kind: value\n- kind: trace", "has 2"),
        ("- kind: value", "- kind: riddle", "trace, value or command"),
        ("- kind: value", "- kind: trace", "has a predicate"),
        ("- kind: value", "- kind: trace\n- predicate: FIFO", "has an example"),
        ("- kind: value", "- kind: value\n- predicate: FIFO", "no other has one"),
        ("- kind: value", "- kind: command", "names its tests"),
        ("- kind: value", "- kind: value\n- promise: something", "is not"),
        ("```python", "```go", "not go"),
        ("assert True\n```", "assert True", "a block has no end"),
        ("```python\nassert True\n```", "", "Python, an example or tests"),
    ],
)
def test_a_clause_that_lacks_something_is_refused(old: str, new: str, why: str) -> None:
    """The error names the file and the clause."""
    assert old in GOOD
    with pytest.raises(BrokenClause, match=re.escape(why)) as caught:
        read(GOOD.replace(old, new), "retry")
    assert str(caught.value).startswith("retry.md")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("jobs = [{}]", "expects nothing"),
        ("jobs = [{}]\nattempt_at = [0]", "attempt_at"),
        ('jobs = [{ outcome = ["ok"] }]\nattempts_at = [0]', "outcome"),
        ('jobs = [{ name = "a" }, { name = "a" }]\nstarts = 2', "two jobs of one name"),
        ('jobs = [{}]\nhappens = [{ at = 1, what = "kill", worker = 2 }]\nstarts = 1', "not there"),
    ],
)
def test_an_example_that_says_nothing_or_is_misspelt_is_refused(text: str, why: str) -> None:
    """Or it would hold of anything."""
    with pytest.raises(ValueError, match=why):
        example_of(text)
