"""Known-bad implementations: small overrides of kashvi, each of which some clause must reject.

They keep the suite honest: a check that accepts all of them checks nothing. Many are real bugs of other queues; the
label says whose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol
from unittest import mock


class Patch(Protocol):
    """What a bug is planted with; pytest's ``monkeypatch`` is one."""

    def setattr(self, target: object, name: str, value: object, /) -> None: ...


Plant = Callable[[Patch], None]


@dataclass(frozen=True)
class Exhibit:
    """A bug, and what it breaks."""

    name: str
    about: str
    clauses: frozenset[str]
    """Its own: those that say the opposite. What follows from it may break others too."""
    plant: Plant

    @contextmanager
    def planted(self) -> Iterator[None]:
        """kashvi has the bug; afterwards it is as it was."""
        with ExitStack() as stack:
            self.plant(_Until(stack))
            yield


class _Until:
    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def setattr(self, target: object, name: str, value: Any, /) -> None:
        self._stack.enter_context(mock.patch.object(target, name, value))


MUSEUM: dict[str, Exhibit] = {}


def exhibit(name: str, about: str, clauses: str) -> Callable[[Plant], Plant]:
    """Put a bug on show. ``clauses``: ids, with blanks between."""

    def note(plant: Plant) -> Plant:
        assert name not in MUSEUM, name
        MUSEUM[name] = Exhibit(name, about, frozenset(clauses.split()), plant)
        return plant

    return note


from . import drivers, stores, workers  # noqa: E402, F401
