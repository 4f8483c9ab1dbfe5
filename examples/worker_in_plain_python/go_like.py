"""A worker without kashvi that works as the original Go program, with redis-py.

It runs the job types of ``spec/worker-kit.md``. ``README.md`` beside it lists the clauses it breaks.
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

import redis
from jobs import TYPES, Job, client

JOBS = "kashvi:queue:jobs"
DELAYED = "kashvi:queue:delayed"
MAX_RETRY = 3
TABLE = """
CREATE TABLE IF NOT EXISTS kashvi_failed_jobs (id integer PRIMARY KEY, job_type text NOT NULL, payload text NOT NULL,
    error text, attempts integer NOT NULL DEFAULT 0, failed_at datetime)
"""


def work() -> None:
    """Work in one thread. A claimed job is only in its memory."""
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
    """Insert a row with the job's current fields, not those sent."""
    with sqlite3.connect(os.environ["KASHVI_DATABASE_URL"].removeprefix("sqlite:///"), timeout=30) as database:
        database.execute(TABLE)
        database.execute(
            "INSERT INTO kashvi_failed_jobs (job_type, payload, error, attempts, failed_at) VALUES (?, ?, ?, ?, ?)",
            (job_type, json.dumps(vars(job)), str(error), MAX_RETRY, str(datetime.now(UTC))),
        )


def promote() -> None:
    """Read due jobs, then move them, once a second. Another process that read them meanwhile moves them, too."""
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
