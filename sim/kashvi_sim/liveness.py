"""Which locals of a suspended function are read again before they are assigned: the others tell nothing any more."""

from __future__ import annotations

import dis
from functools import cache
from types import CodeType

_ENDS = frozenset({"RETURN_VALUE", "RETURN_CONST", "RAISE_VARARGS", "RERAISE"})
_GOES_ON_ELSEWHERE = frozenset({"JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT"})
_ASSIGNS = frozenset({"STORE_FAST", "DELETE_FAST"})
"""What both assigns and reads, in one instruction, is taken for a reader."""


@cache
def live_after(code: CodeType) -> dict[int, frozenset[str]]:
    """By the offset of an instruction, the locals that may be read after it. What a closure shares always may be."""
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
        found |= dict.fromkeys(range(one.offset, end, 2), live)  # a call leaves off somewhere in its cache entries
    return found


def _following(code: CodeType, instructions: list[dis.Instruction]) -> dict[int, list[int]]:
    """Where each instruction may go on, also by an exception."""
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
