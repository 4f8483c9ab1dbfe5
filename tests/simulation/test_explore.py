"""The search: every order, outcome, death and lost message of small scopes; and the bugs that it must find."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from kashvi_sim.search import Scope, play, search
from kashvi_sim.search.jobs import job_numbered
from kashvi_sim.search.moves import Move
from kashvi_sim.search.picture import pictures
from kashvi_sim.search.search import STUCK, path_of, token_of
from kashvi_spec.judging import Violation

from kashvi.drivers.memory import MemoryDriver
from kashvi.errors import InvalidSetting
from kashvi.ports import Exchange, FollowUp, Settlement
from kashvi.worker import retry, settle
from kashvi.worker.machine import Machine
from kashvi.worker.machine.steps import Request

from .planted import PLANTED

Patch = pytest.MonkeyPatch


@pytest.mark.parametrize(
    "scope",
    [
        Scope(threads=1, jobs=3),
        Scope(threads=2, jobs=2),
        Scope(threads=3, jobs=2, takes_s=0.25),
        Scope(threads=2, jobs=2, hangs=True),
        Scope(workers=2, threads=1, jobs=1, crashes=1),
        Scope(workers=1, threads=1, jobs=2, crashes=1),
        Scope(workers=2, threads=1, jobs=1, attempts=1, crashes=2),
        Scope(workers=1, threads=1, jobs=1, attempts=1, crashes=1, lost=1),
        Scope(threads=2, jobs=1, lost=1),
        Scope(workers=2, threads=1, jobs=1, delayed=1, long=True),
        Scope(threads=2, jobs=1, attempts=1, crashes=1, takes_s=0.5),
        Scope(threads=2, jobs=1, attempts=1, crashes=1, follow_ups=1),
        Scope(threads=2, jobs=2, hangs=True, timeout_s=0.25),
        Scope(workers=2, threads=1, jobs=2, attempts=1, hangs=True, timeout_s=0.25, takes_s=1.0),
        Scope(threads=2, jobs=1, attempts=1, crashes=1, hangs=True, timeout_s=0.25, takes_s=1.0),
    ],
    ids=str,
)
def test_every_job_ends_once_in_every_order(scope: Scope) -> None:
    searched = search(scope)
    assert (searched.exhausted, searched.broken, searched.path) == (True, None, [])


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
    an_answer_clears_what_ended_meanwhile: (Scope(threads=2, jobs=2, attempts=1), "drains"),
    no_thread_is_called: (Scope(threads=2, jobs=2, hangs=True), "drains"),
    one_attempt_more: (Scope(threads=1, jobs=1), "no wait after the last"),
    every_death_is_counted: (Scope(workers=1, threads=1, jobs=1, crashes=1), "attempts bounded"),
    half_of_the_follow_ups_are_sent: (Scope(threads=1, jobs=1, attempts=1, follow_ups=2), "drains"),
    what_fails_has_follow_ups_too: (Scope(threads=1, jobs=1, follow_ups=1), "follow-ups all or none"),
    neighbours_of_a_stuck_attempt_pay: (HANGS, "settled as it ended"),
    nobody_takes_over: (Scope(workers=1, threads=1, jobs=1, crashes=1), "drains"),
}


@pytest.mark.parametrize("bug", FOUND, ids=lambda bug: bug.__name__)
def test_a_planted_bug_is_found(bug: Callable[[Patch], None], monkeypatch: Patch) -> None:
    scope, predicate = FOUND[bug]
    bug(monkeypatch)
    assert _broken(scope).predicate == predicate


def _broken(scope: Scope) -> Violation:
    searched = search(scope, 20_000)
    assert searched.broken, f"not found in {searched.states} states"
    return searched.broken


def of(workers: int, jobs: int, attempts: int, crashes: int = 0, *, lost: int = 0, long: bool = False) -> Scope:
    return Scope(workers, 1, jobs, attempts, crashes, lost=lost, long=long)


MUSEUM = {
    "claim without reserving": of(1, 1, 1, 1),
    "ack before handling": of(1, 1, 2),
    "promotion that does not check the removal": of(2, 1, 2),
    "retry off by one": of(1, 1, 2),
    "gives up too early": of(1, 1, 2),
    "constant backoff": of(1, 1, 3),
    "early promotion": of(2, 1, 2, 1),
    "removed before it is recorded": of(1, 1, 1, 1),
    "every lost job is counted": of(1, 1, 2, 1),
    "reclaim moves instead of settling in place": of(1, 1, 1, 2),
    "retry by the worker's own clock": of(1, 1, 2),
    "settle not fenced": of(2, 1, 1, 1),
    "no worker reclaims": of(1, 1, 1, 1),
    "last in, first out": of(1, 2, 1, long=True),
    "heartbeat forgotten": Scope(2, 1, 1, 1, long=True, long_s=3.0),
    "claim reply lost": of(1, 1, 1, lost=1),
    "a lost attempt is never counted": of(1, 1, 1, 2),
}
"""Bugs that an order, an outcome, a death, a lost message or a long attempt brings out."""


@pytest.mark.parametrize("bug", MUSEUM)
def test_a_bug_of_the_museum_is_found_and_told_as_a_token(bug: str, monkeypatch: Patch) -> None:
    """Which plays it again; and the good code keeps every promise in the same scope."""
    PLANTED[bug][1](monkeypatch)
    searched = search(MUSEUM[bug], 20_000)
    assert searched.broken, f"not found in {searched.states} states"
    played = play(searched.scope, path_of(token_of(searched.path)))
    assert played.broken == (None if searched.broken.why == STUCK else searched.broken)
    assert played.events


def test_one_thread_hides_what_two_show(monkeypatch: Patch) -> None:
    """So it is worth while to search with two."""
    an_answer_clears_what_ended_meanwhile(monkeypatch)
    assert search(Scope(threads=1, jobs=3)).exhausted


def test_the_same_scope_gives_the_same_search_also_under_another_hash_seed() -> None:
    code = "from kashvi_sim.search import *; print(search(Scope(2, 1, 1, 2, 1))[1:3])"
    environment = os.environ | {"PYTHONHASHSEED": "4711"}
    other = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True, text=True)
    assert other.stdout.strip() == str(search(Scope(2, 1, 1, 2, 1))[1:3])


def test_a_limit_that_was_reached_proves_nothing() -> None:
    searched = search(Scope(threads=2, jobs=2), 100)
    assert 100 <= searched.states < 110
    assert (searched.exhausted, searched.broken) == (False, None)


def test_a_token_is_of_its_scope_and_whole() -> None:
    """Or the error says so."""
    assert path_of(token_of([0, 3, 200])) == [0, 3, 200]
    for token in ("e1-", "k2-abc", token_of([0, 1, 2])[:-2], "e1-!"):
        with pytest.raises(InvalidSetting, match="not a token of sim:explore"):
            path_of(token)
    with pytest.raises(InvalidSetting, match="another scope"):
        play(Scope(threads=1, jobs=1), [9])


class Told:
    """What any run told."""

    def __init__(self) -> None:
        self.events: set[tuple[object, ...]] = set()
        self.broken: set[str] = set()

    def made(self, move: Move) -> None:
        facts = ("job_id", "attempt", "attempts", "suspect", "move", "error")
        self.events |= {(type(one).__name__, *(getattr(one, fact, None) for fact in facts)) for one in move.events}


@pytest.mark.parametrize("scope", [of(2, 1, 2), of(2, 1, 1, 1), Scope(threads=2, jobs=2, attempts=1)], ids=str)
def test_orders_that_are_left_out_have_nothing_else_to_show(scope: Scope) -> None:
    """Every event of any run is emitted in the runs that are made."""
    some, everything = Told(), Told()
    reduced, whole = search(scope, made=some.made), search(scope, made=everything.made, reduce=False)
    assert reduced.exhausted
    assert whole.exhausted
    assert some.events == everything.events
    assert reduced.states < whole.states


def test_the_pictures_of_a_workers_steps_are_those_that_the_code_makes() -> None:
    """``python -m kashvi_sim.search.picture`` prints them."""
    page = (Path(__file__).parents[2] / "docs" / "steps.md").read_text()
    assert all(picture in page for picture in pictures().split("\n\n"))
