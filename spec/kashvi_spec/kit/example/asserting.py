"""Compiles Python of the specification so that a failed ``assert ran == [1, 2]`` reports the value of ``ran``."""

from __future__ import annotations

import ast
import traceback
from types import CodeType

from kashvi.worker.attempt import describe

BRIEF = 160
SPELT = (ast.Constant, ast.List, ast.Tuple, ast.Set, ast.Dict, ast.UnaryOp, ast.BinOp, ast.keyword)
GRAMMAR = (ast.expr_context, ast.unaryop, ast.operator)


def compiled(code: str, where: str) -> CodeType:
    """The compiled block. ``where`` is the file's name in tracebacks; its module must have ``told`` as ``_told``."""
    return compile(ast.fix_missing_locations(_Telling().visit(ast.parse(code, where))), where, "exec")


class _Telling(ast.NodeTransformer):
    """Keeps the compared values, so that the message can have them."""

    def visit_Assert(self, node: ast.Assert) -> list[ast.stmt]:
        expected = ast.unparse(node.test)
        if not isinstance(node.test, ast.Compare):
            node.msg = node.msg or ast.Constant(f"expected {expected}")
            return [node]
        sides = [node.test.left, *node.test.comparators]
        names = [None if _literal(side) else ast.unparse(side) for side in sides]
        kept = ast.parse("_sides = ()").body[0]
        assert isinstance(kept, ast.Assign)
        kept.value = ast.Tuple(sides, ast.Load())
        told = ast.parse(f"assert 0, _told({expected!r}, {names!r}, _sides, None)").body[0]
        assert isinstance(told, ast.Assert)
        assert isinstance(told.msg, ast.Call)
        told.test = ast.Compare(_side(0), node.test.ops, [_side(n) for n in range(1, len(sides))])
        if node.msg is not None:
            told.msg.args[3] = node.msg
        return [ast.copy_location(part, node) for part in (kept, told)]


def _side(index: int) -> ast.expr:
    return ast.Subscript(ast.Name("_sides", ast.Load()), ast.Constant(index), ast.Load())


def _literal(side: ast.AST) -> bool:
    """True for a literal, whose value the message need not repeat; also for ``[Order(7)] * 3``."""
    if isinstance(side, ast.Call):
        made = isinstance(side.func, ast.Name) and side.func.id[0].isupper()
        return made and all(_literal(part) for part in (*side.args, *side.keywords))
    return isinstance(side, GRAMMAR) or (
        isinstance(side, SPELT) and all(_literal(part) for part in ast.iter_child_nodes(side))
    )


def told(expected: str, names: list[str | None], sides: tuple[object, ...], said: object) -> str:
    """The message of a failed assert."""
    seen = [f"{name} is {_brief(side)}" for name, side in zip(names, sides, strict=True) if name]
    return f"{'' if said is None else f'{said}: '}expected {expected}, and {', '.join(seen)}"


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= BRIEF else f"{text[:BRIEF]}…"


def why(error: BaseException, code: str, where: str) -> str:
    """The error's text, with the line of the block unless it is an assert."""
    if isinstance(error, AssertionError) and str(error):
        return str(error)
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == where]
    at = f" in: {code.splitlines()[lines[-1] - 1].strip()}" if lines and lines[-1] else ""
    return f"{describe(error)}{at}"
