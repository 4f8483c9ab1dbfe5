"""The port of drivers to which a relay pushes the rows of an outbox.

One relay of an outbox at a time is let in, by its token, and its pushes are numbered: so a request that is repeated, or
arrives late, changes nothing. The server keeps the ids of the jobs that it was given, until their rows are deleted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from .names import DEFAULT
from .ports import NO_LOCK, Lock

RELAY_S = 5.0
"""How long a relay has its outbox to itself after its last request. Then another may take it over."""


class Stored(NamedTuple):
    """A row of an outbox, to be pushed."""

    job_id: str
    envelope: bytes
    in_s: float = 0.0
    """Seconds from now until it is due; 0: it is ready at once."""
    queue: str = DEFAULT
    lock: Lock = NO_LOCK
    """It is not added if another job has the key."""


class Relayed(NamedTuple):
    """The answer to a push."""

    done_at: float
    """The server's time when this push was carried out."""
    by: list[str]
    """Of each row, the push that added its job, as ``push_name`` has it: this one, or an earlier one."""
    holders: list[str]
    """Of each row, the id of the job that had its key then: it was not added. Empty: it was."""


def push_name(token: str, n: int) -> str:
    """The name of a push."""
    return f"{token} {n}"


@runtime_checkable
class Relaying(Protocol):
    """A driver to which outboxes are relayed. Its methods raise DriverError, as those of ``Driver`` do."""

    @property
    def relay_target(self) -> str:
        """The name of this queue in the rows of an outbox: relays take only rows of their own queue."""

    def take_relay(self, outbox: str, token: str, before: str) -> list[str] | float:
        """Let in the relay with this new token: if the last one's time is over, if it lies too far ahead (the clock
        was set back), or if its token was ``before``, which is this relay's own. Returns the ids of the jobs that were
        pushed and whose rows may still be there; or the seconds after which to ask again. Every request needs a token
        of its own: one without an answer may be carried out later.
        """

    def relay(
        self, outbox: str, token: str, n: int, rows: Sequence[Stored], gone: Sequence[str], for_s: float = RELAY_S
    ) -> Relayed | None:
        """Forget the ids in ``gone``, whose rows are deleted; then add the jobs of all rows that were not pushed yet,
        in order; and let the relay in for ``for_s`` more: one step. None, and nothing done, for any token but that of
        the relay that was let in last. ``n`` grows by one from push to push; a repeated or lower one changes nothing
        but answers.
        """
