"""The failure table as a worker made it, with any columns and any bytes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from kashvi.failures.table import TABLE, read_time
from kashvi.failures.trouble import TROUBLE


@dataclass(frozen=True)
class Row:
    """One row; ``values`` by column, from the database driver."""

    values: dict[str, Any]

    @property
    def payload(self) -> bytes:
        return _bytes(self.values.get("payload", ""))

    @property
    def key(self) -> str:
        """A key that distinguishes the row from others, if need be by all its values."""
        return repr(self.values) if self.values.get("id") is None else self.text("id")

    @property
    def found_by(self) -> tuple[str, Any]:
        """A condition and its ``:value`` that select the row for deletion."""
        column = "payload" if self.values.get("id") is None else "id"
        value = self.values[column]
        return (f"CAST({column} AS BLOB)" if isinstance(value, bytes) else column) + " = :value", value

    @property
    def failed_at(self) -> float | None:
        """The time of failure in Unix seconds. Some databases return text, and some no zone."""
        value = self.values.get("failed_at")
        time = read_time(value) if isinstance(value, str) else value
        if not isinstance(time, datetime):
            return None
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()

    def text(self, column: str) -> str:
        return _bytes(self.values.get(column, "")).decode("utf-8", "backslashreplace")

    def no_text(self) -> list[str]:
        """The columns with bytes that are not UTF-8."""
        return [name for name, value in self.values.items() if isinstance(value, bytes) and not _is_text(value)]


def read(engine: sa.Engine) -> tuple[list[str], list[Row]]:
    """The table's columns and rows; empty if it is missing or locked."""
    try:
        with engine.connect() as connection:
            rows = [Row(dict(row)) for row in connection.execute(sa.text(f"SELECT * FROM {TABLE}")).mappings()]
            return [column["name"] for column in sa.inspect(connection).get_columns(TABLE)], rows
    except TROUBLE:
        return [], []


def take_any_text(engine: sa.Engine) -> None:
    """Make SQLite return invalid text as bytes, so that one such row does not hide all others."""

    def connected(connection: Any, record: object) -> None:
        connection.text_factory = lambda raw: raw.decode() if _is_text(raw) else raw

    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", connected)


def _bytes(value: Any) -> bytes:
    return bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()


def _is_text(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
