"""A worker without kashvi: redis-py, and what the original Go program does, its departures included.

It runs the job types of ``spec/worker-kit.md``. ``README.md`` beside it says which clauses it breaks.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
import threading
import time
from datetime import UTC, datetime
from typing import Any

import redis

JOBS = "kashvi:queue:jobs"
DELAYED = "kashvi:queue:delayed"
MAX_RETRY = 3
TABLE = """
CREATE TABLE IF NOT EXISTS kashvi_failed_jobs (id integer PRIMARY KEY, job_type text NOT NULL, payload text NOT NULL,
    error text, attempts integer NOT NULL DEFAULT 0, failed_at datetime)
"""

client: Any = redis.Redis.from_url(os.environ["KASHVI_REDIS_URL"])


class Job:
    """Fields, and what to do with them."""

    fields: dict[str, type | tuple[type, ...]] = {"log": str, "name": str}
    log: str
    name: str

    def __init__(self, payload: dict[str, Any]) -> None:
        for field, kind in self.fields.items():
            value = payload[field]
            if not isinstance(value, kind):
                raise TypeError(f"{field} is {value!r}")
            setattr(self, field, value)

    def handle(self) -> None:
        raise NotImplementedError

    def tell(self, did: str, **more: str | int) -> str:
        entry = {"job": self.name, "did": did, "worker": os.environ["KASHVI_SPEC_WORKER"], **more}
        entry_id: bytes = client.xadd(self.log, entry)
        return entry_id.decode()


class Echo(Job):
    fields = Job.fields | {"text": str, "number": int}
    text: str
    number: int

    def handle(self) -> None:
        self.tell("start", text=self.text, number=self.number)
        self.tell("end")


class Fail(Job):
    fields = Job.fields | {"seconds": (int, float), "seen": int}
    seconds: float
    seen: int

    def handle(self) -> None:
        entry = self.tell("start", seen=self.seen)
        self.seen += 1
        time.sleep(self.seconds)
        raise RuntimeError(f"{self.name} failed at {entry}")


class Flaky(Job):
    fields = Job.fields | {"fails": int}
    fails: int

    def handle(self) -> None:
        entry = self.tell("start")
        if int(client.incr(f"{self.log}:{self.name}")) <= self.fails:
            raise RuntimeError(f"{self.name} failed at {entry}")
        self.tell("end")


class Sleep(Job):
    fields = Job.fields | {"seconds": (int, float)}
    seconds: float

    def handle(self) -> None:
        self.tell("start")
        time.sleep(self.seconds)
        self.tell("end")


TYPES: dict[str, type[Job]] = {"spec.Echo": Echo, "spec.Fail": Fail, "spec.Flaky": Flaky, "spec.Sleep": Sleep}


def work() -> None:
    """One thread. What it has taken from the list is nowhere else."""
    while True:
        try:
            taken = client.brpop([JOBS], timeout=5)
        except redis.RedisError:
            time.sleep(0.5)
            continue
        if taken:
            run(taken[1])


def run(raw: bytes) -> None:
    try:
        envelope = json.loads(raw)
        job_type, payload = envelope["type"], envelope["payload"]
    except (ValueError, LookupError, TypeError):
        return log("bad envelope", raw)
    if job_type not in TYPES:
        return log("unregistered job type", job_type)
    try:
        job = TYPES[job_type](payload)
    except (LookupError, TypeError) as error:
        return log("unmarshal payload", error)
    for attempt in range(1, MAX_RETRY + 1):
        try:
            return job.handle()
        except Exception as error:
            log("job failed, retrying", error)
            last = error
        time.sleep(attempt)  # here, and after the last attempt as well
    return record(job_type, job, last)


def record(job_type: str, job: Job, error: Exception) -> None:
    """As the job is now, not as it was sent."""
    with sqlite3.connect(os.environ["KASHVI_DATABASE_URL"].removeprefix("sqlite:///"), timeout=30) as database:
        database.execute(TABLE)
        database.execute(
            "INSERT INTO kashvi_failed_jobs (job_type, payload, error, attempts, failed_at) VALUES (?, ?, ?, ?, ?)",
            (job_type, json.dumps(vars(job)), str(error), MAX_RETRY, str(datetime.now(UTC))),
        )


def promote() -> None:
    """Once a second: first read, then move. Who else has read meanwhile, moves as well."""
    while True:
        time.sleep(1)
        try:
            due = client.zrangebyscore(DELAYED, "-inf", int(time.time()))
            if due:
                pipe = client.pipeline(transaction=False)
                for raw in due:
                    pipe.zrem(DELAYED, raw)
                    pipe.lpush(JOBS, raw)
                pipe.execute(raise_on_error=False)
        except redis.RedisError:
            continue


def log(what: str, detail: object) -> None:
    print(f"queue: {what}: {detail}", flush=True)


def main() -> None:
    threads = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0))
    threading.Thread(target=promote, daemon=True).start()
    for _ in range(threads):
        threading.Thread(target=work, daemon=True).start()
    threading.Event().wait()


if __name__ == "__main__":
    main()
