"""The port ``Cancelling`` on Redis: marks in ``…:cancelled``, a ZSET of ids by the time of the mark."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..names import DEFAULT
from ..ports import READ_MAX_BYTES, Lock, Where
from .connection import Script
from .keys import ServerKeys

READ_MAX = 1000
"""The most entries that one call searches, so that it does not block the server for long."""
HELD_MAX_BYTES = 32 * 1024 * 1024
"""The most bytes that one call searches of a worker's list: all that kashvi's workers hold. Jobs go back from the end
at which it begins, hundreds at a time, so parts that overlap would not do."""
OVERLAP = 100
"""The number of entries that two parts share: as many cancelled jobs may be removed between them."""

_CLEAR, _GIVE_BACK = map(Script, ("clear.lua", "give_back.lua"))
_MARK, _MARKED, _SEARCH, _TAKE_OUT = map(Script, ("mark.lua", "marked.lua", "search.lua", "take_out.lua"))


class RedisCancels(ServerKeys):
    """The part of the driver that cancels jobs, and clears queues."""

    def mark(self, job_id: str) -> float:
        return float(self._server.run(_MARK, [self._cancelled], [job_id, self._now()]))

    def unmark(self, job_id: str, at: float) -> bool:
        """A mark's time is its own alone."""
        if self._server.call("ZREMRANGEBYSCORE", self._cancelled, repr(at), repr(at)):
            return True
        return self._server.call("ZSCORE", self._cancelled, job_id) is not None

    def marked(self, job_ids: Sequence[str]) -> list[str]:
        found = self._server.run(_MARKED, [self._cancelled], list(job_ids))
        return [job_ids[number - 1] for number in found]

    def search(self, text: bytes, where: Where, queue: str = DEFAULT) -> Iterator[bytes]:
        if where != "running":
            yield from self._searched(self._keys(queue)[where == "delayed"], text)
            return
        for raw in self._server.call("ZRANGE", self._workers, 0, -1):
            for key in self._lists(self._name(raw)):  # held before running: an announced job moves there
                yield from self._searched(key, text, HELD_MAX_BYTES)

    def _searched(self, key: Any, text: bytes, most_bytes: int = READ_MAX_BYTES) -> Iterator[bytes]:
        at, more = 0, True
        while more:
            read, more, found = self._server.run(_SEARCH, [key], [text, at, READ_MAX, most_bytes])
            yield from found
            at += read - min(OVERLAP, read // 2)

    def take_out(self, job_id: str, where: Where, queue: str, envelope: bytes, lock: Lock) -> float | None:
        key = self._keys(queue)[where == "delayed"]
        keys, args = [key, self._cancelled, self._unique], [envelope, job_id, lock[0], self._now()]
        at = self._server.run(_TAKE_OUT, keys, args)
        return float(at) if at else None

    def counts(self, queue: str) -> tuple[int, int]:
        ready, delayed = self._keys(queue)
        return self._server.call("LLEN", ready), self._server.call("ZCARD", delayed)

    def take_out_many(
        self, where: Where, queue: str, envelopes: Sequence[bytes], locks: Sequence[Lock]
    ) -> tuple[float, list[int]]:
        args = [part for envelope, lock in zip(envelopes, locks, strict=True) for part in (envelope, *lock)]
        key = self._keys(queue)[where == "delayed"]
        at, taken = self._server.run(_CLEAR, [key, self._unique], [self._now(), *args])
        return float(at), taken

    def holder_of(self, key: str) -> str:
        return (self._server.call("HGET", self._unique, key) or b"").decode()

    def give_back(self, key: str, job_id: str) -> bool:
        return bool(self._server.run(_GIVE_BACK, [self._unique], [key, job_id]))

    def queue_names(self) -> list[str]:
        return [DEFAULT, *(name for name in self._named() if name != DEFAULT)]
