"""The predicate over follow-ups."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from kashvi.events import (
    AttemptFailed,
    AttemptSnoozed,
    AttemptStarted,
    AttemptSucceeded,
    FollowUpKept,
    JobDispatched,
    JobDuplicate,
    JobReturned,
    JobSucceeded,
    SettleRefused,
)

from ..judging import Predicate, Violation, Watches

Key = tuple[str, str, int]
"""A job, a process and the number of the attempt."""


@dataclass
class _Run:
    """One start of an attempt that has follow-ups."""

    key: Key
    children: dict[str, str] = field(default_factory=dict)
    """Its follow-ups, each with its key."""
    succeeded: bool = False
    refused: bool = False
    """The server refused to settle it as done."""


class FollowUpsAllOrNone(Predicate):
    """Of an attempt that is settled as done, all follow-ups are sent; of any other, none.

    A follow-up was sent if it is told so, or if it starts: the process that sent it may have died before it could tell.
    One whose key is taken is told to be a duplicate, if the process lives to tell it.
    """

    name = "follow-ups all or none"

    def __init__(self) -> None:
        super().__init__()
        self._open: dict[Key, _Run] = {}
        """Attempts under way."""
        self._ended: dict[Key, list[_Run]] = {}
        """An attempt that was handed back may run again in the same process."""
        self._of: dict[str, _Run] = {}
        """The attempt of each follow-up."""
        self._done: set[Key] = set()
        """What is told to be settled as done."""
        self._sent: set[str] = set()
        self._under_way: Counter[tuple[str, str]] = Counter()
        """The attempts at a job in a process, without those that it handed back."""
        self._mixed: set[tuple[str, str]] = set()
        """Jobs that a process has run twice at the same time: whose a follow-up or an answer is, no event tells."""

    def watches(self) -> Watches:
        return {
            FollowUpKept: self._kept,
            AttemptStarted: self._starts,
            AttemptSucceeded: self._ends,
            AttemptFailed: self._ends,
            AttemptSnoozed: self._ends,
            JobSucceeded: self._settled,
            JobReturned: self._returned,
            SettleRefused: self._refused,
            JobDispatched: self._dispatched,
            JobDuplicate: self._dispatched,
        }

    def _kept(self, event: FollowUpKept) -> None:
        key = event.parent, event.process, event.attempt
        run = self._open.setdefault(key, _Run(key))
        run.children[event.job_id] = event.unique
        self._of[event.job_id] = run

    def _starts(self, event: AttemptStarted) -> None:
        about = event.job_id, event.process
        self._under_way[about] += 1
        if self._under_way[about] > 1:
            self._mixed.add(about)
        if not self._of:
            return
        self._close((event.job_id, event.process, event.attempt), succeeded=False)  # an earlier one has no end
        if event.job_id in self._of:
            self._sent.add(event.job_id)

    def _returned(self, event: JobReturned) -> None:
        self._under_way.pop((event.job_id, event.process), None)

    def _ends(self, event: AttemptSucceeded | AttemptFailed | AttemptSnoozed) -> None:
        about = event.job_id, event.process
        self._under_way[about] -= 1
        if self._under_way[about] <= 0:
            del self._under_way[about]
        if self._open:
            succeeded = isinstance(event, AttemptSucceeded)
            self._close((event.job_id, event.process, event.attempt), succeeded=succeeded)

    def _close(self, key: Key, *, succeeded: bool) -> None:
        if run := self._open.pop(key, None):
            run.succeeded = succeeded
            self._ended.setdefault(key, []).append(run)

    def _settled(self, event: JobSucceeded) -> None:
        key = event.job_id, event.process, event.attempts
        if key in self._ended:
            self._done.add(key)

    def _refused(self, event: SettleRefused) -> None:
        """Which of several runs was refused is not told."""
        runs = [run for key, runs in self._ended.items() if key[:2] == (event.job_id, event.process) for run in runs]
        if event.move == "done" and len(runs) == 1:
            runs[0].refused = True

    def _dispatched(self, event: JobDispatched | JobDuplicate) -> None:
        if event.job_id in self._of:
            self.judged += 1
            self._sent.add(event.job_id)

    def at_end(self) -> list[Violation]:
        found: list[Violation] = []
        by_parent: dict[str, list[_Run]] = {}
        for run in [*(run for runs in self._ended.values() for run in runs), *self._open.values()]:
            by_parent.setdefault(run.key[0], []).append(run)
        for parent, runs in sorted(by_parent.items()):
            sent = [run for run in runs if not self._sent.isdisjoint(run.children)]
            found += [self.broken(parent, why) for run in sent if (why := self._wrong(run))]
            if len(sent) > 1:
                found.append(self.broken(parent, f"the follow-ups of {len(sent)} of its attempts were sent"))
            if not sent and any(run.key in self._done for run in runs):
                found.append(self.broken(parent, "settled as done, and none of its follow-ups was sent"))
        return found

    def _wrong(self, run: _Run) -> str:
        """Why it is wrong that some of its follow-ups were sent, else empty."""
        if run.key[:2] in self._mixed:
            return ""
        attempt, children = run.key[2], len(run.children)
        if not run.succeeded:
            return f"attempt {attempt} had not succeeded, and its follow-ups were sent"
        if run.refused:
            return f"attempt {attempt} was not its own to settle, and its follow-ups were sent"
        missing = run.children.keys() - self._sent
        if run.key not in self._done:  # its process may have died before the event of a duplicate
            missing = {one for one in missing if not run.children[one]}
        if missing:
            return f"{len(missing)} of the {children} follow-ups of attempt {attempt} were not sent"
        return ""
