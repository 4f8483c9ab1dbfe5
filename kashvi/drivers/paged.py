"""The port ``Paging``: by ``page.lua`` and ``holders.lua`` on a server, and in memory."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from ..names import DEFAULT
from ..paging import PAGE_MAX_BYTES, WORKERS_MAX, Cursor, WorkerState, after_delayed
from ..ports import Place, Shown, Where
from .keys import ServerKeys

if TYPE_CHECKING:
    from .connection import Script
    from .lines import MemoryStore

OWNERS_MAX = 50
"""The most workers whose lists one call reads, so that the server is not blocked for long."""
PLACES: tuple[Place, Place] = ("running", "held")


class PagedOnServer(ServerKeys):
    """The part of the driver for Redis that shows a page."""

    _PAGE: Script
    _HOLDERS: Script

    def server_time(self) -> float:
        if self._server_now:
            return self._server_now()
        seconds, micros = self._server.call("TIME")
        return float(seconds) + float(micros) / 1e6

    def page(self, where: Where, limit: int, start: Cursor, queue: str = DEFAULT) -> tuple[list[Shown], Cursor | None]:
        if where == "running":
            return self._page_of_workers(limit, start)
        key = self._keys(queue)[where == "delayed"]
        kind = "set" if where == "delayed" else "lists"
        args = [kind, start.skip, limit, PAGE_MAX_BYTES, repr(start.score)]
        more, at, found = self._server.run(self._PAGE, [key], args)
        if where == "ready":
            return [Shown(envelope) for envelope in found[1::2]], Cursor(at) if more else None
        jobs = [Shown(envelope, float(due)) for due, envelope in zip(found[::2], found[1::2], strict=True)]
        return jobs, after_delayed(start, jobs) if more else None

    def _page_of_workers(self, limit: int, start: Cursor) -> tuple[list[Shown], Cursor | None]:
        workers = [name for name in self._workers_by_name() if name >= start.worker]
        lists = [(name, place) for name in workers for place in PLACES]
        lists = lists[lists[:1] == [(start.worker, "running")] and start.place == "held" :]
        skip = start.skip if lists[:1] == [(start.worker, start.place)] else 0
        part = lists[: 2 * OWNERS_MAX]
        if not part:
            return [], None
        keys = [self._lists(name)[place == "running"] for name, place in part]
        more, at, found = self._server.run(self._PAGE, keys, ["lists", skip, limit, PAGE_MAX_BYTES, ""])
        jobs = [Shown(envelope, worker=part[n - 1][0]) for n, envelope in zip(found[::2], found[1::2], strict=True)]
        if not more and len(part) == len(lists):
            return jobs, None
        name, place = part[more - 1] if more else lists[len(part)]
        return jobs, Cursor(at if more else 0, worker=name, place=place)

    def worker_states(self) -> list[WorkerState]:
        names, states = self._workers_by_name()[:WORKERS_MAX], list[WorkerState]()
        for i in range(0, len(names), OWNERS_MAX):
            part = names[i : i + OWNERS_MAX]
            keys = [self._workers, self._serves, *(key for name in part for key in self._lists(name))]
            found = self._server.run(self._HOLDERS, keys, [self._now(), *(self._odd.get(name, name) for name in part)])
            states += [
                WorkerState(name, float(left), tuple((serves or b"default").decode("utf-8", "replace").split(",")), n)
                for name, (left, serves, n) in zip(part, found, strict=True)
                if left
            ]
        return states

    def _workers_by_name(self) -> list[str]:
        return sorted(map(self._name, self._server.call("ZRANGE", self._workers, 0, -1)))


class PagedInMemory:
    """The part of the memory driver that shows a page."""

    store: MemoryStore

    def server_time(self) -> float:
        return self.store.now()

    def page(self, where: Where, limit: int, start: Cursor, queue: str = DEFAULT) -> tuple[list[Shown], Cursor | None]:
        store = self.store
        with store.condition:
            if where == "ready":
                ready = islice(reversed(store.line(queue).jobs), start.skip, start.skip + limit + 1)
                jobs, more = _page([Shown(envelope) for envelope in ready], limit)
                return jobs, Cursor(start.skip + len(jobs)) if more else None
            if where == "delayed":
                late = sorted(one for one in store.line(queue).delayed if one[0] >= start.score)[start.skip :]
                jobs, more = _page([Shown(envelope, due) for due, envelope in late[: limit + 1]], limit)
                return jobs, after_delayed(start, jobs) if more else None
            lists = [
                (worker, place, (store.running if place == "running" else store.held).get(worker, []))
                for worker in sorted(store.held.keys() | store.running.keys())
                for place in PLACES
                if (worker, place == "held") >= (start.worker, start.place == "held")
            ]
            at_start = [start.skip if (w, place) == (start.worker, start.place) else 0 for w, place, _ in lists]
            found = [
                (Shown(envelope, worker=worker), Cursor(k + 1, worker=worker, place=place))
                for (worker, place, jobs_of_it), skip in zip(lists, at_start, strict=True)
                for k, envelope in enumerate(jobs_of_it)
                if k >= skip
            ]
        jobs, more = _page([one for one, _ in found], limit)
        return jobs, found[len(jobs) - 1][1] if more else None

    def worker_states(self) -> list[WorkerState]:
        store = self.store
        with store.condition:
            now = store.now()
            return [
                WorkerState(
                    name, store.workers[name] - now, store.serves.get(name, (DEFAULT,)),
                    len(store.held.get(name, ())) + len(store.running.get(name, ())),
                )
                for name in sorted(store.workers)[:WORKERS_MAX]
            ]  # fmt: skip


def _page(found: list[Shown], limit: int) -> tuple[list[Shown], bool]:
    """As many as make a page, and whether there are more."""
    size = 0
    for n, one in enumerate(found[:limit], 1):
        size += len(one.envelope)
        if size >= PAGE_MAX_BYTES:
            return found[:n], len(found) > n
    return found[:limit], len(found) > limit
