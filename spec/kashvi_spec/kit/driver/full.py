"""Fake servers that refuse commands: those that need room, as a full Redis with ``noeviction``, or all writes.

As on a full Redis, a script's commands are refused only before its first write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import redis
from fakeredis._helpers import SimpleError

GROWS = frozenset({"lpush", "rpush", "zadd", "hset", "lmove", "blmove"})
SHRINKS = frozenset({"zrem", "lrem", "hdel", "ltrim", "zremrangebyscore"})


@contextmanager
def full(client: redis.Redis) -> Iterator[None]:
    """Make all fake servers full inside the block. ``client`` is one of fakeredis."""
    wrote = False

    def refused(name: str, from_script: bool) -> bool:
        nonlocal wrote
        wrote = wrote and from_script
        if name in GROWS and not wrote:
            return True
        wrote = wrote or name in GROWS | SHRINKS
        return False

    with _refusing(client, "OOM command not allowed when used memory > 'maxmemory'.", refused):
        yield


@contextmanager
def saying(client: redis.Redis, error: str, times: int = 1000) -> Iterator[None]:
    """Make fake servers answer the next ``times`` writing commands with this error, inside the block."""
    left = times

    def refused(name: str, from_script: bool) -> bool:
        nonlocal left
        left -= name in GROWS | SHRINKS
        return name in GROWS | SHRINKS and left >= 0

    with _refusing(client, error, refused):
        yield


@contextmanager
def _refusing(client: redis.Redis, error: str, refused: Callable[[str, bool], bool]) -> Iterator[None]:
    pool = client.connection_pool
    connection = pool.get_connection()
    socket: Any = type(connection._sock)
    pool.release(connection)
    real = socket._run_command

    def run(self: Any, function: Any, signature: Any, args: list[Any], from_script: bool) -> Any:
        if refused(signature.name, from_script):
            return SimpleError(error)
        return real(self, function, signature, args, from_script)

    with mock.patch.object(socket, "_run_command", run):
        yield
