"""The jobs of a search, by number: their envelopes and ids."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec

from kashvi.events import Event, JobDispatched
from kashvi.worker.machine.steps import SECOND

from .scope import Scope


def job_numbered(n: int, again: int = 0, kind: str = "Small") -> bytes:
    """The envelope of job ``n``. ``again``: for a follow-up, the start of its parent."""
    return b'{"id":"%b","type":"jobs.%b","payload":{"n":%d}}' % (_id(n, again).encode(), kind.encode(), n)


def _id(n: int, again: int) -> str:
    return f"{n}.{again}" if again else str(n)


def number_of(job_id: str) -> int:
    return int(job_id.partition(".")[0])


class _Id(msgspec.Struct):
    id: str


@cache
def id_in(raw: bytes) -> str:
    return msgspec.json.decode(raw, type=_Id).id


def dispatched(scope: Scope, now: int, push: Any) -> list[Event]:
    """Dispatch all jobs of a scope; returns the events."""
    told: list[Event] = []
    for n in range(scope.jobs):
        kind = "Hangs" if scope.hangs and n == 0 else "Small"
        delay_s = scope.delay_s if n >= scope.jobs - scope.delayed else 0.0
        due = push([job_numbered(n, kind=kind)], delay_s)
        about = {"job_id": str(n), "type": f"jobs.{kind}", "due": due, "server_at": now / SECOND}
        told.append(JobDispatched(process="p0", seq=n, at=now / SECOND, **about))
    return told
