"""One command, one reply, over connections of our own: never re-sent, always bytes, errors named for what they mean."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib.resources import files
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, NoScriptError, ResponseError
from redis.retry import Retry

from ..errors import CommandRefused, DriverUnavailable, InvalidSetting, ReplyLost

T = TypeVar("T")

REPLY_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 5.0
BLOCK_MAX_S = 5.0
_OF_A_POOL = ("himport_registry", "event_dispatcher", "oss_cluster_maint_notifications_handler")


class Script:
    """A Lua file beside this module."""

    def __init__(self, name: str) -> None:
        self.text = files(__package__).joinpath(name).read_text("utf-8")
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


class Connections:
    """Commands to one server, with the settings of the client (or URL) the user gave."""

    def __init__(self, client: redis.Redis | str) -> None:
        try:
            given = redis.Redis.from_url(client) if isinstance(client, str) else client
        except ValueError:
            raise InvalidSetting("the Redis URL", client, "a redis://, rediss:// or unix:// URL", secret=True) from None
        if not isinstance(given, redis.Redis):
            raise InvalidSetting("the Redis client", type(client).__name__, "a redis.Redis or a URL")
        self._pool = _own_pool(given.connection_pool)
        kwargs = self._pool.connection_kwargs
        try:
            self._pool.connection_class(**kwargs)
        except (TypeError, ValueError) as error:
            raise InvalidSetting("the Redis URL", "as given", f"without options that nobody knows ({error})") from None
        self.server = (
            f"{kwargs.get('path') or '{}:{}'.format(kwargs.get('host', 'localhost'), kwargs.get('port', 6379))}"
        )

    def call(self, *command: Any) -> Any:
        """Send one command once. Raises DriverUnavailable, ReplyLost, CommandRefused."""
        try:
            connection = self._pool.get_connection()
        except Exception as error:  # a credential provider or a name's encoding may raise anything
            raise DriverUnavailable(str(error) or type(error).__name__, self.server) from error

        def ask() -> Any:
            connection.send_command(*command, check_health=False)
            return connection.read_response()

        try:
            return self.talk(connection, ask)
        finally:
            self._pool.release(connection)

    def own(self) -> Any:
        """One more connection, the caller's alone, that hears what is published (RESP3).

        Raises DriverUnavailable, and CommandRefused where the server has no RESP3.
        """
        try:
            settings = self._pool.connection_kwargs | {"protocol": 3}
            connection = self._pool.connection_class(**settings)
            connection.connect()
        except ResponseError as error:
            raise CommandRefused(str(error), self.server) from error
        except Exception as error:
            raise DriverUnavailable(str(error) or type(error).__name__, self.server) from error
        return connection

    def talk(self, connection: Any, ask: Callable[[], T]) -> T:
        """``ask()``, which uses the connection, with its errors named. Raises ReplyLost, CommandRefused."""
        try:
            return ask()
        except NoScriptError:
            raise
        except (ResponseError, BusyLoadingError) as error:
            raise CommandRefused(str(error), self.server) from error
        except Exception as error:
            connection.disconnect()
            raise ReplyLost(str(error), self.server) from error
        except BaseException:
            connection.disconnect()  # a late reply must not answer the next command
            raise

    def run(self, script: Script, keys: list[str], args: list[Any]) -> Any:
        """Run a script. A server that does not know it has done nothing, so the text may follow."""
        try:
            return self.call("EVALSHA", script.sha, len(keys), *keys, *args)
        except NoScriptError:
            return self.call("EVAL", script.text, len(keys), *keys, *args)


def _own_pool(theirs: redis.ConnectionPool) -> redis.ConnectionPool:
    kwargs = {
        key: value
        for key, value in theirs.connection_kwargs.items()
        if key not in _OF_A_POOL and not key.startswith(("orig_", "maint_", "maintenance_"))
    }
    kwargs |= {
        "decode_responses": False,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_timeout": False,
        "retry_on_error": [],
        "health_check_interval": 0,
        "socket_timeout": REPLY_TIMEOUT_S,
        "socket_connect_timeout": kwargs.get("socket_connect_timeout") or CONNECT_TIMEOUT_S,
        "socket_keepalive": True,
    }
    if theirs.connection_class is redis.UnixDomainSocketConnection:
        del kwargs["socket_connect_timeout"], kwargs["socket_keepalive"]
    if isinstance(theirs, redis.sentinel.SentinelConnectionPool):
        return redis.sentinel.SentinelConnectionPool(theirs.service_name, theirs.sentinel_manager, **kwargs)
    try:
        from redis.maint_notifications import MaintNotificationsConfig
    except ImportError:
        pass
    else:
        kwargs["maint_notifications_config"] = MaintNotificationsConfig(enabled=False)
    return redis.ConnectionPool(connection_class=theirs.connection_class, **kwargs)
