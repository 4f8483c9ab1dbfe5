"""No queue, the limit: redis-py and the least commands that could do the work, in one thread."""

from __future__ import annotations

import json

from benchmarks import work
from benchmarks.peers import App, Peer, Task

PEER = Peer(
    "bare redis-py",
    "redis",
    (),
    "none: a dead process's jobs are lost",
    "`LPUSH` a job; a loop of `BLMOVE`, `json.loads` and `LREM` in one thread. The floor of what one job a "
    "round trip can cost with this client.",
    later=False,
)


def connect(url: str) -> App:
    import redis

    client = redis.Redis.from_url(url)
    tasks = {"noop": work.noop, "nap": work.nap, "burn": work.burn}

    def job(task: Task, n: int) -> str:
        return json.dumps([task, {"user_id": n, "email": work.email(n)}])

    class Bare:
        def dispatch(self, task: Task, ids: range) -> None:
            for n in ids:
                client.lpush("jobs", job(task, n))

        def many(self, ids: range) -> None:
            client.lpush("jobs", *(job("noop", n) for n in ids))

        def later(self, ids: range, delay_s: float) -> None:
            raise NotImplementedError

        def work(self) -> None:
            while True:
                raw = client.blmove("jobs", "held", 5, "RIGHT", "LEFT")
                if raw is None:
                    continue
                task, fields = json.loads(raw)
                tasks[task](**fields)
                client.lrem("held", -1, raw)

    return Bare()
