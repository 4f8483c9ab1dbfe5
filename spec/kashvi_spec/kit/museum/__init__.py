"""The museum of known-bad implementations: small overrides of kashvi, each of which some clause must reject.

A check that accepts all of them checks nothing. Many are real bugs of other queues; ``source`` names the queue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol
from unittest import mock


class Patch(Protocol):
    """The tool that plants a bug; pytest's ``monkeypatch`` is one."""

    def setattr(self, target: object, name: str, value: object, /) -> None: ...


Plant = Callable[[Patch], None]


@dataclass(frozen=True)
class Exhibit:
    """A bug and the clauses that reject it; or a legal variant."""

    name: str
    about: str
    source: str
    """The origin of the bug."""
    clauses: frozenset[str]
    """Its own clauses, which forbid the bug. Of a legal variant: the clauses whose freedom it uses."""
    also: frozenset[str]
    """Clauses that reject a consequence of the bug. No other clause rejects it."""
    plant: Plant
    area: str = ""
    legal: bool = False

    @contextmanager
    def planted(self) -> Iterator[None]:
        """Plant the bug in kashvi inside the context."""
        with ExitStack() as stack:
            self.plant(_Until(stack))
            yield


class _Until:
    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def setattr(self, target: object, name: str, value: Any, /) -> None:
        self._stack.enter_context(mock.patch.object(target, name, value))


MUSEUM: dict[str, Exhibit] = {}
"""Known-bad implementations, by name."""
VARIANTS: dict[str, Exhibit] = {}
"""Legal variants by name. A clause that rejects one demands too much."""


def where(patch: Patch, target: Any, name: str, condition: Callable[..., bool], instead: Callable[..., Any]) -> None:
    """Replace a function only if ``condition(*args)`` holds: ``instead(real, *args)`` is called then.

    A clause whose checks never meet the condition need not be tried.
    """
    real = getattr(target, name)

    def changed(*args: Any, **named: Any) -> Any:
        return instead(real, *args, **named) if condition(*args, **named) else real(*args, **named)

    changed.condition = condition  # type: ignore[attr-defined]
    patch.setattr(target, name, changed)


def value(
    patch: Patch, module: Any, name: str, instead: object, reader: Any, call: str, when: Callable[..., bool]
) -> None:
    """Change a module's value at the first ``reader.call(…)`` for which ``when`` holds, before anything reads it.

    A clause whose checks make no such call need not be tried.
    """

    def changed(real: Any, *args: Any, **named: Any) -> Any:
        patch.setattr(module, name, instead)
        return real(*args, **named)

    where(patch, reader, call, when, changed)


def exhibit(name: str, about: str, clauses: str, *, source: str = "ours", also: str = "") -> Callable[[Plant], Plant]:
    """Add a bug to the museum. ``clauses``, ``also``: ids, separated by blanks."""

    def note(plant: Plant) -> Plant:
        own = clauses.split()
        area = own[0].rpartition("-")[0].lower()
        _show(MUSEUM, Exhibit(name, about, source, frozenset(own), frozenset(also.split()), plant, area))
        return plant

    return note


def variant(name: str, about: str, clauses: str) -> Callable[[Plant], Plant]:
    """Add a legal variant."""

    def note(plant: Plant) -> Plant:
        own = frozenset(clauses.split())
        _show(VARIANTS, Exhibit(name, about, "", own, frozenset(), plant, "legal variants", legal=True))
        return plant

    return note


def _show(room: dict[str, Exhibit], exhibit: Exhibit) -> None:
    assert exhibit.name not in MUSEUM | VARIANTS, exhibit.name
    room[exhibit.name] = exhibit


from . import (  # noqa: E402
    cancels,  # noqa: F401
    chains,  # noqa: F401
    clearing,  # noqa: F401
    commands,  # noqa: F401
    cron,  # noqa: F401
    dashboard,  # noqa: F401
    delays,  # noqa: F401
    dispatching,  # noqa: F401
    envelope,  # noqa: F401
    exchanges,  # noqa: F401
    failures,  # noqa: F401
    follow_ups,  # noqa: F401
    history,  # noqa: F401
    jobs,  # noqa: F401
    leases,  # noqa: F401
    memory,  # noqa: F401
    outbox,  # noqa: F401
    pausing,  # noqa: F401
    policies,  # noqa: F401
    processes,  # noqa: F401
    queues,  # noqa: F401
    redis,  # noqa: F401
    retries,  # noqa: F401
    sent_back,  # noqa: F401
    serving,  # noqa: F401
    stops,  # noqa: F401
    suspects,  # noqa: F401
    table,  # noqa: F401
    timeouts,  # noqa: F401
    unique,  # noqa: F401
    variants,  # noqa: F401
    workers,  # noqa: F401
)
