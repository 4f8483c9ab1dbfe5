"""Standard output under ``--json``: JSON lines, and nothing else."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

from ..runtime import SystemRuntime
from ..text import AS_JSON


class JsonStdout:
    """Takes standard output for itself; what anybody else writes there goes to standard error.

    Anybody: a handler's ``print``, what it writes to file descriptor 1, the processes it starts. So no line of JSON is
    broken, wherever theirs end.
    """

    def __init__(self) -> None:
        self._lock = SystemRuntime().condition()
        self._open = True
        self._stream = sys.stdout
        self._encoding = getattr(self._stream, "encoding", None) or "utf-8"
        self._file = os.dup(1) if _is_standard_output(self._stream) else None
        if self._file is None:
            sys.stdout = sys.stderr
        else:
            os.dup2(2, 1)

    def write(self, line: str) -> None:
        """One line, at once and whole; nothing any more when its reader has gone, or the disk is full."""
        with self._lock:
            try:
                if self._open:
                    self._write(line + "\n")
            except (OSError, AttributeError):
                self._open = False

    def _write(self, text: str) -> None:
        if self._file is None:
            self._stream.write(text)
            self._stream.flush()
            return
        left = text.encode(self._encoding, AS_JSON)
        while left:
            left = left[os.write(self._file, left) :]


@contextmanager
def elsewhere() -> Iterator[None]:
    """What is written to standard output meanwhile, as by a module that prints when it is imported, goes to standard
    error."""
    stream = sys.stdout
    if not _is_standard_output(stream):
        with redirect_stdout(sys.stderr):
            yield
        return
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        stream.flush()
        os.dup2(kept, 1)
        os.close(kept)


def _is_standard_output(stream: object) -> bool:
    """Whether it leads to file descriptor 1, and 2 is there, too; a test's does not."""
    try:
        stream.flush()  # type: ignore[attr-defined]
        os.fstat(2)
        return bool(stream.fileno() == 1)  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError):
        return False
