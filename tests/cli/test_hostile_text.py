"""What other programs wrote, in every command that shows it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from .conftest import Shell

EVIL = "x\x1b[2J\nBROKEN  nothing\r\u202e\x9b31m"
RAW = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e]|\nBROKEN  nothing")
JOB = {"process": "a", "at": 1.0, "job_id": EVIL, "type": EVIL}


@pytest.fixture
def trace(tmp_path: Path) -> str:
    """A job that starts twice, fails with hostile words, and never ends."""
    events: list[dict[str, object]] = [
        {"event": "WorkerStarted", "process": EVIL, "worker": EVIL, "threads": 1, "lease_s": 30.0, "driver": EVIL},
        {"event": "JobDispatched", **JOB},
        *[{"event": "AttemptStarted", "attempt": 1, "worker": EVIL, "claim": "exchange", **JOB}] * 2,
        {"event": "AttemptFailed", "attempt": 1, "duration_s": 0.1, "error": EVIL, **JOB},
        {"event": "JobSucceeded", "attempts": 1, **JOB},
    ]
    path = tmp_path / "hostile.jsonl"
    path.write_text("\n".join(json.dumps(event | {"seq": n}) for n, event in enumerate(events, 1)))
    return str(path)


@pytest.mark.parametrize("as_json", [(), ("--json",)], ids=["people", "json"])
@pytest.mark.parametrize("command", ["spec:check", "spec:walk", "sim:replay"])
def test_no_command_shows_a_control_character_that_others_wrote(
    kashvi: Shell, trace: str, command: str, as_json: tuple[str, ...]
) -> None:
    """Nor do its errors; --json is one object."""
    shown = kashvi(command, trace, *as_json)
    assert RAW.findall(shown.stdout + shown.stderr) == []
    assert "Traceback" not in shown.stderr
    if as_json and shown.stdout:
        json.loads(shown.stdout)


def test_an_error_shows_what_others_wrote_in_one_line(kashvi: Shell) -> None:
    """A module's name, what it raises, an option's value."""
    (kashvi.directory / "evil.py").write_text(f"raise ValueError({EVIL!r})\n")
    for words in (["--app", "evil"], ["--app", "no\x1b[2Jmodule"], ["--database-url", "sqlite\x1b[2J://x"]):
        shown = kashvi("queue:work", "--stop-when-empty", *words)
        assert shown.returncode in (1, 2)
        assert RAW.findall(shown.stdout + re.sub(r"(?s)Traceback.*?(?=Usage)", "", shown.stderr)) == []
