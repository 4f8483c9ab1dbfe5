"""Watches the server: one look reads the clock, the log, delayed jobs, failures, and expiry times."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any, cast

import redis
import sqlalchemy as sa

from kashvi.runtime import SystemRuntime

from .process import CannotJudge, pause
from .rows import Row, read, take_any_text
from .story import DELAYED, PREFIX, TYPES, UNRECORDED, Entry, Record, Story, Waiting, document

ROWS_EVERY_S = 0.1
BASE64 = b"base64:"
WRONG_TYPE = "WRONGTYPE"
"""The code in a server's answer if a key has another type."""


class Watch:
    """Reads the server, and adds to the story."""

    def __init__(self, client: redis.Redis, log: str, engine: sa.Engine, story: Story) -> None:
        self.story = story
        self.now = 0.0
        """The server's time at the last look."""
        self.rows: list[Row] = []
        """The kit's rows in the table."""
        self._client = client
        self._log = log
        self._engine = engine
        take_any_text(engine)
        self._last_id = "0-0"
        self._put_there: set[bytes] = set()
        self._waiting: set[tuple[bytes, float]] = set()
        self._records: set[tuple[str, str]] = set()
        self._rows_at = 0.0
        self._monotonic = SystemRuntime().monotonic

    def puts(self, raw: bytes) -> None:
        """Note that the kit itself delayed this job."""
        self._put_there.add(raw)

    def until(self, condition: Callable[[], object], seconds: float) -> bool:
        """Look until the condition holds, at most ``seconds``; True if it does."""
        ends = self._monotonic() + seconds
        while True:
            self.look()
            if condition():
                return True
            if self._monotonic() > ends:
                return False
            pause()

    def look(self) -> None:
        """Read the server once. Raises CannotJudge, and redis.RedisError."""
        table = (
            read(self._engine) if self._monotonic() >= self._rows_at else None
        )  # first: no row is later than the time
        pipe = self._client.pipeline(transaction=True)  # so that all reads have the same time
        pipe.time()
        pipe.xrange(self._log, min=f"({self._last_id}")
        pipe.zrange(DELAYED, 0, -1, withscores=True)
        pipe.zrange(UNRECORDED, 0, -1, withscores=True)
        time, entries, delayed, unrecorded = pipe.execute(raise_on_error=False)
        if isinstance(time, Exception):
            raise time
        self.now = time[0] + time[1] / 1e6
        if isinstance(entries, redis.ResponseError) and WRONG_TYPE in str(entries):
            raise CannotJudge(f"{self._log}, the log that jobs write to, has become something other than a stream")
        for entry_id, fields in self._answer(entries):
            self._entry(entry_id.decode(), {key.decode(): _text(value) for key, value in fields.items()})
        for raw, due in self._answer(delayed, DELAYED):
            self._delayed(raw, due)
        for raw, at in self._answer(unrecorded, UNRECORDED):
            self._unrecorded(raw, at)
        if table is not None:
            self._rows(*table)
            self._expiring()
            self._rows_at = self._monotonic() + ROWS_EVERY_S

    def _answer(self, answer: Any, key: str = "") -> Any:
        """The answer; empty if a worker changed the key's type."""
        if not isinstance(answer, Exception):
            return answer
        if WRONG_TYPE not in str(answer):
            raise answer
        self.finds_wrong_type(key)
        return ()

    def finds_wrong_type(self, *keys: str) -> None:
        """Note the keys of the queue that have a wrong type."""
        for key in keys:
            kind = _text(cast(bytes, self._client.type(key)))
            if kind not in (TYPES[key], "none"):
                self.story.wrong_types.setdefault(key, kind)

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

    def _rows(self, columns: list[str], rows: list[Row]) -> None:
        self.story.columns = self.story.columns or columns
        for row in rows:
            payload = row.payload
            raw = _decoded(payload.removeprefix(BASE64)) if payload.startswith(BASE64) else payload
            job = self._job_of(document(raw), raw)
            said = (row.text("job_type"), row.text("payload"), row.text("error"))
            if job and self._record(job, "table", row.key, said, row.values.get("attempts"), row.failed_at):
                self.rows.append(row)
                for column in row.no_text():
                    self.story.no_text.setdefault(column, job)

    def _job_of(self, payload: Any, raw: bytes) -> str | None:
        name = payload.get("name") if isinstance(payload, dict) and payload.get("log") == self._log else None
        if name in self.story.pushed:
            return str(name)
        return next((one.name for one in self.story.pushed.values() if not one.type and one.raw == raw), None)

    def _record(
        self, job: str, where: Any, key: str, said: tuple[str, str, str], attempts: Any, failed_at: float | None
    ) -> bool:
        """Add a record; False if it is known."""
        if (where, key) in self._records:
            return False
        self._records.add((where, key))
        number = attempts if isinstance(attempts, int) else -1
        self.story.records.append(Record(self.now, job, where, key, *said, number, failed_at))
        return True

    def _expiring(self) -> None:
        keys = list(self._client.scan_iter(match=f"{PREFIX}*", count=1000))
        pipe = self._client.pipeline(transaction=False)
        for key in keys:
            pipe.pttl(key)
        for key, left_ms in zip(keys, pipe.execute() if keys else (), strict=True):
            if left_ms >= 0:
                self.story.expiring.setdefault(key.decode(), left_ms)


def _decoded(text: str | bytes) -> bytes:
    """The bytes in base64; empty if a worker wrote other text."""
    try:
        return base64.b64decode(text)
    except ValueError:
        return b""


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")
