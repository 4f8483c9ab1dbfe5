"""Waiting on Redis for a job, on a connection that also listens to the bell.

BLMOVE returns for a ready job, but not for a delayed one that becomes due meanwhile. So a driver that delays a job for
less than a wait rings the bell: it publishes the due time. A waiting connection is subscribed, gets the message in the
middle of a BLMOVE (RESP3), and ends that by CLIENT UNBLOCK. If the server refuses any of this, waits end by themselves,
and a job delayed for less than 0.6 s may start up to that much late.

BLMOVE waits for one list. A job that comes to another queue of the worker rings as well: its push publishes the time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..errors import CommandRefused, DriverError, DriverUnavailable, ReplyLost
from ..ports import WAIT_MAX_S
from ..runtime import SystemRuntime
from .connection import Connections

SLACK_S = 0.002
"""How long a wait that must end on time may take to end by itself."""


class Listener(NamedTuple):
    """A connection that has subscribed to bells, and its number on the server."""

    connection: Any
    number: int
    bells: Sequence[str]


class Call(NamedTuple):
    """A wait to make: on one list, listening to bells."""

    source: str
    target: str
    seconds: float
    bells: Sequence[str]
    first_due: Callable[[], float | None]
    """When the first of their jobs is due: asked after a subscription, which may have missed a bell."""


class Waits:
    """A driver's waits. Each has its own connection, which the next wait reuses."""

    def __init__(self, server: Connections) -> None:
        self._server = server
        self._monotonic = SystemRuntime().monotonic
        self._renew()

    def wait(self, call: Call) -> bytes | float | None:
        """The next job, moved to ``target``; or the due time of a job that becomes due before the end; or None."""
        if self._server.pool() is not self._pool:  # after a fork, or after a failover
            self._renew()
        slots = self._slots
        if slots is None:
            return self._wait(call)
        try:
            slots.pop()
        except IndexError:
            raise self._no_connection() from None
        try:
            return self._wait(call)
        finally:
            slots.append(None)

    def _renew(self) -> None:
        limit = self._server.limit
        self._free: list[Listener] = []
        self._slots: list[None] | None = None if limit is None else [None] * min(limit - 1, 1)
        """With limited connections, at most one waits, besides those of the pool."""
        self._deaf = False
        """True if the server refuses a command that listening needs."""
        self._pool = self._server.pool()

    def _no_connection(self) -> CommandRefused:
        return CommandRefused("the client's max_connections leave none to wait on", self._server.server)

    def _wait(self, call: Call) -> bytes | float | None:
        seconds = call.seconds
        move = ("BLMOVE", call.source, call.target, "RIGHT", "LEFT", f"{seconds:.3f}")
        free = self._free
        listener, due = self._listener(call)
        if listener is None:
            if self._server.limit == 2:
                raise self._no_connection()
            found: bytes | None = self._server.call_patiently(seconds, *move)
            return found
        try:
            if due is None:
                heard = self._server.talk(listener.connection, lambda: self._listen(listener, move, seconds))
            else:
                heard = due
        except BaseException:
            listener.connection.disconnect()
            raise
        free.append(listener)
        return heard

    def _listener(self, call: Call) -> tuple[Listener | None, float | None]:
        """A listener for the next wait, or None; and the due time of a job that was delayed meanwhile, or None."""
        while self._free:
            listener = next((one for one in reversed(self._free) if one.bells == call.bells), self._free[-1])
            self._free.remove(listener)
            try:
                if listener.bells == call.bells:
                    return listener, self._missed(listener)
            except Exception:
                """The server closed it; nothing was sent."""
            listener.connection.disconnect()
        if self._deaf:
            return None, None
        try:
            return self._subscribe(call.bells), call.first_due()
        except CommandRefused:
            self._deaf = True
            return None, None

    def _missed(self, listener: Listener) -> float | None:
        due: list[float] = []
        while listener.connection.can_read(timeout=0):
            said = listener.connection.read_response(push_request=True)
            due += [float(said[2])] if said[0] == b"message" else []
        return min(due, default=None)

    def _subscribe(self, bells: Sequence[str]) -> Listener:
        connection = self._server.own()

        def ask() -> int:
            connection.send_command("SUBSCRIBE", *bells)
            for _ in bells:
                connection.read_response(push_request=True)
            connection.send_command("CLIENT", "ID")  # some servers refuse commands on a subscribed connection
            number: int = connection.read_response()
            connection.send_command("CLIENT", "UNBLOCK", number)  # checks the permission
            connection.read_response()
            return number

        try:
            return Listener(connection, self._server.talk(connection, ask), bells)
        except ReplyLost as error:
            raise DriverUnavailable(str(error), self._server.server) from error  # nothing was moved
        except BaseException:
            connection.disconnect()
            raise

    def _listen(self, listener: Listener, move: tuple[Any, ...], seconds: float) -> bytes | float | None:
        connection = listener.connection
        connection.send_command(*move, check_health=False)
        exact = seconds < WAIT_MAX_S  # the server's own timer is up to 100 ms late
        ends = self._monotonic() + seconds + (SLACK_S if exact else connection.socket_timeout)
        due: float | None = None
        while True:
            if not connection.can_read(timeout=max(ends - self._monotonic(), 0.0)):
                if not exact:
                    raise TimeoutError("no reply to BLMOVE")
                exact, ends = False, self._unblock(listener)
                continue
            said = connection.read_response(push_request=True)
            if not isinstance(said, list):
                return due if said is None else said
            if said[0] == b"message":
                due = float(said[2]) if due is None else min(due, float(said[2]))
                exact, ends = False, self._unblock(listener)

    def _unblock(self, listener: Listener) -> float:
        """End the wait; returns the deadline of its reply."""
        try:
            self._server.call("CLIENT", "UNBLOCK", listener.number)
        except DriverError:
            self._deaf = True  # the wait ends by itself
        return self._monotonic() + float(listener.connection.socket_timeout)
