"""The results of a conformance run as JSON and JUnit."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from junitparser import Failure, JUnitXml, Properties, Property, Skipped, TestCase, TestSuite

from kashvi.text import json_line

from .conformance import Outcome, Verdict

OUTCOMES = get_args(Outcome)
NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Column:
    """One implementation with its verdicts."""

    name: str
    verdicts: dict[str, Verdict]
    """The verdict for each clause."""
    seconds: float

    def conforms(self, strict: bool) -> bool:
        """True if no MUST is broken; ``strict``: also no SHOULD, and no ability is missing."""
        verdicts = self.verdicts.values()
        if strict:
            good = ("passed", "untried")
            return all(verdict.outcome in good or verdict.clause.level == "MAY" for verdict in verdicts)
        return all(verdict.outcome != "failed" or verdict.clause.level != "MUST" for verdict in verdicts)

    def counted(self) -> Counter[str]:
        """The number of verdicts by outcome."""
        return Counter(verdict.outcome for verdict in self.verdicts.values())


def as_json(columns: list[Column], strict: bool) -> str:
    """One object."""
    return json_line(
        {
            "conforms": all(column.conforms(strict) for column in columns),
            "strict": strict,
            "implementations": [
                {
                    "name": column.name,
                    "conforms": column.conforms(strict),
                    "seconds": round(column.seconds, 3),
                    **{outcome: column.counted()[outcome] for outcome in OUTCOMES},
                    "clauses": [_plain(verdict) for verdict in column.verdicts.values()],
                }
                for column in columns
            ],
        }
    )


def _plain(verdict: Verdict) -> dict[str, object]:
    clause = verdict.clause
    return {
        "id": clause.id,
        "level": clause.level,
        "outcome": verdict.outcome,
        "reasons": verdict.reasons,
        "examples": verdict.examples,
        "steps": verdict.steps,
        "judged": verdict.judged,
        "seconds": round(verdict.seconds, 3),
        "evidence": verdict.evidence,
    }


def write_junit(columns: list[Column], path: Path) -> None:
    """Write a JUnit file: a suite for each implementation, a case for each clause."""
    xml = JUnitXml("kashvi conformance")
    for column in columns:
        suite = TestSuite(name := _in_xml(column.name))
        for verdict in column.verdicts.values():
            clause = verdict.clause
            case = TestCase(f"{clause.id} {clause.sentence}", f"kashvi.{name}.{clause.area}", verdict.seconds)
            about = Properties()
            about.add_property(Property("clause", clause.id))
            about.add_property(Property("level", clause.level))
            case.append(about)
            if verdict.outcome == "failed":
                case.result = [Failure(_in_xml("\n".join(verdict.reasons)), clause.id)]
            elif verdict.outcome in ("incapable", "untried"):
                case.result = [Skipped(_in_xml("\n".join(verdict.reasons)))]
            suite.add_testcase(case)
        xml.add_testsuite(suite)
    xml.update_statistics()
    xml.write(str(path), pretty=True)


def _in_xml(text: str) -> str:
    """The text with characters that XML can't hold escaped as in Python."""
    return NOT_IN_XML.sub(lambda odd: ascii(odd[0])[1:-1], text)
