"""A trace file: what is written, what is left out, and what a process that is killed leaves behind."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from kashvi_spec.traces import NotATrace, read

from kashvi import events, queue
from kashvi.errors import InvalidSetting
from kashvi.events import Event
from kashvi.queue import TraceFile


@dataclass
class Nothing:
    def handle(self) -> None:
        """Done."""


def number(event: Event) -> int:
    return event.seq


DONE = events.JobSucceeded(process="a", seq=1, at=1.0, server_at=0.5, job_id="1", type="jobs.X", attempts=1)


def failed(error: str) -> Event:
    return events.AttemptFailed(process="a", job_id="1", type="jobs.X", attempt=1, duration_s=0.1, error=error)


def read_back(path: Path) -> list[Event]:
    return list(read(path.read_bytes().splitlines(keepends=True)))


def test_a_file_that_was_renamed_is_followed_by_one_of_the_old_name(tmp_path: Path) -> None:
    """As a log rotation does it: rename, then tell the process. What can't be opened ends no trace."""
    path, old = tmp_path / "t.jsonl", tmp_path / "t.jsonl.1"
    trace = TraceFile(path)
    trace(failed("a"))
    path.rename(old)
    trace(failed("b"))
    trace.reopen()
    trace(DONE)
    assert (len(read_back(old)), read_back(path)) == (2, [DONE])
    path.unlink()
    path.mkdir()
    trace.reopen()
    path.rmdir()
    trace.reopen()
    trace(DONE)
    trace.close()
    trace.reopen()
    assert read_back(path) == [DONE]


def test_every_event_of_a_queue_is_in_its_trace_and_comes_back_as_it_was(tmp_path: Path) -> None:
    """One a line."""
    seen: list[Event] = []
    own = queue.Queue(registry=queue.Registry())
    own.observe(TraceFile(tmp_path / "t.jsonl"))
    own.observe(seen.append)

    own.register("jobs.Nothing", Nothing)
    own.dispatch(Nothing())
    own.work(drain=True)
    assert "AttemptSucceeded" in [type(event).__name__ for event in seen]
    assert sorted(read_back(tmp_path / "t.jsonl"), key=number) == sorted(seen, key=number)


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        ("ValueError: card 4111 of a@example.com", "ValueError"),
        ("the process died during attempt 2", "the process died during attempt 2"),
        ("the payload does not fit jobs.X: Expected `int`, got `str`", "the payload does not fit jobs.X"),
    ],
)
def test_of_an_error_the_type_is_kept_and_what_it_says_is_not(tmp_path: Path, error: str, kept: str) -> None:
    """A message may hold a secret."""
    TraceFile(tmp_path / "t.jsonl")(failed(error))
    assert [event.error for event in read_back(tmp_path / "t.jsonl") if isinstance(event, events.AttemptFailed)] == [
        kept
    ]


def test_what_a_database_says_of_a_row_is_not_kept(tmp_path: Path) -> None:
    """It quotes values."""
    TraceFile(tmp_path / "t.jsonl")(events.FailureRefused(job_id="1", type="jobs.X", error="value hunter2 is too long"))
    assert b"hunter2" not in (tmp_path / "t.jsonl").read_bytes()


def test_several_traces_share_a_file_and_one_is_added_to(tmp_path: Path) -> None:
    """A file is appended to, never emptied."""
    one, other = TraceFile(tmp_path / "t.jsonl"), TraceFile(tmp_path / "t.jsonl")
    one(DONE)
    other(DONE)
    one(DONE)
    one.close()
    TraceFile(tmp_path / "t.jsonl")(DONE)
    assert read_back(tmp_path / "t.jsonl") == [DONE] * 4


def test_a_line_that_a_killed_process_left_unfinished_is_ended_by_the_next_one(tmp_path: Path) -> None:
    """So that only that line is lost; the reader says which."""
    path = tmp_path / "t.jsonl"
    TraceFile(path)(DONE)
    with path.open("ab") as out:
        out.write(b'{"event":"JobSucc')
    TraceFile(path)(DONE)
    torn: list[int] = []
    assert list(read(path.read_bytes().splitlines(keepends=True), torn=torn)) == [DONE, DONE]
    assert torn == [2]
    with pytest.raises(NotATrace, match="line 2"):
        read_back(path)


@pytest.mark.parametrize("end", range(1, 60))
def test_a_line_torn_anywhere_is_torn_and_no_error(end: int) -> None:
    """Also inside its first word."""
    whole = b'{"event":"WorkerStopping","process":"p","worker":"w","at":1.0}\n'
    torn: list[int] = []
    assert list(read([whole, whole[:end]], torn=torn)) == list(read([whole]))
    assert torn == [2]


@pytest.mark.parametrize("line", [b"[1]", b"plain text", b'{"a":1}', b'{"event":"JobSucceeded"}', b'{"event":"Wo"} x{'])
def test_what_never_was_an_event_is_an_error_torn_or_not(line: bytes) -> None:
    """A wrong file is not taken for one whose lines are all torn. (What follows a torn line on its line is.)"""
    torn: list[int] = []
    try:
        assert list(read([line], torn=torn)) == []
    except NotATrace:
        assert torn == []
    else:
        assert line.startswith(b'{"event":"Wo"} x{')
        assert torn == [1]


def test_only_its_owner_may_read_a_trace(tmp_path: Path) -> None:
    """Other users must not read job ids and hosts."""
    TraceFile(tmp_path / "t.jsonl")
    assert (tmp_path / "t.jsonl").stat().st_mode & 0o077 == 0


def test_a_full_disk_ends_the_trace_and_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker goes on."""
    trace = TraceFile(tmp_path / "t.jsonl")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with caplog.at_level(logging.ERROR, "kashvi"):
        trace(DONE)
        trace(DONE)
    assert [record.getMessage() for record in caplog.records] == [
        f"the trace {tmp_path / 't.jsonl'} ends here: it can't be written: No space left on device"
    ]


def test_a_trace_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    """With the reason."""
    with pytest.raises(InvalidSetting, match="No such file or directory"):
        TraceFile(tmp_path / "nowhere" / "t.jsonl")


def test_a_line_that_is_nested_too_deeply_is_no_event() -> None:
    """Its number is in the error; no RecursionError gets out."""
    deep = b'{"event":"JobDispatched","job_id":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    with pytest.raises(NotATrace, match="line 2 is no event: it is nested too deeply"):
        list(read([b"", deep]))
