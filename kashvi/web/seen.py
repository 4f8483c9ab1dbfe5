"""A mark for a job as a page showed it, so that an action on one that has moved since is refused: "too late"."""

from __future__ import annotations

from hashlib import sha256

import msgspec

from ..view import Failed, Story


def seen_of_job(story: Story) -> str:
    """Of its place and its bytes."""
    return _mark(
        story.job_id, story.where, story.queue, story.type, story.attempts, story.lost, story.error, str(story.payload),
        story.cancelled,
    )  # fmt: skip


def seen_of_row(row: Failed) -> str:
    """Of a row of the failure table: databases reuse the numbers of deleted rows."""
    return _mark(row.row_id, row.job_id, row.type, row.queue, row.attempts, row.error, row.failed_at)


def _mark(*values: object) -> str:
    return sha256(msgspec.json.encode(values)).hexdigest()[:20]
