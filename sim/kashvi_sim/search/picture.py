"""Draws the steps that a worker's threads and its keeper make, as a search of small scopes meets them.

``python -m kashvi_sim.search.picture`` prints the two diagrams of docs/steps.md.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ..runs.undisturbed import undisturbed
from .key import key_of
from .moves import Mover
from .scope import Scope
from .shell import Shells
from .state import Doing

NAMES: dict[Doing, str] = {
    "free": "[*]", "attempt": "attempt", "exchange": "exchange", "ask due": "ask_due", "wait": "wait",
    "waiting": "wait", "idle": "idle", "keep": "rest", "reap": "look_after_the_dead", "end": "[*]",
}  # fmt: skip
"""In the diagram. A wait on the server is two steps of the search, and one of the worker."""
SCOPES = (
    Scope(threads=2, jobs=2),
    Scope(threads=2, jobs=1, until="empty"),
    Scope(threads=2, jobs=1, lease_s=6.0),
    Scope(workers=2, threads=1, jobs=1, attempts=1, crashes=1),
)


class Change(NamedTuple):
    """One step after another, of a thread or of the keeper."""

    who: str
    before: Doing
    after: Doing


def changes(scope: Scope) -> Iterator[Change]:
    """All changes of a scope, again and again."""
    mover = Mover(Shells(scope), reduce=False)
    first = mover.first().state
    seen, todo = {key_of(first, scope)}, deque([first])
    while todo:
        state = todo.popleft()
        if scope.until == "stopped" and state.over(scope):
            continue  # it would go on for ever
        for move in mover.moves(state):
            if move.change is not None:
                yield Change(*move.change)
            if (key := key_of(move.state, scope)) not in seen:
                seen.add(key)
                todo.append(move.state)


def diagram(who: str, found: Iterable[Change]) -> str:
    """Mermaid's text for the steps of a thread or the keeper."""
    arrows = sorted({(NAMES[c.before], NAMES[c.after]) for c in found if c.who == who})
    lines = [f"    {before} --> {after}" for before, after in arrows if (before, after) != ("wait", "wait")]
    return "\n".join(["stateDiagram-v2", *lines])


def pictures() -> str:
    """Both diagrams, as docs/steps.md has them."""
    with undisturbed():
        found = {change for scope in SCOPES for change in changes(scope)}
    return "\n\n".join(f"```mermaid\n{diagram(who, found)}\n```" for who in ("thread", "keeper"))


if __name__ == "__main__":
    print(pictures())
