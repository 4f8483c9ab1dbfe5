"""A trace: the events of a process as lines of JSON in a file, for ``spec:check`` and ``sim:replay`` to read.

Each event is one ``write`` at the end of the file, made before the worker goes on. So a process that is killed loses
at most the end of its last line, and the processes of one host may share a file (not over a network file system).
The text of an exception may hold a secret, so a trace keeps only its type and its place in the code.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from . import events
from .errors import UnusableSetting
from .events import Event, log
from .raised import places_of

_encode = msgspec.json.Encoder().encode


class TraceFile:
    """An observer that appends to ``path``: ``queue.observe(queue.TraceFile("web.jsonl"))``.

    Only the owner can read the file. A full disk ends the trace, not the worker, and is logged.
    Raises InvalidSetting if the file can't be written.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        try:
            self._file = self._opened()
        except OSError as error:
            raise UnusableSetting(f"the trace {path}", f"it can't be written ({error.strerror})") from None
        self._open = True

    def __call__(self, event: Event) -> None:
        if not self._open:
            return
        try:
            os.write(self._file, _line(event))
        except OSError as error:
            self._open = False
            log.error("the trace %s ends here: it can't be written: %s", self.path, error.strerror)

    def reopen(self) -> None:
        """Continue in a new file of the same name, after the old one was renamed; on an error, in the old one."""
        if not self._open:
            return
        try:
            new = self._opened()
            os.dup2(new, self._file, inheritable=False)  # atomic for threads that write meanwhile
            os.close(new)
        except OSError as error:
            log.error("the trace %s can't be opened again, so the old file continues: %s", self.path, error.strerror)

    def _opened(self) -> int:
        file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
        if os.lseek(file, 0, os.SEEK_END):
            os.lseek(file, -1, os.SEEK_END)
            if os.read(file, 1) != b"\n":
                os.write(file, b"\n")  # another process was killed in the middle of a line
        return file

    def close(self) -> None:
        """End the trace."""
        self._open = False
        os.close(self._file)


def _line(event: Event) -> bytes:
    line = _encode(_without_secrets(event))
    if isinstance(event, events.AttemptFailed) and event.exception is not None:
        line = b'%b,"traceback":%b}' % (line[:-1], _encode(places_of(event.exception)))
    return line + b"\n"


def _without_secrets(event: Event) -> Event:
    error: str | None = getattr(event, "error", None)
    if error is None:
        return event
    kept = "" if isinstance(event, events.FailureRefused) else error.partition(": ")[0]
    return msgspec.structs.replace(event, error=kept)
