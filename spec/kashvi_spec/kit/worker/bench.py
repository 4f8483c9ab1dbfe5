"""The bench of a run: an empty queue on a server, a failure table, worker processes; all removed at the end."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import redis
import sqlalchemy as sa

from kashvi.drivers.address import client_of
from kashvi.failures.engine import engine_of
from kashvi.failures.table import TABLE
from kashvi.failures.trouble import TROUBLE, why
from kashvi.runtime import SystemRuntime

from .process import CannotJudge, WorkerProcess, words_of
from .pushing import Jobs, ToPush
from .story import CANCELLED, DELAYED, JOBS, PREFIX, Happened, Pushed, Story, document
from .watch import Watch


class Bench:
    """``with Bench(url, command, …) as bench``: the resources of a run.

    ``beside``: another command, whose processes take turns with those of ``command``.
    Raises CannotJudge and InvalidSetting before any change, and redis.RedisError at any time.
    """

    def __init__(
        self, redis_url: str, command: str, database_url: str, threads: int, lease_s: float, beside: str = ""
    ) -> None:
        for one in (command, *([beside] if beside else [])):
            words_of(one, {})
        self.client = client_of(redis_url)
        self._refuse_unless_empty()
        if database_url:
            _refuse_unless_there(engine_of(database_url))
        self._folder = tempfile.TemporaryDirectory(prefix="kashvi-spec-")
        database_url = database_url or f"sqlite:///{self._folder.name}/failures.db"
        self._engine = engine_of(database_url)
        values = {"redis_url": redis_url, "database_url": database_url, "threads": threads, "lease": f"{lease_s:g}"}
        texts = {name: str(value) for name, value in values.items()}
        self._commands = {"worker": words_of(command, texts)}
        if beside:
            self._commands["beside"] = words_of(beside, texts)
        self._environment = {"KASHVI_REDIS_URL": redis_url, "KASHVI_DATABASE_URL": database_url}
        self._log = f"kashvi-spec:{SystemRuntime().new_id()}"
        self.story = Story(threads, lease_s)
        self.watch = Watch(self.client, self._log, self._engine, self.story)
        self.jobs = Jobs(self._log, threads)
        self.workers: list[WorkerProcess] = []
        """All processes started so far."""

    def _refuse_unless_empty(self) -> None:
        if keys := sorted(key.decode() for key in self.client.scan_iter(match=f"{PREFIX}*", count=1000)):
            raise CannotJudge(
                f"the queue is not empty: there is {', '.join(keys[:5])}. Pass an unused database, "
                "such as redis://localhost:6379/9, or delete these keys if they are not needed",
                "--redis-url",
            )

    def __enter__(self) -> Bench:
        self.watch.look()
        self.story.began = self.watch.now
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.workers:
            with suppress(Exception):
                worker.end()
        with suppress(redis.RedisError):
            self._unpause()
            for pattern in (f"{PREFIX}*", f"{self._log}*"):
                if keys := list(self.client.scan_iter(match=pattern, count=1000)):
                    self.client.delete(*keys)
        with suppress(sa.exc.SQLAlchemyError), self._engine.begin() as connection:
            for row in self.watch.rows:
                condition, value = row.found_by
                connection.execute(sa.text(f"DELETE FROM {TABLE} WHERE {condition}"), {"value": value})
        self._folder.cleanup()

    def _unpause(self) -> None:
        with suppress(redis.ResponseError):  # it may not be allowed; then it was not allowed to pause either
            self.client.execute_command("CLIENT UNPAUSE")

    @property
    def kinds(self) -> list[str]:
        """The kinds of commands; names of processes begin with them."""
        return list(self._commands)

    def start(self, kind: str = "") -> WorkerProcess:
        """Start another process: of this kind, else of each in turn."""
        kind = kind or self.kinds[len(self.workers) % len(self.kinds)]
        name = f"{kind}-{len(self.workers) + 1}"
        worker = WorkerProcess(name, self._commands[kind], self._environment, Path(self._folder.name, f"{name}.txt"))
        self.workers.append(worker)
        self._happened(worker, "started")
        return worker

    def send(self, worker: WorkerProcess, number: signal.Signals) -> None:
        """Send a signal, and note it in the story."""
        self._happened(worker, number.name)
        worker.send(number)

    def ended(self, worker: WorkerProcess) -> bool:
        """True if the process has ended; noted in the story once."""
        if (ended := worker.ended()) and not self.story.did("ended", worker.name):
            self._happened(worker, "ended", worker.code(), worker.asked_to_end)
        return ended

    def running(self) -> list[WorkerProcess]:
        return [worker for worker in self.workers if not self.ended(worker)]

    def _happened(self, worker: WorkerProcess, what: str, code: int | None = None, asked: bool = True) -> None:
        self.watch.look()
        self.story.happened.append(Happened(self.watch.now, worker.name, what, code, asked))

    def push(self, jobs: Iterable[ToPush]) -> list[str]:
        """Push jobs in this order, in one step; returns their names. Jobs that the server refuses were never pushed."""
        self.watch.look()
        pipe = self.client.pipeline(transaction=True)
        names = []
        for one in jobs:
            due = None if one.delay is None else self.watch.now + one.delay
            self.story.pushed[one.name] = Pushed(
                one.name, one.situation, one.type, one.raw, self.watch.now, due, one.fate, one.copies
            )
            names.append(one.name)
            if due is None:
                pipe.lpush(JOBS, *[one.raw] * one.copies)
            else:
                self.watch.puts(one.raw)
                pipe.zadd(DELAYED, {one.raw: due})
        try:
            pipe.execute()
        except redis.ResponseError:
            for name in names:
                del self.story.pushed[name]
            raise
        return names

    def mark(self, name: str) -> None:
        """Mark a job as cancelled; it runs."""
        self.watch.look()
        self.client.zadd(CANCELLED, {document(self.story.pushed[name].raw)["id"]: self.watch.now})
        self.watch.look()
        self.story.cancelled[name] = self.watch.now

    def on_the_list(self) -> list[bytes]:
        """The entries of ``kashvi:queue:jobs``, in the order of claims."""
        newest_first: list[Any] = self.client.lrange(JOBS, 0, -1)
        return newest_first[::-1]

    def on_the_queue(self) -> list[tuple[str, bytes]]:
        """Key and bytes of all jobs in lists and sorted sets of the queue."""
        found: list[tuple[str, bytes]] = []
        for key in self.client.scan_iter(match=f"{PREFIX}*", count=1000):
            kind = self.client.type(key)
            if kind in (b"list", b"zset"):
                every = self.client.lrange if kind == b"list" else self.client.zrange
                members: list[Any] = every(key, 0, -1)
                found += [(key.decode(), raw) for raw in members if b'"payload"' in raw or self._log.encode() in raw]
        return found


def _refuse_unless_there(engine: sa.Engine) -> None:
    try:
        engine.connect().close()
    except TROUBLE as error:
        raise CannotJudge(f"the failure table's database can't be reached: {why(error)}", "--database-url") from None
