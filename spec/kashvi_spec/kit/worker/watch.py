"""The kit's eyes: one look reads the clock, the log, what waits, what failed, what would expire."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import redis
import sqlalchemy as sa

from kashvi.failures.table import TABLE, read_time
from kashvi.runtime import SystemRuntime

from .process import pause
from .story import DELAYED, PREFIX, UNRECORDED, Entry, Record, Story, Waiting, document

ROWS_EVERY_S = 0.1
BASE64 = "base64:"


class Watch:
    """Looks, and tells the story."""

    def __init__(self, client: redis.Redis, log: str, engine: sa.Engine, story: Story) -> None:
        self.story = story
        self.now = 0.0
        """By the server, at the last look."""
        self._client = client
        self._log = log
        self._engine = engine
        self._last_id = "0-0"
        self._put_there: set[bytes] = set()
        self._waiting: set[tuple[bytes, float]] = set()
        self._records: set[tuple[str, str]] = set()
        self._rows_at = 0.0
        self._monotonic = SystemRuntime().monotonic

    def puts(self, raw: bytes) -> None:
        """The kit itself puts it among the delayed jobs."""
        self._put_there.add(raw)

    def until(self, condition: Callable[[], object], seconds: float) -> bool:
        """Look until it holds, for so many seconds at most; returns whether it does."""
        ends = self._monotonic() + seconds
        while True:
            self.look()
            if condition():
                return True
            if self._monotonic() > ends:
                return False
            pause()

    def look(self) -> None:
        """Raises redis.RedisError."""
        pipe = self._client.pipeline(transaction=True)  # so that the time is that of all the rest
        pipe.time()
        pipe.xrange(self._log, min=f"({self._last_id}")
        pipe.zrange(DELAYED, 0, -1, withscores=True)
        pipe.zrange(UNRECORDED, 0, -1, withscores=True)
        time, entries, delayed, unrecorded = pipe.execute()
        self.now = time[0] + time[1] / 1e6
        for entry_id, fields in entries:
            self._entry(entry_id.decode(), {key.decode(): _text(value) for key, value in fields.items()})
        for raw, due in delayed:
            self._delayed(raw, due)
        for raw, at in unrecorded:
            self._unrecorded(raw, at)
        if self._monotonic() >= self._rows_at:
            self._rows()
            self._expiring()
            self._rows_at = self._monotonic() + ROWS_EVERY_S

    def _entry(self, entry_id: str, fields: dict[str, str]) -> None:
        self._last_id = entry_id
        at = int(entry_id.partition("-")[0]) / 1000
        job, did, worker = (fields.pop(key, "") for key in ("job", "did", "worker"))
        self.story.entries.append(Entry(at, entry_id, job, did, worker, fields))

    def _delayed(self, raw: bytes, due: float) -> None:
        if raw in self._put_there or (raw, due) in self._waiting:
            return
        self._waiting.add((raw, due))
        payload = document(raw).get("payload")
        name = payload.get("name") if isinstance(payload, dict) else None
        if name in self.story.pushed:
            self.story.waiting.append(Waiting(self.now, str(name), due, raw))

    def _unrecorded(self, raw: bytes, at: float) -> None:
        envelope = document(raw)
        garbage = _decoded(str(envelope.get("raw", "")))
        job = self._job_of(envelope.get("payload"), garbage or raw)
        if job is not None:
            number = envelope.get("attempts", 0)
            payload = _text(garbage) if garbage else json.dumps(envelope.get("payload"))
            said = (str(envelope.get("type", "")), payload, str(envelope.get("error", "")))
            self._record(job, "unrecorded", str(envelope.get("id", "")), said, number, at)

    def _rows(self) -> None:
        try:
            with self._engine.connect() as connection:
                rows = list(connection.execute(sa.text(f"SELECT * FROM {TABLE}")).mappings())
                if not self.story.columns:
                    self.story.columns = [column["name"] for column in sa.inspect(connection).get_columns(TABLE)]
        except (sa.exc.DBAPIError, sa.exc.NoSuchTableError):
            return  # not there yet, or busy
        for row in rows:
            payload = str(row.get("payload", ""))
            encoded = payload.startswith(BASE64)
            raw = _decoded(payload.removeprefix(BASE64)) if encoded else payload.encode()
            if job := self._job_of(document(raw), raw):
                said = (str(row.get("job_type", "")), payload, str(row.get("error", "")))
                self._record(job, "table", str(row.get("id")), said, row.get("attempts"), _unix(row.get("failed_at")))

    def _job_of(self, payload: Any, raw: bytes) -> str | None:
        name = payload.get("name") if isinstance(payload, dict) and payload.get("log") == self._log else None
        if name in self.story.pushed:
            return str(name)
        return next((one.name for one in self.story.pushed.values() if not one.type and one.raw == raw), None)

    def _record(
        self, job: str, where: Any, key: str, said: tuple[str, str, str], attempts: Any, failed_at: float | None
    ) -> None:
        if (where, key) in self._records:
            return
        self._records.add((where, key))
        number = attempts if isinstance(attempts, int) else -1
        self.story.records.append(Record(self.now, job, where, key, *said, number, failed_at))

    def _expiring(self) -> None:
        keys = list(self._client.scan_iter(match=f"{PREFIX}*", count=1000))
        pipe = self._client.pipeline(transaction=False)
        for key in keys:
            pipe.pttl(key)
        for key, left_ms in zip(keys, pipe.execute() if keys else (), strict=True):
            if left_ms >= 0:
                self.story.expiring.setdefault(key.decode(), left_ms)


def _decoded(text: str) -> bytes:
    """Of base64; empty where a worker wrote something else."""
    try:
        return base64.b64decode(text)
    except ValueError:
        return b""


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")


def _unix(value: Any) -> float | None:
    """Of a time in a row, which some databases give as text, and some without its zone."""
    time = read_time(value) if isinstance(value, str) else value
    if not isinstance(time, datetime):
        return None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
