"""The job types of ``spec/worker-kit.md``, for both workers of this folder."""

from __future__ import annotations

import os
import time
from typing import Any

import redis

client: Any = redis.Redis.from_url(os.environ.get("KASHVI_REDIS_URL", "redis://localhost:6379"))


class Job:
    """A job with its fields and its action."""

    fields: dict[str, type | tuple[type, ...]] = {"log": str, "name": str}
    log: str
    name: str

    def __init__(self, payload: dict[str, Any]) -> None:
        """Raises LookupError and TypeError for a payload that does not fit."""
        for field, kind in self.fields.items():
            value = payload[field]
            if not isinstance(value, kind) or isinstance(value, bool):
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
