"""Standard output under ``--json``: JSON lines only."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

from ..runtime import SystemRuntime
from ..text import AS_JSON


class JsonStdout:
    """Reserves standard output; all other writes to it go to standard error.

    That includes a handler's ``print``, its writes to file descriptor 1, and the processes it starts. So no JSON line
    is ever broken by them.
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
        """Write one line, whole and flushed. After a closed pipe or a full disk, write nothing."""
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
    """Send standard output to standard error meanwhile: a module may print when it is imported."""
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


def others_out() -> None:
    """Send standard output to standard error from now on, such as prints of the app's ``atexit`` functions."""
    if _is_standard_output(sys.stdout):
        os.dup2(2, 1)


def _is_standard_output(stream: object) -> bool:
    """True if the stream leads to file descriptor 1 and descriptor 2 is open; False under a test's capture."""
    try:
        stream.flush()  # type: ignore[attr-defined]
        os.fstat(2)
        return bool(stream.fileno() == 1)  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError):
        return False
