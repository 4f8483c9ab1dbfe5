"""Bugs of chains: links that go out too early, never, or whatever happened; chains that are not checked."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import msgspec

from kashvi import dispatch
from kashvi.dispatch import Sealed
from kashvi.errors import NotAChain
from kashvi.jobs import chain, envelope
from kashvi.jobs.envelope import read
from kashvi.ports import Driver
from kashvi.stream import EventStream
from kashvi.worker.attempt import Attempts
from kashvi.worker.settle import Delivery, Settling

from . import Patch, exhibit, where


def _links(job: bytes) -> list[tuple[bytes, str]]:
    """The later links of a job, each as an envelope without a rest, and its queue."""
    rest = read(job).next
    raws = msgspec.json.decode(rest, type=list[msgspec.Raw]) if rest else []
    return [(bytes(raw), link.queue) for raw, link in zip(raws, chain.links(rest) if rest else (), strict=True)]


@exhibit(
    "all links of a chain are sent at once",
    "the parcel is on its way before the payment has failed",
    "JOBS-21",
    source="Laravel: Bus::batch in place of Bus::chain",
    also="QUEUES-10",
)
def _(patch: Patch) -> None:
    def push(real: Any, driver: Any, stream: EventStream, sealed: Sequence[Sealed], delay_s: float) -> None:
        [first] = sealed
        alone = envelope.rewrite(first.envelope, first.job_id, next=None)
        real(driver, stream, [msgspec.structs.replace(first, envelope=alone)], delay_s)
        for link, queue in _links(first.envelope):
            driver.push([link], delay_s, [queue])

    def chained(driver: Driver, stream: EventStream, sealed: Sequence[Sealed], delay_s: float) -> bool:
        return bool(sealed[0].chain)

    where(patch, dispatch, "push", chained, push)


@exhibit(
    "a retry forgets the rest of its chain",
    "the second attempt succeeds, and nothing comes after it",
    "JOBS-21",
    source="Celery #4834: a task that is retried loses the rest of its chain",
)
def _(patch: Patch) -> None:
    def rewrite(real: Any, raw: bytes, job_id: str, **changes: Any) -> bytes:
        return bytes(real(raw, job_id, **changes | {"next": None}))

    where(patch, envelope, "rewrite", lambda raw, job_id, **changes: b'"next":' in raw, rewrite)


@exhibit("a chain goes on after a link that failed", "as if each of its jobs stood alone", "JOBS-21")
def _(patch: Patch) -> None:
    def failed(real: Any, self: Attempts, d: Delivery, *how: Any) -> Settling:
        settling: Settling = real(self, d, *how)
        if settling.move == "fail" and d.envelope is not None and (found := chain.following(d.envelope.next)):
            driver: Any = self.follow_ups._driver
            driver.push([found[1]], 0.0, [found[0].queue])
        return settling

    where(patch, Attempts, "failed", lambda self, d, *how: bool(d.envelope and d.envelope.next), failed)


@exhibit("the rest of a chain is not checked", "the job runs, and what comes after it is lost", "JOBS-22")
def _(patch: Patch) -> None:
    links, following = chain.links, chain.following

    def lenient(rest: msgspec.Raw) -> list[chain.Link]:
        with contextlib.suppress(NotAChain):
            return links(rest)
        return []

    def next_one(rest: msgspec.Raw) -> tuple[chain.Link, bytes] | None:
        with contextlib.suppress(Exception):
            return following(rest)
        return None

    patch.setattr(chain, "links", lenient)
    patch.setattr(chain, "following", next_one)


@exhibit("a chain is not checked at its dispatch", "on the default queue, a Go worker drops the rest", "JOBS-22")
def _(patch: Patch) -> None:
    def seal_chain(jobs: Sequence[object], registry: Any, runtime: Any, limit: int, driver: Any, queue: Any) -> Sealed:
        links = [dispatch.seal_job(job, registry, runtime, limit, queue) for job in jobs]
        whole = chain.joined([link.envelope for link in links])
        later = tuple(one.job_id for one in links[1:])
        return Sealed(links[0].job_id, links[0].type, whole, links[0].queue, chain=later)

    patch.setattr(dispatch, "seal_chain", seal_chain)


@exhibit("a chain of any size", "as if the payload limit counted for each link alone", "JOBS-22")
def _(patch: Patch) -> None:
    def seal_chain(real: Any, jobs: Any, registry: Any, runtime: Any, limit: int, *rest: Any) -> Sealed:
        sealed: Sealed = real(jobs, registry, runtime, 1 << 30, *rest)
        return sealed

    where(patch, dispatch, "seal_chain", lambda *how: True, seal_chain)
