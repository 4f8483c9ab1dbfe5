"""Vectors of exchanges: keys before, a request, its answer, keys after. ``spec/vectors/exchanges.json`` has them.

``python -m kashvi_spec.kit.driver.vectors`` writes the current answers and keys of the driver for Redis into the file:
after a change of a rule, run it and review the diff. Names, keys before and requests stay.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from kashvi.dispatch import naming
from kashvi.drivers.lines import MemoryStore
from kashvi.drivers.memory import MemoryDriver
from kashvi.drivers.redis import RedisDriver
from kashvi.errors import CommandRefused
from kashvi.names import DEFAULT
from kashvi.ports import NO_LOCK, Driver, FollowUp, Settlement, Shares
from kashvi.runtime import SystemRuntime

from ...clauses import PLACES

PREFIX = "kashvi:queue"
REFUSED = {"error": True}
"""The answer to a request that is refused as a whole."""

Keys = dict[str, Any]
"""By name without prefix: a list left to right, a sorted set as members with scores, a hash as fields with texts, a set
as members that are true."""


@dataclass(frozen=True)
class Vector:
    """One call of one worker, at one moment of the server's clock."""

    name: str
    about: str
    now: float
    before: Keys
    call: str
    request: dict[str, Any]
    answer: Any
    after: Keys

    def mended(self, answer: Any, after: Keys) -> Vector:
        return Vector(self.name, self.about, self.now, self.before, self.call, self.request, answer, after)

    @property
    def has_wrong_type(self) -> bool:
        """True if a key has a wrong type, which is possible only on a server."""
        return any(isinstance(value, str) for value in self.before.values())

    @property
    def knows_queues(self) -> bool:
        """True if its client knows named queues, and keys of unique jobs: it serves them, or pushes to them."""
        locks = any(len(one) > 3 for s in self.request.get("settlements", ()) for one in s.get("follow_ups", ()))
        told = any("." in text.split(" ", 2)[2] for text in self.before.get("exchanges", {}).values())
        return isinstance(self.request.get("want"), dict) or "queues" in self.request or locks or told


class Server(Protocol):
    """A store of keys with its driver."""

    def put(self, keys: Keys) -> None: ...

    def keys(self) -> Keys: ...

    def call(self, vector: Vector) -> Any:
        """The answer; REFUSED for an error."""


Subject = Callable[[float], Server]
"""A function from the time to an empty server."""


def path() -> Path:
    """The file's path: beside the pages in a clone, among them in an installed package."""
    return next(p for place in PLACES if (p := place / "vectors" / "exchanges.json").exists())


def load() -> list[Vector]:
    return [Vector(**one) for one in json.loads(path().read_text())["vectors"]]


def play(vector: Vector, subject: Subject) -> tuple[Any, Keys]:
    """The answer, and the keys after it."""
    server = subject(vector.now)
    server.put(vector.before)
    return server.call(vector), server.keys()


def differences(vector: Vector, subject: Subject) -> Iterator[str]:
    """A sentence for each difference from the vector."""
    answer, after = play(vector, subject)
    if answer != vector.answer:
        yield f"{vector.name}: the answer is {answer}, not {vector.answer}"
    for key in sorted(after | vector.after):
        got, wanted = after.get(key, "nothing"), vector.after.get(key, "nothing")
        if got != wanted:
            yield f"{vector.name}: afterwards {key} is {got}, not {wanted}"


class Spoken:
    """Translates requests and answers between a driver and the vectors."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver

    def call(self, vector: Vector) -> Any:
        try:
            return getattr(self, f"_{vector.call}")(**vector.request)
        except CommandRefused:
            return REFUSED

    def _push(
        self,
        envelopes: list[str],
        delay_s: float,
        queues: list[str] | None = None,
        locks: list[tuple[str, str]] | None = None,
    ) -> Any:
        raws = [text.encode() for text in envelopes]
        if locks is not None:
            now, due, holders = naming(self.driver).push_unique(
                raws, delay_s, queues or [], [(key, job_id) for key, job_id in locks]
            )
            return {"server_at": now, "due": due, "holders": holders}
        if queues is None:
            return {"due": self.driver.push(raws, delay_s)}
        return {"due": naming(self.driver).push(raws, delay_s, queues)}

    def _exchange(self, worker: str, n: int, lease_s: float, settlements: list[dict[str, Any]], want: Any) -> Any:
        wanted: Any = want if isinstance(want, int) else Shares(want["total"], tuple(want["queues"].items()))
        answer = self.driver.exchange(worker, n, lease_s, [_sent(one) for one in settlements], wanted)._asdict()
        listing = answer["listing"]
        if answer["marked_at"] is None:
            del answer["marked_at"]
        # Of several queues, of cancelled jobs, and of keys of a wrong type.
        for name in ("claimed_of", "paused_queues", "duplicates", "cancelled", "unsendable"):
            answer[name] = [list(one) if isinstance(one, tuple) else one for one in answer.pop(name, ())]
            if not answer[name]:
                del answer[name]
        return answer | {
            "refused": list(answer["refused"]),
            "claimed": _texts(answer["claimed"]),
            "listing": None if listing is None else [_texts(part) for part in listing],
        }

    def _wait(self, worker: str) -> Any:
        found = self.driver.wait(worker, 0.0)
        return {"claimed": found.decode() if isinstance(found, bytes) else None}

    def _expired(self, limit: int) -> Any:
        lost, gone, *_ = self.driver.expired(limit)
        return {"lost": sorted([one.owner, one.place, one.envelope.decode()] for one in lost), "gone": sorted(gone)}

    def _recorded(self, envelopes: list[str]) -> Any:
        self.driver.recorded([text.encode() for text in envelopes])
        return {}


class OnRedis(Spoken):
    """The driver for Redis on a client's database, which is emptied."""

    def __init__(self, client: Any, now: float) -> None:
        super().__init__(RedisDriver(client, server_now=lambda: now))
        self._client = client
        client.flushdb()

    def put(self, keys: Keys) -> None:
        for name, value in keys.items():
            key = f"{PREFIX}:{name}"
            if isinstance(value, str):
                self._client.set(key, value)
            elif isinstance(value, list):
                self._client.rpush(key, *value)
            elif name in ("exchanges", "serves", "unique"):
                self._client.hset(key, mapping=value)
            elif name == "names":
                self._client.sadd(key, *value)
            else:
                self._client.zadd(key, value)

    def keys(self) -> Keys:
        found: Keys = {}
        for key in sorted(self._client.keys()):
            name, kind = key.decode().removeprefix(f"{PREFIX}:"), self._client.type(key).decode()
            if kind == "list":
                found[name] = _texts(self._client.lrange(key, 0, -1))
            elif kind == "zset":
                members = self._client.zrange(key, 0, -1, withscores=True)
                found[name] = {member.decode(): score for member, score in members}
            elif kind == "set":
                found[name] = {member.decode(): True for member in sorted(self._client.smembers(key))}
            elif kind == "hash":
                found[name] = {
                    field.decode(): text.decode() for field, text in sorted(self._client.hgetall(key).items())
                }
            else:
                found[name] = self._client.get(key).decode()
        return found


class InMemory(Spoken):
    """The memory driver, with its store read and written as keys."""

    def __init__(self, now: float) -> None:
        self._store = MemoryStore(lambda: now, SystemRuntime().condition())
        super().__init__(MemoryDriver(store=self._store))

    def put(self, keys: Keys) -> None:
        store = self._store
        for name, value in keys.items():
            place, _, worker = name.partition(":")
            line = store.line(place if worker in ("jobs", "delayed") else DEFAULT)
            if name == "names":
                for queue in value:
                    store.line(queue)
            elif name.endswith("jobs"):
                line.jobs.extend(text.encode() for text in value)
            elif name.endswith("delayed"):
                line.delayed.extend(sorted((due, text.encode()) for text, due in value.items()))
            elif name == "unrecorded":
                store.unrecorded.update({text.encode(): at for text, at in value.items()})
            elif name == "exchanges":
                for owner, text in value.items():
                    n, at, refused = text.split(" ", 2)
                    indexes = [one for one in refused.split() if one.isdigit()]
                    store.answers[owner] = (int(n), float(at), tuple(map(int, indexes)))
                    pairs = [one.split(".") for one in refused.split() if "." in one]
                    store.duplicates[owner] = tuple((int(index), int(number)) for index, number in pairs)
                    store.cancelled[owner] = tuple(int(one[1:]) for one in refused.split() if one[0] == "c")
            elif name == "workers":
                store.workers.update(value)
            elif name == "cancelled":
                store.marks.update(value)
            elif name == "paused":
                for queue, at in value.items():
                    store.line(queue).paused_at = at
            elif name == "unique":
                store.unique.update(value)
            elif name == "serves":
                store.serves.update({owner: tuple(text.split(",")) for owner, text in value.items()})
            else:
                getattr(store, place)[worker] = [text.encode() for text in value[::-1]]

    def keys(self) -> Keys:
        store = self._store
        found: Keys = {
            "jobs": _texts(store.jobs),
            "delayed": {raw.decode(): due for due, raw in store.delayed},
            "workers": dict(store.workers),
            "exchanges": {
                worker: f"{n} {at:.17g} {' '.join([*map(str, refused), *_pairs(store, worker)])}"
                for worker, (n, at, refused) in store.answers.items()
            },
            "unique": dict(sorted(store.unique.items())),
            "cancelled": dict(store.marks),
            "unrecorded": {raw.decode(): at for raw, at in store.unrecorded.items()},
            "paused": {name: line.paused_at for name, line in store.lines().items() if line.paused_at is not None},
            "serves": {worker: ",".join(queues) for worker, queues in store.serves.items()},
        }
        for name, line in store.named.items():
            found[f"{name}:jobs"] = _texts(line.jobs)
            found[f"{name}:delayed"] = {raw.decode(): due for due, raw in line.delayed}
        # Its queues have no list of names: each that was ever looked at is there.
        found["names"] = dict.fromkeys(sorted({*store.named, *_served(store)} - {DEFAULT}), True)
        for place, lists in (("held", store.held), ("running", store.running)):
            found |= {f"{place}:{worker}": _texts(entries[::-1]) for worker, entries in lists.items()}
        return {name: value for name, value in found.items() if value}


def _pairs(store: MemoryStore, worker: str) -> list[str]:
    pairs = [f"{index}.{number}" for index, number in store.duplicates.get(worker, ())]
    return [*pairs, *(f"c{index}" for index in store.cancelled.get(worker, ()))]


def _served(store: MemoryStore) -> set[str]:
    return {queue for queues in store.serves.values() for queue in queues}


def _sent(one: dict[str, Any]) -> Settlement:
    follow_ups = tuple(FollowUp(text.encode(), *_with_lock(how)) for text, *how in one.get("follow_ups", ()))
    old_and_new = {name: one[name].encode() for name in ("old", "new") if name in one}
    lock = tuple(one.get("lock", NO_LOCK))
    return Settlement(**one | old_and_new | {"follow_ups": follow_ups, "lock": lock})


def _with_lock(how: list[Any]) -> list[Any]:
    return [*how[:2], tuple(how[2]), *how[3:]] if len(how) > 2 else how


def _texts(envelopes: Any) -> list[str]:
    return [envelope.decode() for envelope in envelopes]


def written(about: str, vectors: list[Vector]) -> str:
    """The file's text, with a line for each part, for readable diffs."""
    parts = [
        "{" + ",\n ".join(f"{json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in asdict(one).items()) + "}"
        for one in vectors
    ]
    return '{"about": ' + json.dumps(about, ensure_ascii=False) + ',\n"vectors": [\n' + ",\n".join(parts) + "\n]}\n"


def main() -> None:
    """Write the answers, and the keys after each request."""
    import fakeredis

    client, file = fakeredis.FakeRedis(), path()
    vectors = [one.mended(*play(one, lambda now: OnRedis(client, now))) for one in load()]
    file.write_text(written(json.loads(file.read_text())["about"], vectors))


if __name__ == "__main__":
    main()
