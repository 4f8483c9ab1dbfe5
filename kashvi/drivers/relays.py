"""Relays of outboxes let in, and their rows pushed: by ``relay.lua`` on a server, and in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ..relaying import RELAY_S, Relayed, Stored, push_name
from .keys import ServerKeys

if TYPE_CHECKING:
    from ..ports import Runtime
    from .connection import Script
    from .lines import MemoryStore


class LetIn(NamedTuple):
    """The relay of an outbox that was let in last."""

    token: str
    n: int
    until: float
    done_at: float


class RelayedToServer(ServerKeys):
    """The part of the driver for Redis that relays push to."""

    _RELAY: Script

    @property
    def relay_target(self) -> str:
        return self.prefix

    def take_relay(self, outbox: str, token: str, before: str) -> list[str] | float:
        keys = self._relay_keys(outbox)
        let_in, *left = self._server.run(self._RELAY, keys, [outbox, token, self._now(), repr(RELAY_S), 0, before])
        if not let_in:
            return float(left[0])
        # From now on only this relay changes them. In the script, every worker would need the right.
        return [job_id.decode() for job_id in self._server.call("HKEYS", keys[1])]

    def relay(
        self, outbox: str, token: str, n: int, rows: Sequence[Stored], gone: Sequence[str], for_s: float = RELAY_S
    ) -> Relayed | None:
        names = list(dict.fromkeys(row.queue for row in rows))
        numbers = {name: i for i, name in enumerate(names, 1)}
        keys = [*self._relay_keys(outbox), f"{self.prefix}:names", f"{self.prefix}:unique"]
        keys += (key for name in names for key in self._keys(name))
        args: list[Any] = [outbox, token, self._now(), repr(for_s), n, len(names), *names, len(gone), *gone]
        for job_id, envelope, in_s, queue, (key, _) in rows:
            args += (numbers[queue], repr(in_s) if in_s > 0 else "", job_id, key, envelope)
        let_in, *answer = self._server.run(self._RELAY, keys, args)
        if not let_in:
            return None
        done_at, answers = answer
        found = [one.decode().rpartition(" ") for one in answers]
        return Relayed(float(done_at), [by for by, _, _ in found], [holder for _, _, holder in found])

    def _relay_keys(self, outbox: str) -> list[str]:
        return [f"{self.prefix}:relay", f"{self.prefix}:relayed:{outbox}"]


class _Adds(Protocol):
    """The part of the memory driver that adds jobs."""

    def push_unique(
        self, envelopes: Sequence[bytes], delay_s: float, queues: Sequence[str], locks: Sequence[tuple[str, str]]
    ) -> tuple[float, float | None, list[str]]: ...


class RelayedToMemory:
    """The part of the memory driver that relays push to."""

    store: MemoryStore
    _runtime: Runtime

    @property
    def relay_target(self) -> str:
        """This store: its jobs end with the process, and so must no other process's relay give it a row."""
        with self.store.condition:
            self.store.relay_target = self.store.relay_target or f"memory {self._runtime.new_id()}"
            return self.store.relay_target

    def take_relay(self, outbox: str, token: str, before: str) -> list[str] | float:
        store = self.store
        with store.condition:
            now = store.now()
            last = store.relays.get(outbox)
            if last is not None and last.token != before and 0 < last.until - now <= RELAY_S:
                return last.until - now
            store.relays[outbox] = LetIn(token, 0, now + RELAY_S, now)
            return list(store.relayed.get(outbox, ()))

    def relay(
        self, outbox: str, token: str, n: int, rows: Sequence[Stored], gone: Sequence[str], for_s: float = RELAY_S
    ) -> Relayed | None:
        store = self.store
        with store.condition:
            now, last = store.now(), store.relays.get(outbox)
            if last is None or last.token != token:
                return None
            known = store.relayed.setdefault(outbox, {})
            if n <= last.n:
                found = [known.get(row.job_id, ("", "")) for row in rows]
                return Relayed(last.done_at, [by for by, _ in found], [holder for _, holder in found])
            store.relays[outbox] = LetIn(token, n, now + for_s, now)
            for job_id in gone:
                known.pop(job_id, None)
            for row in rows:
                if row.job_id not in known:
                    known[row.job_id] = (push_name(token, n), self._add(row))
            found = [known[row.job_id] for row in rows]
            return Relayed(now, [by for by, _ in found], [holder for _, holder in found])

    def _add(self: Any, row: Stored) -> str:
        """Returns the id of the job that has its key, if one has."""
        adds: _Adds = self
        return adds.push_unique([row.envelope], row.in_s, [row.queue], [row.lock])[2][0]
