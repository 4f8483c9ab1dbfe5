"""Taskiq on Redis streams, with acknowledgements."""

from __future__ import annotations

from benchmarks import work
from benchmarks.peers import THREADS, App, AsyncApp, Peer, Task

PEER = Peer(
    "Taskiq",
    "taskiq",
    ("taskiq", "taskiq-redis"),
    "at least once (unacknowledged after 10 minutes: again)",
    "`RedisStreamBroker`, the broker with acknowledgements, reading 100 at a time (its default); receiver with ten "
    "async tasks and a prefetch of 100; no result backend, no parameter validation. Delayed jobs need a scheduler "
    "process beside the worker and are left out.",
    many=False,
    later=False,
)


def connect(url: str) -> App:
    from taskiq.api import run_receiver_task
    from taskiq_redis import RedisStreamBroker

    broker = RedisStreamBroker(url, consumer_id="0")
    tasks = {
        "noop": broker.register_task(work.noop_async, "noop"),
        "nap": broker.register_task(work.nap_async, "nap"),
        "burn": broker.register_task(work.burn_async, "burn"),
    }

    class Taskiq(AsyncApp):
        def __init__(self) -> None:
            super().__init__()
            self._up = False

        def dispatch(self, task: Task, ids: range) -> None:
            self.run(self._kick(task, ids))

        async def _kick(self, task: Task, ids: range) -> None:
            if not self._up:
                await broker.startup()
                self._up = True
            for n in ids:
                await tasks[task].kiq(n, work.email(n))

        def many(self, ids: range) -> None:
            raise NotImplementedError

        def later(self, ids: range, delay_s: float) -> None:
            raise NotImplementedError

        def work(self) -> None:
            options = {"max_async_tasks": THREADS, "max_prefetch": 100, "validate_params": False}
            self.run(run_receiver_task(broker, run_startup=True, **options))

    return Taskiq()
