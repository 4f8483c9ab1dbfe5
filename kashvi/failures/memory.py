"""The failed jobs of this process, in memory: bounded, the newest kept."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import datetime
from typing import Any

KEPT = 1_000


@dataclass(frozen=True, slots=True)
class FailedJob:
    """A job that was exhausted or could not be delivered."""

    job: Any
    """A fresh instance of the job; None where its type or payload is not known here."""
    error: str
    """The last error, ``ValueError: no card``."""
    attempts: int
    failed_at: datetime
    """Timezone-aware, UTC."""
    id: str
    type: str
    """The wire name; empty for bytes that were no envelope."""
    payload: str
    """JSON as it was dispatched; ``base64:…`` for bytes that are not UTF-8 text."""


class FailedJobs:
    """A list that forgets its oldest."""

    def __init__(self, kept: int = KEPT) -> None:
        self._jobs: deque[FailedJob] = deque(maxlen=kept)

    def add(self, failed: FailedJob) -> None:
        self._jobs.append(failed)

    def list(self) -> list[FailedJob]:
        """Oldest first."""
        return list(self._jobs)
