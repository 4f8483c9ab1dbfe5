"""Live-variable analysis of a suspended frame."""

from __future__ import annotations

import dis
from functools import cache
from types import CodeType

_ENDS = frozenset({"RETURN_VALUE", "RETURN_CONST", "RAISE_VARARGS", "RERAISE"})
_GOES_ON_ELSEWHERE = frozenset({"JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT"})
_ASSIGNS = frozenset({"STORE_FAST", "DELETE_FAST"})
"""An instruction that both assigns and reads counts as a read."""


@cache
def live_after(code: CodeType) -> dict[int, frozenset[str]]:
    """The live variables after each instruction, by its offset. Variables of a closure are always live."""
    instructions = list(dis.get_instructions(code))
    following = _following(code, instructions)
    shared = frozenset(code.co_cellvars) | frozenset(code.co_freevars)
    before: dict[int, frozenset[str]] = {one.offset: frozenset() for one in instructions}
    changed = True
    while changed:
        changed = False
        for one in reversed(instructions):
            after = frozenset().union(*(before[offset] for offset in following[one.offset]))
            names = _names(one)
            live = after - names if one.opname in _ASSIGNS else after | names
            if live != before[one.offset]:
                before[one.offset], changed = live, True
    found: dict[int, frozenset[str]] = {}
    for one, end in zip(instructions, [*(one.offset for one in instructions[1:]), len(code.co_code)], strict=True):
        live = shared.union(*(before[offset] for offset in following[one.offset]))
        found |= dict.fromkeys(range(one.offset, end, 2), live)  # a suspended call may be at any of its cache entries
    return found


def _following(code: CodeType, instructions: list[dis.Instruction]) -> dict[int, list[int]]:
    """The successors of each instruction, including exception handlers."""
    handlers = dis._parse_exception_table(code)  # type: ignore[attr-defined]
    following: dict[int, list[int]] = {}
    for i, one in enumerate(instructions):
        to = [entry.target for entry in handlers if entry.start <= one.offset < entry.end]
        if one.opcode in dis.hasjrel or one.opcode in dis.hasjabs:
            to.append(one.argval)
        if one.opname not in _ENDS | _GOES_ON_ELSEWHERE and i + 1 < len(instructions):
            to.append(instructions[i + 1].offset)
        following[one.offset] = to
    return following


def _names(one: dis.Instruction) -> frozenset[str]:
    if one.opcode not in dis.haslocal:
        return frozenset()
    return frozenset(one.argval if isinstance(one.argval, tuple) else (one.argval,))
