"""``kashvi …`` within this process, for examples of the command line: quick, with a fake server."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, TextIO
from unittest.mock import patch

import fakeredis
import redis

from kashvi.cli import main

from ..fork import forked

URL = "redis://shop"
APP = """
from dataclasses import dataclass

from kashvi.queue import Queue
from kashvi.registry import Registry

queue = Queue(registry=Registry())


@queue.job("jobs.Note")
@dataclass
class Note:
    n: int

    def handle(self) -> None:
        with open("ran.txt", "a") as ran:
            print(self.n, file=ran)
        if self.n < 0:
            raise ValueError("a negative note")
"""


class Shown(NamedTuple):
    """The output and exit code of a command."""

    code: int
    out: str
    err: str


class Shell:
    """``with Shell() as kashvi: kashvi("queue:work", "--stop-when-empty")``, in an empty directory.

    ``app``: the text of ``shop.py`` in it, the module in ``KASHVI_APP``, with a ``queue``. The default one registers
    ``jobs.Note``, which writes its number to ``ran``, and fails if that is negative. The URL
    ``redis://shop`` leads to a fake server, and so does ``client``.
    """

    def __init__(self, app: str = APP) -> None:
        self._app = app
        self._kept = tempfile.TemporaryDirectory()
        self.directory = Path(self._kept.name)
        self._server = fakeredis.FakeServer()
        self.client = self._connect()

    def __enter__(self) -> Shell:
        (self.directory / "shop.py").write_text(self._app)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kept.cleanup()

    def __call__(self, *words: str) -> Shown:
        """Run a command, then restore the process's state, so that the next command starts fresh."""
        with io.StringIO() as out, io.StringIO() as err:
            return Shown(self._run(words, out, err), out.getvalue(), err.getvalue())

    def apart(self, *words: str) -> Shown:
        """Run a command that may end its process: in a fork, on a copy of the fake server."""
        files = [self.directory / "out.txt", self.directory / "err.txt"]

        def run() -> None:
            with files[0].open("w", buffering=1) as out, files[1].open("w", buffering=1) as err:
                sys.exit(self._run(words, out, err))

        process = forked(run)
        process.join()
        return Shown(process.exitcode, *(file.read_text() for file in files))

    def _run(self, words: tuple[str, ...], out: TextIO, err: TextIO) -> Any:
        others = {name: value for name, value in os.environ.items() if not name.startswith("KASHVI_")}
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        log = logging.getLogger("kashvi")
        level = log.level
        code: Any = None
        with (
            contextlib.chdir(self.directory),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            patch.dict(os.environ, others | {"KASHVI_APP": "shop:queue"}, clear=True),
            patch.object(sys, "argv", ["kashvi", *words]),
            patch.object(sys, "path", sys.path[:]),
            patch.object(logging.root, "handlers", []),
            patch.object(redis.Redis, "from_url", self._from_url(redis.Redis.from_url)),
        ):
            try:
                main()
            except SystemExit as exit_:
                code = exit_.code
            finally:
                sys.modules.pop("shop", None)
                for number, handler in handlers.items():
                    signal.signal(number, handler)
                log.setLevel(level)
        return code

    def push(self, *numbers: int) -> None:
        """Push notes as another program does."""
        for n in numbers:
            self.client.lpush("kashvi:queue:jobs", b'{"type":"jobs.Note","payload":{"n":%d}}' % n)

    @property
    def ran(self) -> list[int]:
        """The numbers of the notes whose handler was called."""
        path = self.directory / "ran.txt"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    @property
    def left(self) -> int:
        """The number of ready jobs."""
        return int(self.client.llen("kashvi:queue:jobs"))

    def _connect(self) -> redis.Redis:
        client: redis.Redis = fakeredis.FakeRedis(server=self._server)
        return client

    def _from_url(self, real: Any) -> Any:
        return lambda url: self._connect() if url == URL else real(url)
