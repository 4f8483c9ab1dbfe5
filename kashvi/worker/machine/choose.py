"""Decides a thread's next step, and the number of jobs to claim. Changes nothing."""

from __future__ import annotations

from typing import Literal

from ...ports import READ_MAX_BYTES
from . import shares, suspects
from .exchange import too_much_owed
from .state import FLUSH, PAUSED_LOOK, State
from .steps import SECOND, WAIT_MAX

BATCH_MAX = 300
HELD_MAX_BYTES = 4 * READ_MAX_BYTES
"""About the most bytes of jobs that a worker holds: of large jobs it claims fewer."""
PREFETCH = SECOND // 50
"""Claim ahead what the threads are likely to finish in this time."""

Next = Literal["run", "exchange", "reconcile", "wait", "idle", "finished", "end"]


def choose(state: State, now: int) -> Next:
    """The order of the questions is the design: run what may run, settle, claim, end, wait; else be idle."""
    late = state.outbox and (state.urgent or now - state.owed_since > FLUSH)  # finished work has waited long enough
    may_run = (
        state.ready and state.stopping_at is None and (not late or (state.exchanging and not too_much_owed(state)))
    )
    if may_run and not ((state.suspects or state.suspect) and barred(state, now)):
        return "run"
    if state.gave_up:
        return "end"
    if not state.exchanging:
        if state.to_reconcile:
            return "idle" if state.waiting else "reconcile"
        if state.outbox or may_announce(state, now) or wants_jobs(state, now) or suspects.kept_out(state, now):
            return "exchange"
    if state.stopping_at is not None:
        return "idle" if state.exchanging else "end"
    if finished(state):
        return "finished"
    if state.waiting or state.exchanging or (want(state, now) <= 0 and not asks_again(state, now)):
        return "idle"
    if shares.several(state) and now - state.renewed_at > WAIT_MAX // 2:
        return "exchange"  # it asks for all queues at once, and hears which are paused
    return "wait"


def asks_again(state: State, now: int) -> bool:
    """Whether to ask if the queue is paused still."""
    return state.paused and now >= state.asked_at + PAUSED_LOOK


def wants_jobs(state: State, now: int) -> bool:
    if state.stopping_at is not None or want(state, now) <= 0:
        return False
    return state.look or state.backlog > 0 or (state.next_due_at is not None and now >= state.next_due_at)


def want(state: State, now: int) -> int:
    """How many jobs to claim: one for each idle thread, and more when jobs are short."""
    waiting = len(state.suspects)
    if state.paused or suspects.keep_fresh_out(state, now):
        return 0
    free = max(state.threads + state.opened - len(state.running), 0)
    room = min(BATCH_MAX, max(state.threads, HELD_MAX_BYTES // state.job_bytes))
    # Suspects that wait for their turn are no work for the threads that are free, only for the memory.
    wanted = min(free + ahead(state), room - waiting) - len(state.ready)
    if state.limits.max_jobs is not None:
        wanted = min(wanted, state.limits.max_jobs - state.taken - len(state.ready) - waiting)
    return wanted


def ahead(state: State) -> int:
    """How many jobs to claim before a thread is free for them."""
    if not state.pace:
        return 0
    return min(PREFETCH * state.threads // state.pace, READ_MAX_BYTES // state.job_bytes)


def may_announce(state: State, now: int) -> bool:
    """Whether a suspect may be announced: not while a wait may have claimed an earlier one, which goes first."""
    if not state.suspects or state.stopping_at is not None or state.overtaking or state.to_reconcile or state.paused:
        return False
    return suspects.may_start(state, now)


def barred(state: State, now: int) -> bool:
    """True if the first ready job must not start beside a suspect. An announced suspect may."""
    return suspects.keep_fresh_out(state, now) and state.ready[0].place == "held"


def finished(state: State) -> bool:
    """Nothing is left to do for a worker that ends by itself."""
    if state.limits.until == "stopped" or state.running or state.ready or state.suspects:
        return False
    if state.exchanging or state.waiting or state.look or state.backlog:
        return False
    return state.limits.until == "empty" or state.next_due_at is None


def next_at(state: State, now: int) -> int | None:
    """When a job that a thread waits for becomes due, or a waiting suspect may start; or when a pause may be over."""
    if state.paused:
        at = state.asked_at + PAUSED_LOOK
        return at if at > now else None  # a call is under way; its thread asks next
    due, turn = state.next_due_at, suspects.next_at(state, now)
    if not state.waiting or due is None or due <= now:
        return turn
    return due if turn is None else min(due, turn)


def watch(state: State, now: int) -> int | None:
    """When an idle thread should look up; None if another one does by then."""
    at = next_at(state, now)
    return at if at is not None and (state.watched is None or state.watched > at) else None
