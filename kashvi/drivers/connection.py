"""Sends commands over kashvi's own connections: never twice, replies as bytes, errors as those of ``kashvi.errors``."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Callable
from contextlib import suppress
from importlib.resources import files
from typing import Any, TypeVar

import redis
from redis import exceptions as said
from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterCrossSlotError,
    MovedError,
    NoScriptError,
    ResponseError,
)

from ..errors import CommandRefused, DriverError, DriverUnavailable, InvalidSetting, ReplyLost, SettingsRefused
from ..text import without_password
from .cluster import NO_TAG, Nodes, has_hash_tag
from .pools import Address, Blueprint

T = TypeVar("T")

HOPS_MAX = 5
"""How often one call may be redirected to another node of a cluster. A node that redirects has done nothing."""

BLOCK_MAX_S = 5.0
WORDS: dict[type[Exception], str] = {
    said.ReadOnlyError: "READONLY",
    said.BusyLoadingError: "LOADING",
    said.MasterDownError: "MASTERDOWN",
    said.ClusterDownError: "CLUSTERDOWN",
    said.OutOfMemoryError: "OOM",
    said.NoPermissionError: "NOPERM",
    said.MovedError: "MOVED",
    said.AskError: "ASK",
    said.TryAgainError: "TRYAGAIN",
    said.ClusterCrossSlotError: "CROSSSLOT",
}
"""The error codes that redis-py strips from an error's text."""
OF_THE_COMMAND = re.compile(r"\b(OOM|WRONGTYPE|NOPERM|ACL failure|can't run this command|BUSY|TRYAGAIN|CROSSSLOT)\b")
"""Refusals of a command by the right server. Any other may mean that the connection leads to a wrong server (READONLY,
MASTERDOWN, LOADING, CLUSTERDOWN, UNBLOCKED, NOREPLICAS …)."""

ARGUMENTS = re.compile(r",? with args beginning with:.*", re.DOTALL)
"""A server without HELLO or AUTH repeats their arguments, and so the password, in its error."""


class Script:
    """A Lua file beside this module."""

    def __init__(self, name: str) -> None:
        self.text = files(__package__).joinpath(name).read_text("utf-8")
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


class Connections:
    """Connections to one server, or to the cluster node that owns the keys, with the settings of the user's client."""

    def __init__(self, client: redis.Redis | redis.RedisCluster | str, prefix: str) -> None:
        self._tagged = has_hash_tag(prefix)
        if isinstance(client, redis.RedisCluster) and not self._tagged:
            raise InvalidSetting("the prefix on a cluster", prefix, "one with a hash tag, like '{kashvi}:queue'")
        self._blueprint = Blueprint(client, prefix)
        self._nodes = Nodes(self._blueprint)
        self.limit = self._blueprint.limit
        """The client's limit of connections; None: no limit."""
        self._renew()

    def call(self, *command: Any) -> Any:
        """Send one command once. Raises DriverUnavailable, ReplyLost, CommandRefused."""
        return self._send(command, 0.0)

    def call_patiently(self, seconds: float, *command: Any) -> Any:
        """As ``call``, with ``seconds`` more for the reply."""
        return self._send(command, seconds)

    def run(self, script: Script, keys: list[str], args: list[Any]) -> Any:
        """Run a script by its hash, or by its text if the server lacks it (it has done nothing then)."""
        try:
            return self.call("EVALSHA", script.sha, len(keys), *keys, *args)
        except NoScriptError:
            return self.call("EVAL", script.text, len(keys), *keys, *args)

    @property
    def server(self) -> str:
        """The server's name in errors."""
        here = self._nodes.here
        return f"{here[0]}:{here[1]}" if here else self._blueprint.server()

    def _send(self, command: tuple[Any, ...], patience_s: float) -> Any:
        asked: Address | None = None
        for hop in range(HOPS_MAX):
            pool = self.pool() if asked is None else self._blueprint.pool(asked)
            try:
                return self._once(pool, command, patience_s, asking=asked is not None)
            except DriverError as error:
                moved = error.__cause__
                lost = isinstance(error, DriverUnavailable) and not isinstance(error, SettingsRefused)
                asked = self._nodes.named_by(moved) if type(moved) is AskError else None
                goes_on = asked or isinstance(moved, MovedError) or (lost and self._nodes.several and not hop)
                if not goes_on or not self._tagged or hop == HOPS_MAX - 1:
                    raise
        raise AssertionError("not reached")

    def _once(self, pool: redis.ConnectionPool, command: tuple[Any, ...], patience_s: float, *, asking: bool) -> Any:
        try:
            connection = pool.get_connection()
        except Exception as error:
            self._leave_node(pool)
            raise self._no_way_in(error) from self._cause(error)

        def ask() -> Any:
            if asking:
                connection.send_command("ASKING")
                connection.read_response()
            connection.send_command(*command)
            if patience_s and not connection.can_read(timeout=patience_s + (connection.socket_timeout or 0.0)):
                raise redis.TimeoutError("Timeout reading from the server")
            return connection.read_response()

        try:
            return self.talk(connection, ask)
        finally:
            pool.release(connection)

    def own(self) -> Any:
        """A new connection for the caller alone, with RESP3, so that it can get published messages.

        Raises DriverUnavailable, and CommandRefused if the server has no RESP3.
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
        """Call ``ask``, which uses the connection, and translate its errors. Raises ReplyLost, CommandRefused."""
        pool = self._pool
        try:
            return ask()
        except NoScriptError:
            raise
        except (AuthenticationError, AuthorizationError) as error:
            connection.disconnect()
            raise SettingsRefused(self._text(error), self.server) from self._cause(error)
        except (AskError, ClusterCrossSlotError) as error:
            raise self._elsewhere(error, pool) from error
        except (ResponseError, BusyLoadingError) as error:
            if "No matching script" in str(error):  # a proxy stripped the code NOSCRIPT
                raise NoScriptError(str(error)) from error
            text, server = self._text(error), self.server
            if not OF_THE_COMMAND.search(text):
                connection.disconnect()
                self._leave_node(pool)
                self._give_up(pool)
            raise CommandRefused(text, server) from self._cause(error)
        except Exception as error:
            connection.disconnect()
            server = self.server
            self._leave_node(pool)
            raise ReplyLost(self._text(error), server) from self._cause(error)
        except BaseException:
            connection.disconnect()  # a late reply must not answer the next command
            raise

    def _elsewhere(self, error: ResponseError, pool: redis.ConnectionPool) -> CommandRefused | SettingsRefused:
        """Make the next call go to the cluster node that the error names."""
        text, server = self._text(error), self.server
        if not self._tagged or not isinstance(error, AskError):
            return SettingsRefused(f"{text}: {NO_TAG}", server)
        if isinstance(error, MovedError) and self._blueprint.address:
            self._nodes.follow(error)
            self._give_up(pool)
            self._meet_nodes()
        return CommandRefused(text, server)

    def _meet_nodes(self) -> None:
        """Learn the other nodes' addresses, in case this one dies. Without an answer, keep the known ones."""
        pool = self.pool()
        with suppress(Exception):
            connection = pool.get_connection()
            try:
                connection.send_command("CLUSTER", "SLOTS")
                self._nodes.told(connection.read_response())
            except BaseException:
                connection.disconnect()
                raise
            finally:
                pool.release(connection)

    def _leave_node(self, pool: redis.ConnectionPool) -> None:
        """On a cluster, make the next call go to another node."""
        if self._nodes.several and self._pool is pool:
            self._nodes.stray()
            self._give_up(pool)

    def _no_way_in(self, error: Exception) -> DriverUnavailable:
        if isinstance(error, AuthenticationError | AuthorizationError | ResponseError):
            return SettingsRefused(self._text(error), self.server)
        # a credential provider or the encoding of a host name may raise anything
        return DriverUnavailable(self._text(error) or type(error).__name__, self.server)

    def pool(self) -> redis.ConnectionPool:
        """The pool of this process, a fresh one after a fork: a thread of the parent may hold the old one's lock."""
        if self._pid != os.getpid():
            self._renew()
        return self._pool

    def _renew(self) -> None:
        """Replace the pool. Connections in use end with their call."""
        self._pool = self._blueprint.pool(self._nodes.here)
        self._pid = os.getpid()

    def _give_up(self, pool: redis.ConnectionPool) -> None:
        """Make the next call connect anew: the server's address may lead elsewhere by then."""
        if self._pool is pool:
            self._renew()
            with contextlib.suppress(TypeError):  # a blocking pool of redis-py 6 closes all or none
                pool.disconnect(inuse_connections=False)

    def _text(self, error: Exception) -> str:
        """The error's text with its code, and without the password, which a server may repeat."""
        word, text = WORDS.get(type(error), ""), ARGUMENTS.sub("", str(error))
        if password := self._pool.connection_kwargs.get("password"):
            text = without_password(text, str(password))
        return f"{word} {text}" if word and not text.startswith(word) else text

    def _cause(self, error: Exception) -> Exception | None:
        """The error itself; None if it shows a password."""
        return error if self._text(error).endswith(str(error)) else None
