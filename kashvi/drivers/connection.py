"""One command, one reply, over connections of our own: never re-sent, always bytes, errors named for what they mean."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from importlib.resources import files
from typing import Any, TypeVar

import redis
from redis import exceptions as said
from redis.exceptions import AuthenticationError, AuthorizationError, BusyLoadingError, NoScriptError, ResponseError

from ..errors import CommandRefused, DriverUnavailable, ReplyLost, SettingsRefused
from .pools import Blueprint

T = TypeVar("T")

BLOCK_MAX_S = 5.0
WORDS: dict[type[Exception], str] = {
    said.ReadOnlyError: "READONLY",
    said.BusyLoadingError: "LOADING",
    said.MasterDownError: "MASTERDOWN",
    said.ClusterDownError: "CLUSTERDOWN",
    said.OutOfMemoryError: "OOM",
    said.NoPermissionError: "NOPERM",
}
"""The words that the client takes off the head of an error's text."""
OF_THE_COMMAND = re.compile(r"\b(OOM|WRONGTYPE|NOPERM|BUSY)\b")
"""Refusals that say nothing about where the connection leads. Any other may mean: to a server that is not the right
one, or not any more (READONLY, MASTERDOWN, LOADING, CLUSTERDOWN, UNBLOCKED, NOREPLICAS …)."""

ARGUMENTS = re.compile(r",? with args beginning with:.*", re.DOTALL)
"""A server that does not know HELLO or AUTH says with what it was called."""


class Script:
    """A Lua file beside this module."""

    def __init__(self, name: str) -> None:
        self.text = files(__package__).joinpath(name).read_text("utf-8")
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


class Connections:
    """Commands to one server, with the settings of the client (or URL) the user gave."""

    def __init__(self, client: redis.Redis | str) -> None:
        self._blueprint = Blueprint(client)
        self.server = self._blueprint.server()
        self.limit = self._blueprint.limit
        """How many connections the client may have, where it says so."""
        self._renew()

    def call(self, *command: Any) -> Any:
        """Send one command once. Raises DriverUnavailable, ReplyLost, CommandRefused."""
        return self._send(command, 0.0)

    def call_patiently(self, seconds: float, *command: Any) -> Any:
        """As ``call``, of a command that the server may answer so much later."""
        return self._send(command, seconds)

    def run(self, script: Script, keys: list[str], args: list[Any]) -> Any:
        """Run a script. A server that does not know it has done nothing, so the text may follow."""
        try:
            return self.call("EVALSHA", script.sha, len(keys), *keys, *args)
        except NoScriptError:
            return self.call("EVAL", script.text, len(keys), *keys, *args)

    def _send(self, command: tuple[Any, ...], patience_s: float) -> Any:
        pool = self.pool()
        try:
            connection = pool.get_connection()
        except Exception as error:
            raise self._no_way_in(error) from self._cause(error)

        def ask() -> Any:
            connection.send_command(*command)
            if patience_s and not connection.can_read(timeout=patience_s + (connection.socket_timeout or 0.0)):
                raise redis.TimeoutError("Timeout reading from the server")
            return connection.read_response()

        try:
            return self.talk(connection, ask)
        finally:
            pool.release(connection)

    def own(self) -> Any:
        """One more connection, the caller's alone, that hears what is published (RESP3).

        Raises DriverUnavailable, and CommandRefused where the server has no RESP3.
        """
        try:
            connection = self.pool().connection_class(**(self.pool().connection_kwargs | {"protocol": 3}))
            connection.connect()
        except ResponseError as error:
            raise CommandRefused(self._text(error), self.server) from self._cause(error)
        except Exception as error:
            raise self._no_way_in(error) from self._cause(error)
        return connection

    def talk(self, connection: Any, ask: Callable[[], T]) -> T:
        """``ask()``, which uses the connection, with its errors named. Raises ReplyLost, CommandRefused."""
        pool = self._pool
        try:
            return ask()
        except NoScriptError:
            raise
        except (AuthenticationError, AuthorizationError) as error:
            connection.disconnect()
            raise SettingsRefused(self._text(error), self.server) from self._cause(error)
        except (ResponseError, BusyLoadingError) as error:
            text = self._text(error)
            if not OF_THE_COMMAND.search(text):
                connection.disconnect()
                self._give_up(pool)
            raise CommandRefused(text, self.server) from self._cause(error)
        except Exception as error:
            connection.disconnect()
            raise ReplyLost(self._text(error), self.server) from self._cause(error)
        except BaseException:
            connection.disconnect()  # a late reply must not answer the next command
            raise

    def _no_way_in(self, error: Exception) -> DriverUnavailable:
        if isinstance(error, AuthenticationError | AuthorizationError | ResponseError):
            return SettingsRefused(self._text(error), self.server)
        # a credential provider or a name's encoding may raise anything
        return DriverUnavailable(self._text(error) or type(error).__name__, self.server)

    def pool(self) -> redis.ConnectionPool:
        """The pool of this process: after a fork a fresh one, whose locks no thread of the parent holds."""
        if self._pid != os.getpid():
            self._renew()
        return self._pool

    def _renew(self) -> None:
        """Leave all connections; those in use end with their call."""
        self._pool = self._blueprint.pool()
        self._pid = os.getpid()

    def _give_up(self, pool: redis.ConnectionPool) -> None:
        """The next call connects anew, wherever the server's address leads then."""
        if self._pool is pool:
            self._renew()
            pool.disconnect(inuse_connections=False)

    def _text(self, error: Exception) -> str:
        """With the word at its head; without the password, which a server may repeat."""
        word, text = WORDS.get(type(error), ""), ARGUMENTS.sub("", str(error))
        if password := self._pool.connection_kwargs.get("password"):
            text = text.replace(str(password), "***")
        return f"{word} {text}" if word and not text.startswith(word) else text

    def _cause(self, error: Exception) -> Exception | None:
        """The error itself, unless it shows what its text must not."""
        return error if self._text(error).endswith(str(error)) else None
