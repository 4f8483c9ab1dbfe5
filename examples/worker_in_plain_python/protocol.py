"""The requests to the server: ``spec/protocol.md`` in plain Python, with redis-py and one script."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

EXCHANGE = Path(__file__).with_name("exchange.lua").read_text()
LOOK = """
local time, first = redis.call('TIME'), redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
return {
  redis.call('ZSCORE', KEYS[1], 'default') and 1 or 0,
  first[2] and string.format('%.17g', math.max(first[2] - now, 0)) or '',
}
"""
"""Is the queue paused, and when is its first delayed job due? One command of an idle worker, not three."""


class Settlement(NamedTuple):
    """One change to one job. ``move``: done, retry, fail, return, start, leave."""

    move: str
    owner: str | bytes
    place: str = "held"
    old: bytes = b""
    new: bytes = b""
    in_s: float = 0.0
    lease_end: float | None = None
    """Of another worker: as it was read."""
    follow_ups: Sequence[tuple[bytes, float, str]] = ()
    """done: envelopes to add, each with the seconds until it is due (0: at once) and its queue."""
    queue: str = "default"
    """Where retry and return put it."""
    lock: tuple[str, str] = ("", "")
    """The key of a unique job, and its id: done and fail give it back."""
    job_id: str = ""
    """If the job is marked as cancelled, retry, fail and return only remove it."""
    link: bool = False
    """done: the last of the follow-ups is the next link of a chain, which a cancelled job ends."""


class Left(NamedTuple):
    """What a dead worker has left: its jobs, newest first, and when its lease ended."""

    held: list[bytes]
    running: list[bytes]
    lease_end: float


class Answer(NamedTuple):
    """The answer to an exchange. ``listing``: on a repeated number, held and running, both oldest first."""

    server_at: float
    settled_at: float
    refused: list[int]
    claimed: list[bytes]
    holding: int
    ready: int
    unrecorded: int
    next_due_s: float | None
    listing: tuple[list[bytes], list[bytes]] | None
    paused: bool
    cancelled: list[int]
    """The settlements of cancelled jobs, which were removed instead."""
    marked_at: float | None
    """When the newest job was cancelled. This worker asks for no marks: it ends the attempt that it has."""
    unsendable: list[tuple[int, int]]
    """Of refused settlements: the first follow-up that can't be added. This worker has none."""


class Server:
    """The keys of one queue. ``now`` replaces the server's clock in a test.

    Every method raises redis.RedisError; if it is a ResponseError, nothing was done.
    """

    def __init__(self, client: Any, prefix: str = "kashvi:queue", now: Callable[[], float] | None = None) -> None:
        self._client = client
        self._prefix = prefix
        self._time = now
        self._exchange = client.register_script(EXCHANGE)
        self._look = client.register_script(LOOK)
        self._known: set[str] = set()

    def push(self, envelopes: Sequence[bytes], delay_s: float = 0.0) -> float | None:
        if delay_s <= 0:
            self._client.lpush(self._key("jobs"), *envelopes)
            return None
        due = self.now() + delay_s
        self._client.zadd(self._key("delayed"), dict.fromkeys(envelopes, due))
        if delay_s < 0.6:
            self._client.publish(self._key("delayed"), repr(due))
        return due

    def exchange(self, worker: str, n: int, lease_s: float, settlements: Sequence[Settlement], want: int) -> Answer:
        args: list[Any] = [worker, n, repr(lease_s), want, repr(self._time()) if self._time else ""]
        for one in settlements:
            lease_end = "" if one.lease_end is None else repr(one.lease_end)
            wait_s = repr(one.in_s) if one.move != "done" else int(one.link)
            args += (one.move, one.owner, one.place, one.old, one.new, wait_s, lease_end)
            args += (one.queue, one.lock[0], one.job_id or one.lock[1], len(one.follow_ups))
            for envelope, in_s, queue, *_ in one.follow_ups:
                args += (envelope, repr(in_s), queue)
        (
            now, settled_at, refused, holding, ready, unrecorded, next_due, claimed, repeated, held, running,
            paused, marked_at,
        ) = self._exchange([self._prefix], args)  # fmt: skip
        self._known.add(worker)
        return Answer(
            float(now),
            float(settled_at),
            [int(one.partition(b"!")[0]) for one in refused.split() if one.isdigit() or b"!" in one],
            claimed,
            holding,
            ready,
            unrecorded,
            float(next_due) if next_due else None,
            (held[::-1], running[::-1]) if repeated else None,
            bool(paused),
            [int(one[1:]) for one in refused.split() if one[:1] == b"c"],
            float(marked_at) if marked_at else None,
            [
                (int(index), int(number))
                for index, number in (one.split(b"!") for one in refused.split() if b"!" in one)
            ],
        )

    def wait(self, worker: str, seconds: float) -> bytes | None:
        """Claim one job, waiting up to ``seconds`` for it."""
        if worker not in self._known:
            self._client.zadd(self._key("workers"), {worker: self.now() + 30.0}, nx=True)
            self._known.add(worker)
        move = (self._key("jobs"), f"{self._key('held')}:{worker}")
        claimed: bytes | None = (
            self._client.blmove(*move, seconds, "RIGHT", "LEFT")
            if seconds > 0
            else self._client.lmove(*move, "RIGHT", "LEFT")
        )
        return claimed

    def look(self) -> tuple[bool, float | None]:
        """Whether the queue is paused; and the seconds until its first delayed job is due, or None."""
        paused, due = self._look([self._key("paused"), self._key("delayed")])
        return bool(paused), float(due) if due else None

    def dead(self) -> tuple[dict[bytes, Left], list[bytes]]:
        """What each worker has left whose lease ran out; and the workers gone for good."""
        now = self.now()
        found = {}
        gone = []
        for owner, ends in self._client.zrangebyscore(self._key("workers"), "-inf", now, withscores=True):
            pipe = self._client.pipeline(transaction=True)  # both at one moment
            for place in ("running", "held"):
                pipe.lrange(self._key(place).encode() + b":" + owner, 0, -1)
            running, held = pipe.execute()
            if held or running:
                found[owner] = Left(held, running, ends)
            elif ends <= now - 3600:
                gone.append(owner)
        return found, gone

    def unrecorded(self, limit: int) -> list[tuple[bytes, float]]:
        found: list[tuple[bytes, float]] = self._client.zrange(self._key("unrecorded"), 0, limit - 1, withscores=True)
        return found

    def recorded(self, envelopes: Sequence[bytes]) -> None:
        self._client.zrem(self._key("unrecorded"), *envelopes)

    def now(self) -> float:
        if self._time:
            return self._time()
        seconds, micros = self._client.time()
        return float(seconds) + float(micros) / 1e6

    def _key(self, name: str) -> str:
        return f"{self._prefix}:{name}"
