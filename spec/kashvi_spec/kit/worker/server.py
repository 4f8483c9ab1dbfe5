"""Disturbances of the server, to test a worker. Each restores the server."""

from __future__ import annotations

import re

import redis

from kashvi.runtime import SystemRuntime

from .story import JOBS

MONITORED = re.compile(rb"^[0-9.]+ \[(\d+) (\S+)\] (.*)$")


def idle_commands(client: redis.Redis, others: set[str], seconds: float) -> list[str] | str:
    """The commands that clients other than these send to this database in ``seconds``; or why it can't be monitored.

    Commands inside a script do not count.
    """
    database = str(client.connection_pool.connection_kwargs.get("db") or 0).encode()
    monotonic = SystemRuntime().monotonic
    connection = client.connection_pool.get_connection()
    asked: list[str] = []
    try:
        connection.send_command("MONITOR")
        connection.read_response()
        ends = monotonic() + seconds
        while (left := ends - monotonic()) > 0:
            if not connection.can_read(timeout=left):
                break
            line = MONITORED.match(connection.read_response(disable_decoding=True))
            if line and line[1] == database and line[2] != b"lua" and line[2].decode() not in others:
                asked.append(line[3].decode("utf-8", "backslashreplace"))
    except redis.ResponseError as error:
        return f"the server does not allow MONITOR: {error}"
    finally:
        connection.disconnect()
        client.connection_pool.release(connection)
    return asked


def cut_off(client: redis.Redis, others: set[str]) -> str:
    """Close all connections except those of these clients and our own. Returns the reason if it can't, else empty."""
    client.connection_pool.disconnect()
    own = {one["addr"] for one in (client.client_info(),)}
    try:
        for one in client.client_list():
            if one["addr"] not in others | own:
                client.client_kill_filter(addr=one["addr"])
    except redis.ResponseError as error:
        return f"the server does not allow to close connections: {error}"
    return ""


def pause_writes(client: redis.Redis, seconds: float) -> str:
    """Block all writing for ``seconds``. Returns the reason if the server refuses, else empty."""
    try:
        client.execute_command("CLIENT PAUSE", int(seconds * 1000), "WRITE")
    except redis.ResponseError as error:
        return f"the server does not allow to block writing: {error}"
    return ""


def put_in_the_way(client: redis.Redis) -> bool:
    """Put a text in the place of the list of jobs; False if there is a list."""
    return bool(client.set(JOBS, "not a list, for a moment", nx=True))


def take_away(client: redis.Redis) -> None:
    if client.type(JOBS) == b"string":
        client.delete(JOBS)
