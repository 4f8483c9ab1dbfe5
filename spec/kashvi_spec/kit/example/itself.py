"""Checks the clauses that are not about drivers: runs their Python, and finds their cited tests in pytest's results."""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from junitparser import JUnitXml, Skipped, TestCase

from ...clauses import Clause
from ..driver.conformance import Verdict
from . import asserting

CONFIGURES = ("KASHVI_REDIS_URL", "KASHVI_DATABASE_URL")


@dataclass
class Result:
    """pytest's result of a test with all its parameters: a sentence for each that failed or was skipped."""

    failed: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def run_code(clause: Clause, code: str) -> None:
    """Run a Python block of a clause in its own module, as in an unconfigured process."""
    module = types.ModuleType(f"clause_{clause.id.lower().replace('-', '_')}")
    module.__dict__["_told"] = asserting.told
    aside = {name: os.environ.pop(name) for name in CONFIGURES if name in os.environ}
    sys.modules[module.__name__] = module
    try:
        exec(asserting.compiled(code, _where(clause)), module.__dict__)
    finally:
        del sys.modules[module.__name__]
        os.environ.update(aside)


def _where(clause: Clause) -> str:
    return f"spec/{clause.area}.md, {clause.id}"


def run_blocks(verdict: Verdict) -> None:
    """Run all Python blocks of the clause; an error is a reason in the verdict."""
    for n, code in enumerate(verdict.clause.code, 1):
        verdict.steps += 1
        try:
            run_code(verdict.clause, code)
        except BaseException as error:  # also SystemExit
            block = f"its Python block {n}" if len(verdict.clause.code) > 1 else "its Python"
            verdict.reasons.append(f"{block}: {asserting.why(error, code, _where(verdict.clause))}")


def tests_of(paths: Sequence[Path]) -> dict[str, Result]:
    """The results in JUnit files of pytest, by ``tests/x/test_y.py::test_z``."""
    found: dict[str, Result] = {}
    for suite in (suite for path in paths for suite in JUnitXml.fromfile(str(path))):
        for case in suite:
            assert isinstance(case, TestCase)
            name = f"{(case.classname or '').replace('.', '/')}.py::{(case.name or '').partition('[')[0]}"
            result = found.setdefault(name, Result())
            for one in case.result:
                kind = result.skipped if isinstance(one, Skipped) else result.failed
                kind.append(f"{case.name}: {one.message or 'did not pass'}")
    return found


def library(clauses: list[Clause], tests: Mapping[str, Result], ci: bool) -> list[Verdict]:
    """A verdict for each clause that has Python or cites a test. ``ci``: a skipped test counts as failed."""
    verdicts = []
    for clause in clauses:
        verdict = Verdict(clause)
        run_blocks(verdict)
        skipped = []
        for test in clause.tests:
            verdict.steps += 1
            result = tests.get(test) or Result(failed=[f"{test} is not among the results"])
            verdict.reasons += result.failed
            skipped += [f"skipped, {why}" for why in result.skipped]
        if ci:
            verdict.reasons += skipped
        if not verdict.steps:
            continue
        verdict.outcome = "failed" if verdict.reasons else "untried" if skipped else "passed"
        verdict.reasons = verdict.reasons or skipped
        verdicts.append(verdict)
    return verdicts
