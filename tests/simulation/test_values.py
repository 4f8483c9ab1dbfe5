"""The search over values: workers of several threads, every order, outcome and death; and bugs that it must find."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from kashvi_sim.search.values import Scope, search
from kashvi_sim.search.values.picture import pictures
from kashvi_sim.search.values.state import job_numbered

from kashvi.drivers.memory import MemoryDriver
from kashvi.ports import Exchange, FollowUp, Settlement
from kashvi.worker import retry, settle
from kashvi.worker.machine import Machine
from kashvi.worker.machine.steps import Request

Patch = pytest.MonkeyPatch
STUCK = "from here, not all jobs can end"


@pytest.mark.parametrize(
    "scope",
    [
        Scope(threads=1, jobs=3),
        Scope(threads=2, jobs=2),
        Scope(threads=3, jobs=2, takes_s=0.25),
        Scope(threads=2, jobs=2, hangs=True),
        Scope(workers=2, threads=1, jobs=2, crashes=1),
        Scope(threads=2, jobs=1, crashes=1, takes_s=0.5),
        Scope(threads=2, jobs=1, crashes=1, follow_ups=1),
        Scope(workers=2, threads=1, jobs=1, attempts=1, crashes=1, follow_ups=1),
        Scope(threads=2, jobs=2, hangs=True, timeout_s=0.25),
        Scope(workers=2, threads=2, jobs=2, attempts=1, hangs=True, timeout_s=0.25, takes_s=1.0),
        Scope(threads=2, jobs=2, attempts=1, crashes=1, hangs=True, timeout_s=0.25, takes_s=1.0),
    ],
    ids=str,
)
def test_every_job_ends_once_in_every_order(scope: Scope) -> None:
    searched = search(scope)
    assert (searched.exhausted, searched.broken, searched.path) == (True, "", [])


def an_answer_clears_what_ended_meanwhile(patch: Patch) -> None:
    real = Machine._settled

    def settled(self: Machine, now: int, request: Request, answer: Exchange) -> None:
        real(self, now, request, answer)
        self.outbox.clear()

    patch.setattr(Machine, "_settled", settled)


def no_thread_is_called(patch: Patch) -> None:
    patch.setattr(Machine, "_call", lambda self: None)


def one_attempt_more(patch: Patch) -> None:
    real = retry.decide
    patch.setattr(retry, "decide", lambda attempt, most: real(attempt, most + 1))


def every_death_is_counted(patch: Patch) -> None:
    real = settle.lost
    patch.setattr(settle, "lost", lambda d, at, most, certain, graver: real(d, at, 1, True, graver))


def nobody_takes_over(patch: Patch) -> None:
    patch.setattr(Machine, "reaped", lambda self, now, settlings, more: None)


def half_of_the_follow_ups_are_sent(patch: Patch) -> None:
    real = MemoryDriver._follow
    patch.setattr(MemoryDriver, "_follow", lambda self, sent, now: real(self, sent[: len(sent) // 2], now))


def what_fails_has_follow_ups_too(patch: Patch) -> None:
    real = MemoryDriver._settle

    def settle_(self: MemoryDriver, worker: str, s: Settlement, now: float) -> bool:
        settled = real(self, worker, s, now)
        if settled and s.move == "retry":
            self._follow([FollowUp(job_numbered(1))], now)
        return settled

    patch.setattr(MemoryDriver, "_settle", settle_)


def neighbours_of_a_stuck_attempt_pay(patch: Patch) -> None:
    real = settle.returned
    stuck: list[bool] = []
    patch.setattr(settle, "returned", lambda d, at: settle.failed(d, at, "e", 2) if stuck else real(d, at))
    abandon = Machine._abandon

    def abandoned(self: Machine, now: int) -> object:
        stuck.append(True)
        try:
            return abandon(self, now)
        finally:
            stuck.clear()

    patch.setattr(Machine, "_abandon", abandoned)


HANGS = Scope(threads=2, jobs=2, hangs=True, timeout_s=0.25, takes_s=1.0)
FOUND: dict[Callable[[Patch], None], tuple[Scope, str]] = {
    an_answer_clears_what_ended_meanwhile: (Scope(threads=2, jobs=2, attempts=1), STUCK),
    no_thread_is_called: (Scope(threads=2, jobs=2, hangs=True), STUCK),
    one_attempt_more: (Scope(threads=1, jobs=1), "job 0 has failed for good after 3 attempts of 2"),
    every_death_is_counted: (
        Scope(workers=2, threads=1, jobs=1, crashes=1), "job 0 has failed for good after 1 attempts of 2",
    ),
    half_of_the_follow_ups_are_sent: (Scope(threads=1, jobs=1, follow_ups=2), STUCK),
    what_fails_has_follow_ups_too: (
        Scope(threads=1, jobs=1, follow_ups=1), "job 1 starts, and job 0, whose follow-up it is, is not done",
    ),
    neighbours_of_a_stuck_attempt_pay: (HANGS, "job 1 starts with 1 attempts, and 0 have failed"),
    nobody_takes_over: (Scope(workers=2, threads=1, jobs=1, crashes=1), STUCK),
}  # fmt: skip


@pytest.mark.parametrize("bug", FOUND, ids=lambda bug: bug.__name__)
def test_a_planted_bug_is_found_and_told_step_by_step(bug: Callable[[Patch], None], monkeypatch: Patch) -> None:
    scope, broken = FOUND[bug]
    bug(monkeypatch)
    searched = search(scope)
    assert (searched.exhausted, searched.broken) == (False, broken)
    assert searched.path[0].startswith("w1 ")


def test_one_thread_hides_what_two_show(monkeypatch: Patch) -> None:
    """So it is worth while to search with two."""
    an_answer_clears_what_ended_meanwhile(monkeypatch)
    assert search(Scope(threads=1, jobs=3)).exhausted


def test_the_same_scope_gives_the_same_search_also_under_another_hash_seed() -> None:
    code = "from kashvi_sim.search.values import *; print(search(Scope(threads=2, jobs=2))[1:3])"
    environment = os.environ | {"PYTHONHASHSEED": "4711"}
    other = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True, text=True)
    assert other.stdout.strip() == str(search(Scope(threads=2, jobs=2))[1:3])


def test_a_limit_that_was_reached_proves_nothing() -> None:
    searched = search(Scope(threads=2, jobs=2), 100)
    assert 100 <= searched.states < 110
    assert (searched.exhausted, searched.broken) == (False, "")


def test_the_pictures_of_a_workers_steps_are_those_that_the_code_makes() -> None:
    """``python -m kashvi_sim.search.values.picture`` prints them."""
    page = (Path(__file__).parents[2] / "docs" / "steps.md").read_text()
    assert all(picture in page for picture in pictures().split("\n\n"))
