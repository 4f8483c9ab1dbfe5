"""The queue on Redis or Valkey (6.2 and later), under the documented keys.

``…:jobs`` is a LIST, in at the left, out at the right; ``…:delayed`` a ZSET scored by Unix seconds. Beside them:
``…:held:<worker>`` (claimed jobs) and ``…:running:<worker>`` (announced ones), ``…:workers`` (ends of leases),
``…:exchanges`` (the last answer to each worker), ``…:unrecorded`` (exhausted jobs that are in no table yet) and
``…:retried``; ``…:paused``, while a queue is paused; ``…:cancelled`` (ids of cancelled jobs); ``…:cron`` (the last tick
of each entry). A named queue has ``…:<name>:jobs`` and ``…:<name>:delayed``; ``…:names`` and ``…:serves`` (who serves
which queues) are there for people who look, and so are ``…:about`` and ``…:counts:<minute>``, see ``reports.py``: only
the latter has a TTL. ``…:delayed`` also names a channel, and so does the list of a named queue, see ``bell.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import redis

from ..errors import CommandRefused, InvalidSetting, SettingsRefused
from ..named import QueueStats
from ..names import DEFAULT, queue_name
from ..ports import (
    FIRST_LEASE_S,
    GONE_AFTER_S,
    NO_LOCK,
    PAUSED,
    READ_MAX_BYTES,
    Exchange,
    Expired,
    Lock,
    LostDelivery,
    Paused,
    Place,
    Settlement,
    Shown,
    Stats,
    Unrecorded,
    Want,
    Where,
    worker_name,
)
from ..ticking import TICK_AHEAD_S, TICK_OLD_S, Ask, Ticked
from .bell import Call, Waits
from .cancelling import RedisCancels
from .connection import BLOCK_MAX_S, Connections, Script
from .health import Health, read_health
from .paged import PagedOnServer
from .pages import pages
from .relays import RelayedToServer
from .reports import ReportedToServer

CHUNK_MAX = 500
"""The most jobs that a script moves in one command: Lua passes not many more arguments safely."""
OWNERS_MAX = 50
"""The most dead workers whose lists one call reads, so that the server is not blocked for long."""

_EXCHANGE, _DELAY, _DUE, _EXPIRED, _KNOWN, _LISTED = map(
    Script, ("exchange.lua", "delay.lua", "due.lua", "expired.lua", "known.lua", "listed.lua")
)
_PAUSE, _PUSH, _QUEUES, _RETRIED, _RIGHTS, _STATS, _UNRECORDED = map(
    Script, ("pause.lua", "push.lua", "queues.lua", "retried.lua", "rights.lua", "stats.lua", "unrecorded.lua")
)
_TICK = Script("tick.lua")


class RedisDriver(RelayedToServer, RedisCancels, PagedOnServer, ReportedToServer):
    """A process's handle on a queue in Redis.

    ``client`` is a ``redis.Redis``, a ``redis.RedisCluster`` or a URL; the driver opens connections of its own with
    the same settings (REDIS-6). ``prefix`` goes before every key; with a hash tag, ``{kashvi}:queue``, all keys share
    a slot, as a Redis Cluster requires (REDIS-14). ``server_now`` replaces the server's clock, for simulations of a
    real server in virtual time. Raises InvalidSetting.
    """

    follows_up = True
    names_queues = True
    keeps_ticks = True
    _RELAY, _PAGE, _HOLDERS = map(Script, ("relay.lua", "page.lua", "holders.lua"))
    _REPORT, _REPORTS, _COUNTED = map(Script, ("report.lua", "reports.lua", "counted.lua"))

    def __init__(
        self,
        client: redis.Redis | redis.RedisCluster | str,
        *,
        prefix: str = "kashvi:queue",
        server_now: Callable[[], float] | None = None,
    ) -> None:
        if not prefix:
            raise InvalidSetting("prefix", prefix, "a text like 'kashvi:queue'")
        super().__init__(Connections(client, prefix), prefix, server_now)
        self._known: set[str] = set()
        """The workers that this handle has registered on the server."""
        self._chunk = 16
        """How many jobs make READ_MAX_BYTES, estimated by the last claim: a server copies all that its script reads."""
        self._waits = Waits(self._server)

    def __repr__(self) -> str:
        return f"redis at {self._server.server}"

    def push(self, envelopes: Sequence[bytes], delay_s: float = 0.0, queues: Sequence[str] = ()) -> float | None:
        if queues:
            return self.push_unique(envelopes, delay_s, queues, ())[1]
        if delay_s > 0:
            return float(self._server.run(_DELAY, [self._delayed], [repr(delay_s), self._now(), *envelopes]))
        self._server.call("LPUSH", self._jobs, *envelopes)
        return None

    def push_unique(
        self, envelopes: Sequence[bytes], delay_s: float, queues: Sequence[str], locks: Sequence[Lock]
    ) -> tuple[float, float | None, list[str]]:
        names = list(dict.fromkeys(queues))
        numbers = {name: i for i, name in enumerate(names, 1)}
        keys = [self._names, self._unique, *(key for name in names for key in self._keys(name))]
        args: list[Any] = [repr(delay_s) if delay_s > 0 else "", self._now(), len(names), int(bool(locks)), *names]
        for i, (name, envelope) in enumerate(zip(queues, envelopes, strict=True)):
            args += (numbers[name], envelope, *locks[i]) if locks else (numbers[name], envelope)
        now, due, holders = self._server.run(_PUSH, keys, args)
        return float(now), float(due) if due else None, [holder.decode() for holder in holders]

    def push_retried(self, failure: str, envelope: bytes, queue: str = DEFAULT, lock: Lock = NO_LOCK) -> bool | str:
        """Send a failed job back once for each ``failure``, a text that names it; False if it was sent before.

        The id of the job that has its key, if it is taken: then nothing was sent.
        """
        keys = [self._keys(queue)[0], self._retried, self._names, self._unique]
        answer = self._server.run(_RETRIED, keys, [failure, envelope, self._now(), queue, *lock])
        return answer.decode() if isinstance(answer, bytes) else bool(answer)

    def exchange(self, worker: str, n: int, lease_s: float, settlements: Sequence[Settlement], want: Want) -> Exchange:
        if worker not in self._known:
            worker_name(worker)
        keys: list[Any] = [self._jobs, self._delayed, self._workers, self._exchanges, self._unrecorded, self._paused]
        keys += (*self._lists(worker), self._cancelled)
        lists = {worker: 7}
        total = want if isinstance(want, int) else want.total
        args: list[Any] = [worker, n, total, repr(lease_s), self._now(), GONE_AFTER_S, self._chunk]
        at_queue = self._add_queues(worker, keys, args, settlements, want)
        run = 0
        leaves = False
        for s in settlements:
            if s.move == "done" and s.owner == worker and s.place == "held" and not (s.follow_ups or s.lock[0]):
                if not run:  # the hot path: each argument costs as much as all else about a job
                    run = len(args) + 1
                    args += ("", 0)
                args.append(s.old)
                args[run] += 1
                continue
            run = 0
            if s.owner not in lists:
                lists[s.owner] = len(keys) + 1
                keys += self._lists(s.owner)
            at = lists[s.owner] + (s.place == "running")
            leaves = leaves or (s.move == "leave" and s.owner == worker)
            args += (s.move, self._odd.get(s.owner, s.owner), at, s.old, len(s.follow_ups) or s.new)
            args.append(repr(s.in_s) if s.move != "done" else int(bool(s.follow_ups) and s.follow_ups[-1].link))
            args += (at_queue.get(s.queue, 1), s.lock[0], s.job_id or s.lock[1])
            if s.owner != worker:
                args.append("" if s.lease_end is None else repr(s.lease_end))
            for envelope, in_s, queue, lock, _ in s.follow_ups:
                args += (envelope, repr(in_s) if in_s > 0 else "", at_queue[queue], *lock)
        (
            now, settled_at, refused, holding, ready, unrecorded, next_due, claimed, repeated, held, running,
            paused, claimed_of, paused_queues, marked_at,
        ) = self._server.run(_EXCHANGE, keys, args)  # fmt: skip
        (self._known.discard if leaves else self._known.add)(worker)
        if claimed:
            self._chunk = min(READ_MAX_BYTES * len(claimed) // (sum(map(len, claimed)) or 1) + 1, CHUNK_MAX)
        marks = refused.split()
        return Exchange(
            server_at=float(now),
            settled_at=float(settled_at),
            refused=tuple(int(one.partition(b"!")[0]) for one in marks if one.isdigit() or b"!" in one),
            claimed=claimed,
            holding=holding,
            ready=ready,
            unrecorded=unrecorded,
            next_due_s=float(next_due) if next_due else None,
            listing=(held[::-1], running[::-1]) if repeated else None,
            paused=bool(paused),
            claimed_of=tuple((name.decode(), count) for name, count in zip(*[iter(claimed_of)] * 2, strict=True)),
            paused_queues=() if isinstance(want, int) else tuple(name.decode() for name in paused_queues),
            duplicates=tuple(_pair(one, b".") for one in marks if b"." in one),
            cancelled=tuple(int(one[1:]) for one in marks if one[:1] == b"c"),
            marked_at=float(marked_at) if marked_at else None,
            unsendable=tuple(_pair(one, b"!") for one in marks if b"!" in one),
        )

    def _add_queues(
        self, worker: str, keys: list[Any], args: list[Any], settlements: Sequence[Settlement], want: Want
    ) -> dict[str, int]:
        """Add the queues to a request, if there are others than the default one; returns where their keys begin."""
        at = {DEFAULT: 1}
        shares = {} if isinstance(want, int) else dict(want.queues)
        rare = [s for s in settlements if s.move != "done" or s.follow_ups or s.lock[0]]
        others = {s.queue for s in rare if s.move in ("retry", "return")}
        others.update(one.queue for s in rare for one in s.follow_ups)
        others.discard(DEFAULT)
        locks = any(s.lock[0] or any(one.lock[0] for one in s.follow_ups) for s in rare)
        if not (shares or others or locks or any(s.move == "leave" and s.owner != worker for s in rare)):
            args.append(0)
            return at
        if isinstance(want, int):
            shares = {DEFAULT: want}
        named = [*shares, *sorted(others - shares.keys())]
        keys += (self._names, self._serves, self._unique)
        for name in named:
            if name not in at:
                at[name] = len(keys) + 1
                keys += self._keys(name)
        args += (len(named), "" if isinstance(want, int) else ",".join(shares))
        for name in named:
            args += (name, at[name], shares.get(name, ""))
        return at

    def wait(self, worker: str, seconds: float, queues: Sequence[str] = (DEFAULT,)) -> bytes | float | None:
        if worker not in self._known:  # or its job would be lost if it dies: only known workers are taken over
            self._server.run(_KNOWN, [self._workers], [worker_name(worker), FIRST_LEASE_S, self._now()])
            self._known.add(worker)
        held, jobs = self._lists(worker)[0], self._keys(queues[0])[0]
        if seconds < 0.002:  # BLMOVE takes 0 as no limit, and Redis 6.2 also 0.001
            envelope: bytes | None = self._server.call("LMOVE", jobs, held, "RIGHT", "LEFT")
            return envelope
        bells = [self._keys(name)[1] for name in queues] + [self._keys(name)[0] for name in queues[1:]]
        look = self.server_time if len(queues) > 1 else lambda: self._first_due(bells[0])
        return self._waits.wait(Call(jobs, held, min(seconds, BLOCK_MAX_S), bells, look))

    def next_due(self, queues: Sequence[str] = (DEFAULT,)) -> float | Paused | None:
        due = self._server.run(_DUE, [self._paused, *(self._keys(name)[1] for name in queues)], list(queues))
        return PAUSED if due == b"paused" else float(due) if due else None

    def _first_due(self, delayed: str) -> float | None:
        first = self._server.call("ZRANGE", delayed, 0, 0, "WITHSCORES")
        return next((float(due) for _, due in _pairs(first)), None)

    def pause(self, queue: str = DEFAULT) -> float:
        return float(self._server.run(_PAUSE, [self._paused, self._keys(queue)[1]], [1, self._now(), queue]))

    def resume(self, queue: str = DEFAULT) -> float:
        return float(self._server.run(_PAUSE, [self._paused, self._keys(queue)[1]], [0, self._now(), queue]))

    def paused_since(self, queue: str = DEFAULT) -> float | None:
        since = self._server.call("ZSCORE", self._paused, queue_name(queue))
        return None if since is None else float(since)

    def wake(self, worker: str) -> None:
        """Do nothing: a wait on the server is short and ends by itself."""

    def expired(self, limit: int) -> Expired:
        """Several reads. A stale one is harmless, since settling checks again."""
        now, entries = self._server.run(_EXPIRED, [self._workers], [self._now()])
        lease_ends = {self._name(owner): float(at) for owner, at in _pairs(entries)}
        lost: list[LostDelivery] = []
        owners, size = list(lease_ends), 0
        for at in range(0, len(owners), OWNERS_MAX):
            part = owners[at : at + OWNERS_MAX]
            places: list[tuple[str, Place]] = [(o, p) for o in part for p in ("running", "held")]
            keys = [key for o in part for key in reversed(self._lists(o))]
            whole, *lists = self._server.run(_LISTED, keys, [limit - len(lost), READ_MAX_BYTES - size])
            for (owner, place), found in zip(places, lists, strict=True):
                lost += [LostDelivery(owner, place, e, lease_ends[owner]) for e in found]
            size = sum(len(one.envelope) for one in lost)
            if not whole or len(lost) >= limit or size >= READ_MAX_BYTES:
                return Expired(lost, [], more=not whole or at + OWNERS_MAX < len(owners))
        busy = {delivery.owner for delivery in lost}
        old = (o for o, lease_end in lease_ends.items() if lease_end <= float(now) - GONE_AFTER_S)
        return Expired(lost, [owner for owner in old if owner not in busy][:limit])

    def unrecorded(self, limit: int, skip: int = 0) -> list[Unrecorded]:
        found = self._server.run(_UNRECORDED, [self._unrecorded], [limit, skip, READ_MAX_BYTES])
        return [Unrecorded(envelope, float(at)) for envelope, at in _pairs(found)]

    def recorded(self, envelopes: Sequence[bytes]) -> None:
        if envelopes:
            self._server.call("ZREM", self._unrecorded, *envelopes)

    def stats(self) -> Stats:
        known, names = list[bytes](), self._named()
        while True:
            lists = [key for name in names for key in self._keys(name)]
            held_by = [key for worker in known for key in self._lists(self._name(worker))]
            keys = [self._unrecorded, self._workers, *lists, *held_by]
            ready, delayed, unrecorded, held, workers = self._server.run(_STATS, keys, [len(names)])
            if set(workers) == set(known):
                return Stats(ready, delayed, held, unrecorded, len(workers))
            known = workers

    def queue_stats(self) -> dict[str, QueueStats]:
        """Each queue by name: the default one, and all that ever had jobs or are served."""
        names = self._named()
        keys = [self._paused, self._workers, self._serves, *(key for name in names for key in self._keys(name))]
        now, *found = self._server.run(_QUEUES, keys, [self._now(), *names])
        return {
            name: QueueStats(ready, delayed, bool(paused), bool(served), oldest or None, float(now))
            for name, (ready, delayed, paused, served, oldest) in zip(names, found, strict=True)
        }

    def tick(self, ask: Ask) -> Ticked:
        keys = [self._cron, self._names, self._unique, self._keys(ask.queue)[0]]
        args: list[Any] = [ask.name, ask.schedule]
        args += ("" if at is None else repr(float(at)) for at in (ask.last, ask.through))
        args += (self._now(), ask.queue, TICK_AHEAD_S, TICK_OLD_S)
        for one in ask.jobs:
            args += (repr(float(one.tick)), one.envelope, *one.lock)
        outcome, now, newest, since, holders = self._server.run(_TICK, keys, args)
        known = tuple(holder.decode() for holder in holders)
        return Ticked(outcome.decode(), float(now), float(newest), float(since), known)

    def last_ticks(self) -> tuple[float, dict[str, float]]:
        found = self._server.call("HGETALL", self._cron)
        records = found.items() if isinstance(found, dict) else zip(found[::2], found[1::2], strict=True)
        return self.server_time(), {name.decode("utf-8", "replace"): _first(record) for name, record in records}

    def forget_ticks(self, name: str) -> bool:
        return bool(self._server.call("HDEL", self._cron, name))

    def show(self, where: Where, limit: int, queue: str = DEFAULT) -> Iterator[Shown]:
        jobs, delayed = self._keys(queue)
        if where == "ready":
            return pages(lambda first, last: self._shown(jobs, first, last), limit)
        if where == "delayed":
            return pages(lambda first, last: self._shown_delayed(delayed, first, last), limit)
        return islice(self._shown_running(limit), limit)

    def _shown(self, key: Any, first: int, last: int, worker: str = "") -> list[Shown]:
        """A part of a list, from its right end, which is the oldest."""
        found = self._server.call("LRANGE", key, -last - 1, -first - 1)
        return [Shown(envelope, worker=worker) for envelope in reversed(found)]

    def _shown_delayed(self, key: str, first: int, last: int) -> list[Shown]:
        found = self._server.call("ZRANGE", key, first, last, "WITHSCORES")
        return [Shown(envelope, float(due)) for envelope, due in _pairs(found)]

    def _shown_running(self, limit: int) -> Iterator[Shown]:
        for raw in self._server.call("ZRANGE", self._workers, 0, -1):
            worker = self._name(raw)
            for key in reversed(self._lists(worker)):
                yield from pages(lambda first, last: self._shown(key, first, last, worker), limit)  # noqa: B023

    def check(self, relays: bool = False) -> list[str]:
        """Warnings for the operator. Changes nothing.

        Raises SettingsRefused if no worker can work (a wrong password, a missing right), else DriverError.
        """
        names = (self._jobs, self._delayed, self._workers, self._exchanges, self._unrecorded, self._retried)
        keys = [*names, *self._lists("")]
        try:
            self._server.call("EVAL", _RIGHTS.text, len(keys), *keys)
            missing = self._server.call("EVALSHA", _RIGHTS.sha, len(keys), *keys)
            if relays:
                self._server.call("HKEYS", self._relay_keys("")[1])
        except CommandRefused as error:
            if "NOPERM" not in str(error):
                raise
            raise SettingsRefused(f"a right is missing, see REDIS-15 ({error})", self._server.server) from error
        if missing:
            text = f"the user may not run {b', '.join(missing).decode()}, see REDIS-15"
            raise SettingsRefused(text, self._server.server)
        try:
            health = self.health()
        except CommandRefused:  # this user may not run INFO
            return []
        drops = f"its maxmemory-policy is {health.policy}, so a full server drops jobs: set it to noeviction"
        return [f"{self._server.server}: {drops}"] if health.evicts else []

    def health(self) -> Health:
        """The server's version, role and memory. Raises DriverError; CommandRefused if INFO is not allowed."""
        return read_health(self._server.call("INFO"))


def _pairs(reply: list[Any]) -> Iterator[tuple[bytes, Any]]:
    """Members with scores: flat in RESP2, nested in RESP3."""
    if reply and isinstance(reply[0], list):
        return ((member, score) for member, score in reply)
    return zip(reply[::2], reply[1::2], strict=True)


def _pair(text: bytes, mark: bytes) -> tuple[int, int]:
    """A settlement's index and that of its follow-up."""
    index, _, number = text.partition(mark)
    return int(index), int(number)


def _first(record: bytes) -> float:
    """The last tick in a record of ``tick.lua``; 0 if another program wrote it."""
    try:
        return float(record.split()[0])
    except (IndexError, ValueError):
        return 0.0
