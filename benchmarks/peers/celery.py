"""Celery: one worker with the thread pool."""

from __future__ import annotations

import os

from benchmarks import work
from benchmarks.peers import THREADS, App, Peer, Task

PEER = Peer(
    "Celery",
    "celery",
    ("celery[redis]",),
    "at most once: acknowledged before it runs (the default; late acks are optional)",
    "`--pool threads --concurrency 10`, no gossip or mingle, `task_ignore_result`, `worker_disable_rate_limits` and "
    "a prefetch multiplier of 128: its guide to optimizing, for many short tasks.",
    many=False,
)


def connect(url: str) -> App:
    from celery import Celery

    app = Celery("bench", broker=url)
    app.conf.update(
        task_ignore_result=True,
        worker_prefetch_multiplier=128,
        worker_disable_rate_limits=True,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
    )
    tasks = {name: app.task(getattr(work, name), name=name) for name in ("noop", "nap", "burn")}

    class CeleryApp:
        def dispatch(self, task: Task, ids: range) -> None:
            for n in ids:
                tasks[task].delay(n, work.email(n))

        def many(self, ids: range) -> None:
            raise NotImplementedError

        def later(self, ids: range, delay_s: float) -> None:
            for n in ids:
                tasks["noop"].apply_async((n, work.email(n)), countdown=delay_s)

        def work(self) -> None:
            options = ["--pool", "threads", "--concurrency", str(THREADS), "--loglevel", "ERROR"]
            app.worker_main(
                ["worker", *options, "--without-gossip", "--without-mingle", "-n", f"bench{os.getpid()}@%h"]
            )

    return CeleryApp()
