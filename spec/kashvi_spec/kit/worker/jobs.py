"""The job types of ``spec/worker-kit.md``, for ``kashvi queue:work --app kashvi_spec.kit.worker.jobs``."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from functools import cache

import redis

from kashvi import queue


@cache
def _client() -> redis.Redis:
    return redis.Redis.from_url(os.environ["KASHVI_REDIS_URL"], decode_responses=True)


def _tell(log: str, name: str, did: str, **more: str | int) -> str:
    """Add an entry to the log; returns its id, which is the server's time."""
    entry = {"job": name, "did": did, "worker": os.environ["KASHVI_SPEC_WORKER"], **more}
    return str(_client().xadd(log, entry))  # type: ignore[arg-type]


@queue.job("spec.Echo")
@dataclass
class Echo:
    log: str
    name: str
    text: str
    number: int

    def handle(self) -> None:
        _tell(self.log, self.name, "start", text=self.text, number=self.number)
        _tell(self.log, self.name, "end")


@queue.job("spec.Fail")
@dataclass
class Fail:
    log: str
    name: str
    seconds: float
    seen: int

    def handle(self) -> None:
        entry = _tell(self.log, self.name, "start", seen=self.seen)
        self.seen += 1
        time.sleep(self.seconds)
        raise RuntimeError(f"{self.name} failed at {entry}")


@queue.job("spec.Flaky")
@dataclass
class Flaky:
    log: str
    name: str
    fails: int

    def handle(self) -> None:
        entry = _tell(self.log, self.name, "start")
        if int(_client().incr(f"{self.log}:{self.name}")) <= self.fails:
            raise RuntimeError(f"{self.name} failed at {entry}")
        _tell(self.log, self.name, "end")


@queue.job("spec.Sleep")
@dataclass
class Sleep:
    log: str
    name: str
    seconds: float

    def handle(self) -> None:
        _tell(self.log, self.name, "start")
        time.sleep(self.seconds)
        _tell(self.log, self.name, "end")
