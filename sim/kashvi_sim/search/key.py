"""The key of a state, by which it is known again."""

from __future__ import annotations

import re

from kashvi.worker.machine.steps import SECOND

from .memory import Lens
from .scope import Scope
from .state import Process, State

_NAME = re.compile(r"'([pw])(\d+)'")
OF_WORKERS = ("held", "running", "workers", "answers", "duplicates", "cancelled", "serves")
"""What the store has of each worker."""
UNSEEN = frozenset({*OF_WORKERS, "now", "condition", "waiting", "members"})


def key_of(state: State, scope: Scope) -> str:
    """Two states with the same key go on alike. Times are relative, and workers are interchangeable.

    Only the order in which the server lists several workers whose leases are over depends on their names.
    """
    store, now = state.store, state.now
    parts: list[tuple[str, str, int | None]] = []
    for process in state.processes.values():
        part = _part(state, process, scope.horizon)
        if part is None:
            continue
        text, lease = part
        parts.append((text.replace(f"'{process.name}'", "'me'"), process.name[1:], lease))
    parts.sort()
    lens = Lens(now, now - 2 * scope.horizon)
    rest = (
        {name: lens.plain(value) for name, value in vars(store).items() if name not in UNSEEN},
        state.crashes, state.lost, sorted(at - now for at in state.restarts), state.ended,
        sorted(state.table - state.closed),
        [0 if ended else failures for ended, failures in zip(state.ended, state.failures, strict=True)],
        sorted(one for one in state.untold if one[1] not in state.closed), state.starts,
    )  # fmt: skip
    names = {number: str(n) for n, (_, number, _) in enumerate(parts)}
    if sum(lease == 0 for *_, lease in parts) > 1:
        names = {number: number for number in names}
    gone = [str(n) for n in range(1, state.born + 1) if str(n) not in names]
    names |= {number: f"gone {number}" for number in gone}
    claims = [round(d.server_at * SECOND) for p in state.processes.values() for d in p.jobs()]
    out = state.closed.union(*((f"p{n}", f"w{n}") for n in gone))
    minds = state.minds.text(now, max(min([now, *claims]), now - scope.horizon) - scope.horizon, out)
    text = _rename("\n".join([repr(rest), *minds]), names)
    first, _, others = text.partition("\n")
    return "\n".join(
        [
            *(f"{names[number]} {_rename(part, names)}" for part, number, _ in parts),
            first,
            *sorted(others.split("\n")),
        ]
    )


def _part(state: State, p: Process, horizon: int) -> tuple[str, int | None] | None:
    """A process with what the server knows of it, and how long its lease lasts; None: nothing."""
    store, name = state.store, p.name
    lists = store.held.get(name, []), store.running.get(name, [])
    if p.machine is None and not any(lists):
        return None
    deadline = store.workers.get(name)
    lease = None if deadline is None else max(round(deadline * SECOND) - state.now, 0)
    if p.machine is None:
        return f"{lease} {lists}", lease
    n, _, refused = store.answers.get(name, (0, 0.0, ()))
    more = [Lens(state.now).plain(getattr(store, one)[name]) for one in OF_WORKERS[4:] if name in getattr(store, one)]
    return f"{lease} {lists} {p.machine.n - n} {refused} {more} {p.text(state.now, horizon)}", lease


def _rename(text: str, names: dict[str, str]) -> str:
    return _NAME.sub(lambda found: f"{found[1]}{names.get(found[2], found[2])}", text)
