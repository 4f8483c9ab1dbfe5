"""Reads the clauses from their Markdown pages.

A clause is a heading, ``## RETRY-2 MUST: one sentence.``, a paragraph with the reason, a list of facts
(``- kind: trace``), and blocks: an example in TOML, or Python that runs by itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

Kind = Literal["trace", "value", "command"]
Level = Literal["MUST", "SHOULD", "MAY"]

AREAS = (
    "jobs", "envelope", "dispatch", "delay", "memory", "redis",
    "delivery", "workers", "retry", "queues", "cron", "outbox", "failures", "table", "history", "commands",
)  # fmt: skip
"""The pages, in reading order."""
HERE = Path(__file__).resolve()
PLACES = (HERE.parents[1], HERE.parent / "text")
"""The pages' folder, in a checkout and installed."""

HEADING = re.compile(r"^## ([A-Z]+-[1-9][0-9]*) (MUST|SHOULD|MAY): (.+)$", re.MULTILINE)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FACT = re.compile(r"^- (kind|predicate|promise|tests): (.+(?:\n  .+)*)$", re.MULTILINE)
QUOTE = re.compile(r'^\["(.+)"\]\(promises\.md\)$')


class BrokenClause(ValueError):
    """A clause that can't be read. The message names the file and the clause."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(f"{where}: {why}")


@dataclass(frozen=True, slots=True)
class Clause:
    """One rule and its checks."""

    id: str
    level: Level
    sentence: str
    why: str
    kind: Kind
    area: str
    """The name of its page, without ``.md``."""
    predicate: str
    """The name of a trace clause's predicate."""
    promises: tuple[str, ...]
    """The quoted sentences of the original documentation."""
    tests: tuple[str, ...]
    """``tests/cli/test_commands.py::test_…``"""
    examples: tuple[str, ...]
    """TOML; ``kit.examples`` runs it."""
    code: tuple[str, ...]
    """Python; each block runs by itself."""


def text_of(name: str) -> str:
    """The text of a page, such as ``retry`` or ``glossary``."""
    for place in PLACES:
        if (path := place / f"{name}.md").exists():
            return path.read_text(encoding="utf-8")
    raise BrokenClause(f"{name}.md", f"in neither {PLACES[0]} nor {PLACES[1]}")


def load() -> list[Clause]:
    """All clauses, in reading order. Raises BrokenClause."""
    found = [clause for area in AREAS for clause in read(text_of(area), area)]
    for n, clause in enumerate(found):
        if clause.id in {other.id for other in found[:n]}:
            raise BrokenClause(f"{clause.area}.md, {clause.id}", "the id is taken by another clause")
    return found


def ids_by_predicate() -> dict[str, str]:
    """The clause of each predicate."""
    return {clause.predicate: clause.id for clause in load() if clause.predicate}


def promises() -> list[str]:
    """The promises of the original documentation, sentence by sentence."""
    return re.findall(r'^- "(.+)"$', text_of("promises"), re.MULTILINE)


def read(text: str, area: str) -> list[Clause]:
    """The clauses of one page. Raises BrokenClause."""
    headings = list(HEADING.finditer(text))
    for line in re.findall(r"^## .*$", text, re.MULTILINE):
        if not HEADING.match(line):
            raise BrokenClause(f"{area}.md", f"{line!r} is not '## AREA-1 MUST: A sentence.'")
    ends = [heading.start() for heading in headings[1:]] + [len(text)]
    return [_clause(area, heading, text[heading.end() : end]) for heading, end in zip(headings, ends, strict=True)]


def _clause(area: str, heading: re.Match[str], body: str) -> Clause:
    clause_id, level, sentence = heading.groups()
    where = f"{area}.md, {clause_id}"
    if clause_id.rpartition("-")[0] != area.upper():
        raise BrokenClause(where, f"an id of this page begins with {area.upper()}-")
    blocks: dict[str, list[str]] = {"example": [], "python": []}
    for language, block in BLOCK.findall(body):
        if language not in blocks:
            raise BrokenClause(where, f"a block is example or python, not {language}")
        blocks[language].append(block)
    prose = BLOCK.sub("", body)
    if "```" in prose:
        raise BrokenClause(where, "a block has no end: it would not be run")
    facts: dict[str, list[str]] = {"kind": [], "predicate": [], "promise": [], "tests": []}
    for name, value in FACT.findall(prose):
        facts[name].append(value if name == "promise" else " ".join(value.split()))  # a quotation keeps its blanks
    why = " ".join(FACT.sub("", prose).split())
    clause = Clause(
        id=clause_id,
        level=cast(Level, level),
        sentence=sentence,
        why=why,
        kind=cast(Kind, _one(where, "kind", facts["kind"])),
        area=area,
        predicate=_one(where, "predicate", facts["predicate"]) if facts["predicate"] else "",
        promises=tuple(_quoted(where, promise) for promise in facts["promise"]),
        tests=tuple(test.strip(" `") for line in facts["tests"] for test in line.split(",")),
        examples=tuple(blocks["example"]),
        code=tuple(blocks["python"]),
    )
    _check(where, clause)
    return clause


def _one(where: str, name: str, values: list[str]) -> str:
    if len(values) != 1:
        raise BrokenClause(where, f"needs one line '- {name}: …', and has {len(values)}")
    return values[0]


def _quoted(where: str, promise: str) -> str:
    match = QUOTE.match(promise)
    if match is None:
        raise BrokenClause(where, f'{promise!r} is not ["a sentence"](promises.md)')
    return match[1]


def _check(where: str, clause: Clause) -> None:
    if clause.kind not in ("trace", "value", "command"):
        raise BrokenClause(where, f"a kind is trace, value or command, not {clause.kind!r}")
    if not clause.why:
        raise BrokenClause(where, "has no paragraph with a reason")
    if not clause.sentence.endswith("."):
        raise BrokenClause(where, "its heading is not a sentence")
    if (clause.kind == "trace") != bool(clause.predicate):
        raise BrokenClause(where, "a clause of kind trace has a predicate, and no other has one")
    if clause.kind == "trace" and not clause.examples:
        raise BrokenClause(where, "a clause of kind trace has an example")
    if clause.kind == "value" and not (clause.code or clause.examples or clause.tests):
        raise BrokenClause(where, "a clause of kind value has Python, an example or tests")
    if clause.kind == "command" and not clause.tests:
        raise BrokenClause(where, "a clause of kind command names its tests")
