"""The predicate over chains."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from kashvi.events import AttemptStarted, AttemptSucceeded, ChainCancelled, JobDispatched, JobFailed, JobSucceeded

from ..judging import ROUNDING_S, Predicate, Violation, Watches


@dataclass
class _Link:
    """What the events say about a job in a chain."""

    sent_by: list[str] = field(default_factory=list)
    """By each dispatch as the next link, the job whose settlement it was."""
    started: bool = False
    claimed: float | None = None
    """The server's time of its first claim by an exchange."""
    succeeded: bool = False
    done: bool = False
    done_at: float | None = None
    failed: bool = False
    ended: bool = False
    """It was cancelled, and so the chain ended with it."""


class ChainsInOrder(Predicate):
    """A link goes out once the one before it is done: never before, once, and never if that one failed.

    The job before it is the one whose attempts carry the link: ``queue:retry`` gives a link that failed another id.
    """

    name = "chains in order"

    def __init__(self) -> None:
        super().__init__()
        self._before: dict[str, str] = {}
        self._links: defaultdict[str, _Link] = defaultdict(_Link)

    def watches(self) -> Watches:
        return {
            JobDispatched: self._dispatched,
            AttemptStarted: self._starts,
            AttemptSucceeded: self._succeeds,
            JobSucceeded: self._settled,
            JobFailed: self._fails,
            ChainCancelled: self._ends,
        }

    def _dispatched(self, event: JobDispatched) -> None:
        last = event.job_id
        for link in event.chain:
            self._pair(last, link)
            last = link
        if event.parent and event.job_id in self._links:
            self.judged += 1
            self._links[event.job_id].sent_by.append(event.parent)

    def _pair(self, before: str, after: str) -> None:
        self._before[after] = before
        for link in (before, after):
            self._links[link]

    def _starts(self, event: AttemptStarted) -> None:
        if event.next:
            self._pair(event.job_id, event.next)
        if event.job_id in self._links:
            link = self._links[event.job_id]
            link.started = True
            if event.claim == "exchange" and link.claimed is None:
                link.claimed = event.server_at

    def _succeeds(self, event: AttemptSucceeded) -> None:
        if event.job_id in self._links:
            self._links[event.job_id].succeeded = True

    def _settled(self, event: JobSucceeded) -> None:
        if event.job_id in self._links:
            link = self._links[event.job_id]
            link.done, link.done_at = True, event.server_at

    def _fails(self, event: JobFailed) -> None:
        if event.job_id in self._links:
            self._links[event.job_id].failed = True

    def _ends(self, event: ChainCancelled) -> None:
        self._links[event.job_id].ended = True

    def at_end(self) -> list[Violation]:
        found: list[Violation] = []
        for name, before in sorted(self._before.items()):
            link, last = self._links[name], self._links[before]
            if len(link.sent_by) > 1:
                found.append(self.broken(name, f"went out {len(link.sent_by)} times"))
            if (link.sent_by or link.started) and (why := _too_soon(link, last)):
                found.append(self.broken(name, f"went out, and {before}, the link before it, {why}"))
            elif last.done and not last.ended and not (link.sent_by or link.started):
                found.append(self.broken(before, f"is done, and the next link, {name}, never went out"))
        return found


def _too_soon(link: _Link, last: _Link) -> str:
    """Why the link before it forbids that it went out, else empty."""
    if last.failed:
        return "has failed"
    if last.ended:
        return "was cancelled"
    if not last.succeeded:
        return "had not succeeded"
    if link.claimed is not None and last.done_at is not None and link.claimed < last.done_at - ROUNDING_S:
        return f"was done {last.done_at - link.claimed:.6f} s after it was claimed"
    return ""
