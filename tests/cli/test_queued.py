"""``queue:list`` on a terminal."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import pytest

from kashvi.cli.queued import _print
from kashvi.queued import QueuedJob

AT = datetime(2026, 11, 24, 3, 14, 23, tzinfo=UTC)


def test_a_terminal_gets_one_line_a_job_in_its_width(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The id is whole, to be copied; no character moves the cursor."""
    job_id = "019b5e00-0000-7000-8000-000000000000"
    ready = QueuedJob(job_id, "jobs.ALongNameOfAType" * 3, '{"card":1}' * 50, 0, "ready", dispatched_at=AT)
    running = QueuedJob("forged\x1b[2J", "jobs.A", "{}", 2, "running", worker=job_id)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    _print([running, ready])
    head, *lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in (head, *lines)] == ["where", "running", "ready"]
    assert job_id in lines[1]
    assert "\x1b" not in lines[0]
    assert max(map(len, (head, *lines))) <= 80
