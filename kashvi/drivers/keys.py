"""The keys of a queue on a server."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..names import DEFAULT, is_queue, queue_name

if TYPE_CHECKING:  # the memory driver does not load redis
    from .connection import Connections


class ServerKeys:
    """The server's connections, and the keys under the queue's prefix. The parts of the driver for Redis share it."""

    def __init__(self, server: Connections, prefix: str, server_now: Callable[[], float] | None) -> None:
        self._server = server
        self.prefix = prefix
        self._server_now = server_now
        self._odd: dict[str, bytes] = {}
        """Worker names of other programs that are not UTF-8, by their escaped text."""
        names = "jobs delayed workers exchanges unrecorded retried paused names serves unique cron cancelled"
        (
            self._jobs, self._delayed, self._workers, self._exchanges, self._unrecorded, self._retried,
            self._paused, self._names, self._serves, self._unique, self._cron, self._cancelled,
        ) = (f"{prefix}:{name}" for name in names.split())  # fmt: skip

    def _now(self) -> str:
        return repr(self._server_now()) if self._server_now else ""

    def _keys(self, queue: str) -> tuple[str, str]:
        """The queue's jobs, and its delayed ones."""
        if queue == DEFAULT:
            return self._jobs, self._delayed
        start = f"{self.prefix}:{queue_name(queue)}"
        return f"{start}:jobs", f"{start}:delayed"

    def _lists(self, worker: str) -> list[Any]:
        keys = [f"{self.prefix}:held:", f"{self.prefix}:running:"]
        odd = self._odd.get(worker)
        return [key + worker for key in keys] if odd is None else [key.encode() + odd for key in keys]

    def _name(self, raw: bytes) -> str:
        """A worker's name as text. Names of kashvi's workers are ASCII; another program's may be any bytes."""
        name = raw.decode("utf-8", "backslashreplace")
        if name.encode() != raw:
            self._odd[name] = raw
        return name

    def _named(self) -> list[str]:
        """The names of all queues. Another program's that is no name becomes part of no key."""
        found = {name.decode("utf-8", "replace") for name in self._server.call("SMEMBERS", self._names)}
        return sorted({DEFAULT, *filter(is_queue, found)})
