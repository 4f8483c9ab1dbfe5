"""The failed jobs of this process, in memory: bounded, the newest kept."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import datetime
from typing import Any

KEPT = 1_000
KEPT_CHARACTERS = 16 * 1024 * 1024
"""The most characters of payloads, errors and tracebacks in all."""


@dataclass(frozen=True, slots=True)
class FailedJob:
    """A job that was exhausted or could not be delivered."""

    job: Any
    """A fresh instance of the job; None if its type is unknown here or its payload does not fit."""
    error: str
    """The last error, ``ValueError: no card``."""
    attempts: int
    failed_at: datetime
    """Timezone-aware, UTC."""
    id: str
    type: str
    """The wire name; empty for bytes that were not an envelope."""
    payload: str
    """JSON as it was dispatched; ``base64:…`` for bytes that are not UTF-8 text."""
    traceback: str = ""
    """The traceback of the last attempt."""


class FailedJobs:
    """A bounded list that drops its oldest."""

    def __init__(self, kept: int = KEPT) -> None:
        self._jobs: deque[FailedJob] = deque(maxlen=kept)
        self._size = 0

    def add(self, failed: FailedJob) -> None:
        if len(self._jobs) == self._jobs.maxlen:
            self._size -= _size(self._jobs[0])
        self._jobs.append(failed)
        self._size += _size(failed)
        while self._size > KEPT_CHARACTERS and len(self._jobs) > 1:
            self._size -= _size(self._jobs.popleft())

    def list(self) -> list[FailedJob]:
        """Oldest first."""
        return list(self._jobs)


def _size(failed: FailedJob) -> int:
    return len(failed.payload) + len(failed.error) + len(failed.traceback)
