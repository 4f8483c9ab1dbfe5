"""Each assertion of the suite does something: without it, a known-bad implementation gets through.

Nine of them, of steps and of the Python of clauses, are taken out of the code that runs, one at a time.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from kashvi_spec.kit.driver import conformance
from kashvi_spec.kit.driver.steps import STEPS
from kashvi_spec.kit.museum import MUSEUM

from .test_matrix import matrix, rows

TAKEN_OUT = [
    ("bytes as text", "ENVELOPE-5", "expect(bench.worker().claim(10), odd, 'claimed')"),
    ("all that is lost at once", "DELIVERY-2", "expect(bench.lost(limit=1), "),
    ("it failed when the server heard of it", "FAILURES-1", "if abs(entry.failed_at - "),
    ("a retry drops what it does not know", "ENVELOPE-5", 'assert b\'"trace":{"a": 1.50}\' in again'),
    ("a retry writes the payload anew", "ENVELOPE-5", "assert b'\"payload\":%b' % payload in again"),
    ("an error shows the URL", "COMMANDS-4", "assert 'hidden' not in "),
    ("failures have no time", "FAILURES-2", "assert abs(failed.failed_at.timestamp() - time.time()) < 5"),
    ("delayed jobs expire", "REDIS-4", "assert set(ttls.values()) == {-1}"),
    ("times are the host's", "TABLE-2", "assert -0.001 < row.failed_at.timestamp() - (start + 3) < 0.02"),
]


class Without(ast.NodeTransformer):
    """The code without the statement that begins so."""

    def __init__(self, statement: str) -> None:
        self.statement = statement
        self.found = 0

    def visit(self, node: ast.AST) -> Any:
        if isinstance(node, ast.stmt) and ast.unparse(node).startswith(self.statement):
            self.found += 1
            return ast.copy_location(ast.Pass(), node)
        return self.generic_visit(node)

    def code(self, text: str) -> str:
        return ast.unparse(self.visit(ast.parse(textwrap.dedent(text))))

    def function(self, run: Callable[..., Any]) -> Callable[..., Any]:
        tree = ast.parse(self.code(inspect.getsource(run)))
        [function] = tree.body
        assert isinstance(function, ast.FunctionDef)
        function.decorator_list = []
        names: dict[str, Any] = {}
        exec(compile(tree, "without", "exec"), run.__globals__, names)
        found: Callable[..., Any] = names[run.__name__]
        return found


@pytest.mark.parametrize(("name", "clause", "statement"), TAKEN_OUT, ids=[name for name, *_ in TAKEN_OUT])
def test_without_one_assertion_a_known_bad_implementation_survives(
    name: str, clause: str, statement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No clause rejects it but for a consequence. With the assertion its own reject it, or ``test_matrix`` fails."""
    assert clause in MUSEUM[name].clauses
    accepted = replace(MUSEUM[name], legal=True)
    without = Without(statement)
    steps = [replace(one, run=without.function(one.run)) if one.clause == clause else one for one in STEPS]
    clauses = [
        replace(one, code=tuple(map(without.code, one.code))) if one.id == clause else one for one in matrix().clauses
    ]
    assert without.found == 1
    monkeypatch.setattr(conformance, "STEPS", steps)
    monkeypatch.setattr(matrix(), "clauses", clauses)
    [after] = rows([accepted])
    assert after.rejected.keys() <= MUSEUM[name].also
