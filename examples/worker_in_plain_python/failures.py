"""The failure table of ``spec/table.md``, in SQLite: ``sqlite:///path``."""

from __future__ import annotations

import base64
import sqlite3
import uuid
from datetime import UTC, datetime

from envelope import Envelope, NotAnEnvelope

MAKE = """
CREATE TABLE IF NOT EXISTS kashvi_failed_jobs (id integer PRIMARY KEY, job_type varchar(255) NOT NULL,
    payload text NOT NULL, error text, attempts integer NOT NULL DEFAULT 0, failed_at datetime, job_id varchar(255));
CREATE UNIQUE INDEX IF NOT EXISTS uq_kashvi_failed_jobs_job_id ON kashvi_failed_jobs (job_id);
"""
INSERT = """
INSERT INTO kashvi_failed_jobs (job_type, payload, error, attempts, failed_at, job_id) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (job_id) DO NOTHING
"""


class Table:
    """The failure table. ``may``: False if there is none."""

    def __init__(self, url: str) -> None:
        self._path = url.removeprefix("sqlite:///")
        self.may = url.startswith("sqlite:///")

    def record(self, entries: list[tuple[bytes, float]]) -> bool:
        """Insert the missing rows; False if the database can't be used now."""
        if not self.may:
            return False
        try:
            with sqlite3.connect(self._path, timeout=30) as database:
                database.executescript(MAKE)
                database.executemany(INSERT, [_row(raw, at) for raw, at in entries])
        except sqlite3.OperationalError as error:
            print(f"the failure table: {error}", flush=True)
            return False
        return True


def _row(raw: bytes, at: float) -> tuple[str, str, str, int, str, str]:
    failed_at = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    try:
        one = Envelope(raw)
    except NotAnEnvelope as error:  # another program wrote it: it gets a row too, always under the same id
        return "", _text(raw), str(error), 0, failed_at, str(uuid.uuid5(uuid.NAMESPACE_OID, repr(raw)))
    return one.type.removeprefix("*"), _text(one.payload_bytes()), one.error, one.attempts, failed_at, one.id


def _text(data: bytes) -> str:
    """The data if it is text without NUL, else base64."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = "\0"
    odd = "\0" in text or text.startswith("base64:")
    return "base64:" + base64.b64encode(data).decode() if odd else text
