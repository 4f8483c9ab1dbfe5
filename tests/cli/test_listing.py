"""Failures on a terminal, and commands on a table that is larger than their memory."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kashvi.cli.listing import print_lines
from kashvi.delays import moment
from kashvi.failures.sql import SqlFailures
from kashvi.ports import Failure
from tests.servers.launch import RedisServer

from .conftest import MAIN

AT = datetime(2026, 11, 24, 3, 14, 23, tzinfo=UTC)
MEMORY = 144 * 1024 * 1024
LARGE = 16
"""Rows of five megabytes."""


def test_a_terminal_gets_one_line_a_failure_in_its_width(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the times' zone named, and no character that moves the cursor."""
    store = SqlFailures("sqlite://")
    error = "ValueError: " + "no card " * 50 + "\nforged\x1b[2J"
    store.record([Failure(f"job-{n}", "jobs.ALongNameOfAType" * n, b"{}", error, 3, AT) for n in (1, 2)])
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    print_lines(store.rows())
    head, *lines = capsys.readouterr().out.splitlines()
    assert "failed at, UTC" in head
    assert [line.split()[0] for line in lines] == ["2", "1"]
    assert all("2026-11-24 03:14:23  ValueError: no card" in line for line in lines)
    assert max(map(len, (head, *lines))) <= 80
    store.engine.dispose()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 910), ("2m", 880), ("1.5h", -4400), ("1970-01-01T00:10", 600), ("1970-01-01T01:10+01:00", 600)],
)
def test_since_is_a_while_ago_or_a_time(text: str, seconds: float) -> None:
    """A time without a zone is UTC, as the times that are shown."""
    assert moment(text, 1000.0) == seconds


def run(directory: Path, *words: str) -> str:
    """A command with little memory."""
    done = subprocess.run(
        [*MAIN, *words],
        cwd=directory,
        env=os.environ | {"MALLOC_ARENA_MAX": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_retry_and_json_take_little_memory_however_large_the_table_is(tmp_path: Path, valkey: RedisServer) -> None:
    """Rows are read, shown and sent some at a time."""
    store = SqlFailures(f"sqlite:///{tmp_path}/kashvi.db")
    for n in range(LARGE):
        store.record([Failure(f"job-{n}", "jobs.Nope", b'"%s"' % (b"x" * 5_000_000), "no card", 3, AT)])
    assert len(json.loads(run(tmp_path, "queue:failed", "--json"))) == LARGE
    assert run(tmp_path, "queue:failed", "--group").split()[0] == str(LARGE)
    sent = run(tmp_path, "queue:retry", "all", "--redis-url", valkey.url)
    assert sent == f"{LARGE} failed jobs sent back.\n"
    assert valkey.client().llen("kashvi:queue:jobs") == LARGE
    assert store.count() == 0
    store.record([Failure("another", "jobs.Nope", b"{}", "no card", 3, AT)])
    assert store.rows()[0].id == LARGE + 1  # a number that was noted names no other job
    store.engine.dispose()
