"""One rule of the worker's machine at a time, by hand: who is called, what is sent, and what a moment later is true."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from kashvi.ports import READ_MAX_BYTES
from kashvi.worker import Limits, settle
from kashvi.worker.machine import Machine, choose, exchange, stop, suspects, tend, timeouts
from kashvi.worker.machine.calls import WAIT_MAX
from kashvi.worker.machine.state import BACKOFF_FIRST, BACKOFF_MAX, FLUSH, HOSTAGE
from kashvi.worker.machine.steps import SECOND, Abandon, Again, AskDue, Idle, Reap, Record, Request, Rest, Stuck, Wait
from kashvi.worker.settle import Delivery

from .test_machine import NOW, answer, exchanged, job, made


def working(threads: int = 1, *running: Delivery, **more: Any) -> Machine:
    """After its first exchange, which brought these; each runs."""
    machine = made(threads, **more)
    exchanged(machine, machine.free(NOW), *running)
    for d in running:
        assert machine.free(NOW) is d
    return machine


def done(d: Delivery, at: int = NOW) -> settle.Settling:
    return settle.succeeded(d, at / SECOND)


def limited(limits: Limits, threads: int = 1) -> Machine:
    return Machine.new("me", threads, 30.0, limits, NOW, has_store=False)


def request(step: object) -> Request:
    assert isinstance(step, Request)
    return step


def keeps(machine: Machine, now: int = NOW, steps: int = 8) -> list[object]:
    """What the keeper does until it rests twice; it does it at once."""
    found: list[object] = []
    for _ in range(steps):
        step = machine.keep(now)
        found.append(step)
        if isinstance(step, Reap):
            machine.reaped(now, [], more=False)
        elif isinstance(step, Record):
            machine.recorded(step.waiting, done=True)
        elif isinstance(step, Request):
            machine.answered(now, step, answer(holding=machine.holding.total()), [], now)
        if step is None or sum(isinstance(one, Rest) for one in found) == 2:
            break
    return found


# -- whom a call wakes ------------------------------------------------------------------------------


def test_a_thread_that_takes_a_job_wakes_the_next_though_an_exchange_is_under_way() -> None:
    """Jobs that are ready wait for no server."""
    machine = made(3)
    lead = machine.free(NOW)
    idle = [machine.free(NOW), machine.free(NOW)]
    exchanged(machine, lead, job(1), job(2), job(3))
    machine.wake = 0
    machine.called = False
    machine.exchanging = True
    assert isinstance(machine.free(NOW), Delivery)
    assert machine.wake == 1
    assert isinstance(machine.woken(NOW, idle[0]), Delivery)  # type: ignore[arg-type]


def test_one_call_is_out_at_a_time() -> None:
    """Short jobs need few threads."""
    machine = made(3)
    machine.free(NOW)
    idle = machine.free(NOW)
    assert isinstance(idle, Idle)
    machine._call()
    assert (machine.wake, machine.called) == (1, True)
    machine.wake = 0
    machine._call()
    assert machine.wake == 0
    machine.roused(idle)
    assert not machine.called


def test_a_thread_watches_while_another_waits_for_a_job_that_is_soon_due() -> None:
    """The server may end the wait late."""
    machine = made(2)
    lead = machine.free(NOW)
    sleeper = machine.free(NOW)
    assert sleeper == Idle(None)
    exchanged(machine, lead, next_due_s=0.3)
    machine.wake = 0
    assert machine.free(NOW) == Wait(300_000, NOW)
    assert machine.wake == 1
    watcher = machine.woken(NOW, sleeper)
    assert watcher == Idle(NOW + 300_000)
    assert machine.watched == NOW + 300_000
    assert isinstance(machine.woken(NOW + 300_000, watcher), Request)
    assert machine.watched is None


def test_the_keeper_calls_a_thread_for_suspects_whose_turn_has_come() -> None:
    """No other thread may come by."""
    machine = working(2)
    assert isinstance(machine.free(NOW), Wait)
    assert isinstance(machine.free(NOW), Idle)
    machine._admit(NOW, [job(1, lost=1)])
    machine.called, machine.wake, machine.duty = False, 0, "exchange"
    machine.keep(NOW)
    assert machine.wake == 1


# -- what is handed over ------------------------------------------------------------------------------


def test_an_interrupt_after_the_end_changes_nothing_and_one_before_it_hands_the_job_back() -> None:
    """The attempt was made, or it was not."""
    for over, move in ((True, "done"), (False, "return")):
        machine = working(1, d := job(1))
        ended = done(d) if over else None
        machine.interrupted(NOW, d, ended)
        assert [one.move for one in machine.outbox] == [move]
        machine.interrupted(NOW, d, ended)
        assert len(machine.outbox) == 1


def test_the_keeper_is_asked_to_hand_over_what_a_wait_is_in_the_way_of() -> None:
    """The thread would have to reconcile first, and can't while another one waits."""
    machine = working(2, d := job(1))
    assert isinstance(machine.free(NOW), Wait)
    machine.to_reconcile = True
    assert isinstance(machine.free(NOW, done(d)), Idle)
    assert (machine.flush_asked, machine.bell) == (True, True)


def test_a_thread_that_takes_a_job_leaves_what_it_owes_to_the_keeper() -> None:
    """The next exchange of a thread may be long in coming."""
    machine = working(1, d := job(1))
    machine.ready.append(job(2))
    assert isinstance(machine.free(NOW, done(d)), Delivery)
    assert (machine.flush_asked, machine.bell) == (True, True)
    gathers = machine.keep(NOW)
    assert gathers == Rest(NOW + FLUSH, deaf=True)
    machine.reap_at = NOW + SECOND
    assert [one.move for one in request(machine.keep(NOW + FLUSH)).settlings] == ["done"]


def test_what_ended_while_the_keeper_gathered_is_asked_for_again() -> None:
    """It is due in a moment, and not at the next tick."""
    machine = working(1, d := job(1))
    machine.reap_at, machine.duty = NOW + SECOND, "exchange"
    machine._ended(NOW, done(d))
    machine.keep(NOW)
    assert machine.flush_asked


def test_finished_work_that_has_waited_goes_first_and_else_the_next_job() -> None:
    """20 ms; a suspect's end does not wait."""
    for waited, urgent, kind in ((FLUSH, False, Delivery), (FLUSH + 1, False, Request), (0, True, Request)):
        machine = working(1, d := job(1))
        machine.ready.append(job(2))
        machine._ended(NOW, done(d))
        machine.urgent = urgent
        assert isinstance(machine.free(NOW + waited), kind)


def test_jobs_that_are_ready_do_not_wait_for_an_exchange_under_way() -> None:
    """Even if it is long, and finished work waits for the next one."""
    machine = working(2, d := job(1))
    machine._request(NOW, by_thread=False)
    machine.ready.append(job(2))
    machine._ended(NOW, done(d))
    assert isinstance(machine.free(NOW + 2 * FLUSH), Delivery)


def test_what_waits_is_as_old_as_its_first() -> None:
    """And no older."""
    machine = working(2, a := job(1), b := job(2))
    machine._ended(NOW + 5, done(a))
    machine._ended(NOW + 9, done(b))
    assert machine.owed_since == NOW + 5
    exchanged(machine, machine._request(NOW + 9, by_thread=False))
    machine._owe(NOW + 11, [settle.gone("other", 0.0)])
    assert machine.owed_since == NOW + 11


def test_a_wait_that_brought_a_job_owes_a_sign_of_life_until_the_next_exchange() -> None:
    """The server may not know this worker any more."""
    machine = working(1)
    wait = machine.free(NOW)
    assert isinstance(wait, Wait)
    machine.waited(NOW + 1, wait, job(1))
    assert machine.owes
    assert machine.holding == Counter([job(1).raw])
    machine._request(NOW + 1, by_thread=False)
    assert not machine.owes


def test_fresh_jobs_that_a_grave_suspect_keeps_out_go_back_in_their_order() -> None:
    """What is returned last is the head of the queue."""
    machine = working(2)
    machine._admit(NOW, [job(1), job(2), job(3, lost=2)])
    sent = request(machine.free(NOW)).settlings
    assert [(one.move, one.delivery.job_id) for one in sent] == [
        ("return", "job 2"), ("return", "job 1"), ("start", "job 3"),
    ]  # fmt: skip


def test_a_suspect_that_starts_takes_a_threads_place() -> None:
    """So that many jobs fewer are claimed beside it."""
    machine = working(3)
    machine._admit(NOW, [job(1, lost=1)])
    machine.look = True
    assert request(machine.free(NOW)).want == 2


def test_what_has_not_started_goes_back_in_its_order_at_a_stop() -> None:
    """The oldest is the head of the queue."""
    machine = working(1, job(1))
    machine._admit(NOW, [job(2), job(4, lost=1), job(3)])
    machine.stop(NOW)
    assert [one.delivery.job_id for one in machine.outbox] == ["job 4", "job 3", "job 2"]
    assert not machine.ready
    assert not machine.suspects


def test_an_exit_returns_what_runs() -> None:
    """Whether or not it ends in time."""
    machine = working(2, job(1), job(2))
    machine.stop(NOW)
    assert [one.move for one in request(machine.hand_back(NOW)).settlings] == ["return", "return"]


def test_unsettled_counts_what_is_under_way_too() -> None:
    """And no leave."""
    machine = working(2, a := job(1), b := job(2))
    machine._ended(NOW, done(a))
    machine._request(NOW, by_thread=False)
    machine._ended(NOW, done(b))
    machine._owe(NOW, [settle.gone("other", 0.0)])
    assert machine.unsettled == 2


# -- how many are claimed -------------------------------------------------------------------------------


def test_no_more_is_claimed_than_may_be_run() -> None:
    """What is ready or waits counts."""
    machine = limited(Limits(max_jobs=3), threads=4)
    assert choose.want(machine, NOW) == 3
    machine._admit(NOW, [job(1), job(2, lost=1)])
    assert choose.want(machine, NOW) == 1
    assert isinstance(machine._take(NOW), Delivery)
    assert choose.want(machine, NOW) == 1


def test_the_last_job_that_it_may_take_is_the_last() -> None:
    """It is full when that has begun, and stops then."""
    machine = limited(Limits(max_jobs=2), threads=2)
    exchanged(machine, machine.free(NOW), job(1), job(2))
    machine.free(NOW)
    assert not machine.full
    assert machine.stopping_at is None
    machine.free(NOW)
    assert machine.full
    assert machine.stopping_at == NOW


def test_fewer_large_jobs_are_claimed_ahead() -> None:
    """As many as a read brings."""
    machine = working(2)
    machine.pace, few = 1, 3
    assert choose.ahead(machine) > 300
    machine.look = True
    raw = job(1).raw
    big = [settle.delivery(raw[:-1] + b',"x":"%s"}' % (b"x" * (READ_MAX_BYTES // few)), "me", str, 1.0)]
    machine.answered(NOW, request(machine.free(NOW)), answer(*big), big, NOW)
    assert choose.ahead(machine) == few - 1


# -- suspects --------------------------------------------------------------------------------------------


def test_a_window_counts_from_the_start_and_not_from_the_announcement() -> None:
    """The job may have waited for its thread."""
    machine = working(1)
    machine._admit(NOW, [job(1, lost=1)])
    exchanged(machine, machine.free(NOW), holding=1)
    started = machine.free(NOW + SECOND)
    assert isinstance(started, Delivery)
    assert (machine.suspect, machine.suspect_at) == (started, NOW + SECOND)


def test_a_suspect_that_has_ended_or_was_refused_or_goes_back_leaves_its_place() -> None:
    """To the next one."""
    machine = working(2, d := settle.delivery(job(1, lost=1).raw, "me", str, 1.0, place="running"))
    assert machine.suspect is d
    machine._ended(NOW, done(d))
    assert machine.suspect is None
    assert machine.urgent
    machine._begin(NOW, d)
    machine._announced(NOW, d, refused=True)
    assert machine.suspect is None
    assert machine.to_reconcile
    machine._announced(NOW, d, refused=False)
    machine.stop(NOW)
    assert machine.suspect is None


def test_a_suspect_waits_for_the_jobs_that_are_ready_and_for_a_wait_that_may_have_claimed_others() -> None:
    """What was ahead of it has the first turn; and in doubt it is not announced."""
    machine = working(1)
    machine._admit(NOW, [job(1), job(2, lost=1)])
    assert not suspects.may_start(machine, NOW)
    machine.ready.clear()
    assert choose.may_announce(machine, NOW)
    machine.to_reconcile = True
    assert not choose.may_announce(machine, NOW)
    machine.to_reconcile, machine.overtaking = False, True
    assert not choose.may_announce(machine, NOW)
    for end in (lambda: machine.waited(NOW, Wait(0, NOW), None), lambda: machine.wait_lost(NOW, maybe_sent=False)):
        machine.waiting = machine.overtaking = True
        end()
        assert not machine.overtaking
    machine.waiting = True
    machine._admit(NOW, [job(3, lost=1)])
    assert machine.overtaking


def test_patience_begins_with_the_first_grave_suspect() -> None:
    """A lease at the most, twice as long for each further death; the window likewise."""
    machine = working(2, job(1))
    machine._admit(NOW + 7, [job(2, lost=2)])
    assert machine.suspects_since == NOW + 7
    assert [suspects.patience(machine, job(3, lost=n)) // machine.lease for n in (2, 3, 4)] == [1, 2, 4]
    assert [suspects.window(machine, job(3, lost=n)) // machine.lease for n in (1, 2, 3)] == [10, 20, 40]
    assert not suspects.may_start(machine, NOW + 7 + machine.lease - 1)
    assert suspects.may_start(machine, NOW + 7 + machine.lease)


def test_an_announced_job_goes_ahead_of_all() -> None:
    """It is counted."""
    machine = made()
    moved = settle.delivery(job(2, lost=1).raw, "me", str, 2.0, "wait", "running")
    machine._admit(NOW, [job(1), moved])
    assert machine.ready[0] is moved


# -- what an answer means ---------------------------------------------------------------------------------


def test_equal_bytes_are_as_many_jobs_as_the_server_lists() -> None:
    """Two that we know of, and a third."""
    d = job(1)
    assert exchange.unknown(Counter([d.raw] * 2), [d] * 3) == [d]


def test_a_count_is_compared_only_while_no_wait_has_begun_since() -> None:
    """It would count what the wait brings."""
    machine = working(2)
    sent = machine._request(NOW, by_thread=False)
    assert exchange.comparable(machine, sent)
    machine.waits += 1
    assert not exchange.comparable(machine, sent)
    machine.waits -= 1
    machine.waiting = True
    assert not exchange.comparable(machine, sent)


def test_after_a_quarter_of_a_lease_a_wait_is_followed_by_an_exchange_that_compares() -> None:
    """Something may have been taken from us."""
    for passed, look in ((0, False), (8 * SECOND, True)):
        machine = working(1)
        wait = machine.free(NOW)
        assert isinstance(wait, Wait)
        machine.waited(NOW + passed, wait, None)
        assert machine.look == look


def test_a_request_that_once_may_have_been_sent_is_in_doubt_for_ever() -> None:
    """Whatever became of the next try."""
    machine = made()
    sent = request(machine.free(NOW))
    machine.lost(NOW, sent, maybe_sent=True)
    machine.lost(NOW, sent, maybe_sent=False)
    machine.answered(NOW, sent, answer(), [], NOW)
    assert machine.to_reconcile


def test_a_wait_that_may_have_been_sent_leaves_a_ghost() -> None:
    """A worker that went off the list would strand what it claims."""
    machine = working(1)
    machine.free(NOW)
    machine.wait_lost(NOW, maybe_sent=True)
    assert (machine.to_reconcile, machine.look) == (True, True)
    machine.server_lost = False
    assert not stop.may_leave(machine)


def test_after_a_listing_the_queue_is_looked_at() -> None:
    """The exchange that it stands for may have been to claim."""
    machine = made()
    sent = request(machine.free(NOW))
    machine.lost(NOW, sent, maybe_sent=True)
    machine.answered(NOW, sent, answer(), [], NOW)
    machine.look = False
    compares = request(machine.free(NOW))
    machine.answered(NOW, compares, answer(listing=([], [])), [], NOW)
    assert machine.look


def test_the_settlings_of_the_dead_are_none_of_our_jobs() -> None:
    """Not even if the bytes are the same."""
    machine = working(1, d := job(1))
    theirs = settle.delivery(d.raw, "dead", str, 1.0)
    machine._owe(NOW, [settle.returned(theirs, 0.0)])
    exchanged(machine, machine._request(NOW, by_thread=False), holding=1)
    assert machine.holding == Counter([d.raw])
    assert not machine.to_reconcile


def test_the_next_due_time_is_the_earliest_that_was_told_by_our_own_clock() -> None:
    """What the server says is by its clock."""
    machine = working(1)
    machine.server_ahead, machine.next_due_at = 40, NOW + 100
    machine.waiting = True
    machine.due(NOW, NOW + 90)
    assert machine.next_due_at == NOW + 50
    machine.due(NOW, NOW + 300)
    assert machine.next_due_at == NOW + 50


def test_before_a_wait_what_is_due_is_asked_unless_an_exchange_just_told_it() -> None:
    """Others may have delayed jobs since."""
    machine = working(1)
    assert isinstance(machine.free(NOW), Wait)
    machine = working(1)
    assert isinstance(machine.free(NOW + WAIT_MAX // 2 + 1), AskDue)


def test_exhausted_jobs_that_wait_for_the_table_call_the_keeper() -> None:
    """It starts the recorder: one at a time, again if that was not done."""
    machine = made(has_store=True)
    machine.bell = False
    exchanged(machine, machine.free(NOW), unrecorded=3)
    assert machine.bell
    assert tend.records(machine)
    assert machine._record() == Record(3)
    machine.unrecorded = 1
    assert not tend.records(machine)
    machine.recorded(3, done=False)
    assert (machine.unrecorded, tend.records(machine)) == (3, True)
    machine._record()
    machine.recorded(3, done=True)
    assert machine.unrecorded == 0


# -- lost replies ---------------------------------------------------------------------------------------


def test_pauses_double_up_to_five_seconds_and_begin_anew_with_the_next_request() -> None:
    """By chance, they are a half to the whole."""
    machine = made()
    sent = request(machine.free(NOW))
    pauses = [again.pause for _ in range(8) if (again := machine.lost(NOW, sent, maybe_sent=False))]
    assert pauses == [min(BACKOFF_FIRST << n, BACKOFF_MAX) for n in range(8)]
    exchanged(machine, sent)
    machine.look = True
    assert machine.lost(NOW, request(machine.free(NOW)), maybe_sent=False) == Again(machine.open, BACKOFF_FIRST)  # type: ignore[arg-type]


def test_a_stopping_worker_that_holds_something_tries_for_a_lease_and_once_more_to_know() -> None:
    """Without anything in hand it gives up at once."""
    machine = working(1, d := job(1))
    machine._ended(NOW, done(d))
    sent = machine._request(NOW, by_thread=True)
    machine.stop(NOW)
    assert machine.lost(NOW + machine.lease, sent, maybe_sent=True) is not None
    over = NOW + machine.lease + 1
    assert machine.lost(over, sent, maybe_sent=True) == Again(sent, 0)
    assert machine.lost(over, sent, maybe_sent=True) is None
    assert machine.gave_up
    idle = working(1)
    sent = idle._request(NOW, by_thread=True)
    idle.stop(NOW)
    assert idle.lost(NOW, sent, maybe_sent=False) is None


def test_a_process_that_exits_sends_nothing_once_its_worker_has_told_what_is_unsettled() -> None:
    """As queues, seed 206265: its keeper had just given the server up."""
    machine = working(1, d := job(1))
    machine._ended(NOW, done(d))
    machine.stop(NOW)
    machine.one_try()
    machine.fewer()
    sent = request(machine.keep(NOW))
    while machine.lost(NOW + SECOND, sent, maybe_sent=False):
        """It tries again."""
    assert machine.keep(NOW + SECOND) is None
    assert machine.unsettled == 1
    assert machine.hand_back(NOW + SECOND) is None


def test_the_keeper_of_a_process_that_hands_back_sleeps_until_the_exchange_ends() -> None:
    """As storm, seed 52605: it looked fifty times a second while a full server refused the exchange."""
    machine = working(1, d := job(1))
    machine._ended(NOW, done(d))
    machine.one_try()
    request(machine.hand_over(NOW))
    machine.fewer()
    machine.bell = False
    assert machine.keep(NOW) == Rest(NOW + SECOND)
    machine.unanswered(NOW)
    assert machine.bell


def test_an_answer_after_all_is_no_reason_to_end() -> None:
    """The keeper's may come when a thread's has been given up."""
    machine = working(1, d := job(1))
    machine._ended(NOW, done(d))
    sent = machine._request(NOW, by_thread=True)
    machine.stop(NOW)
    machine.server_lost = True
    machine.unanswered(NOW + 2 * machine.lease)
    assert machine.gave_up
    machine.answered(NOW + 2 * machine.lease, sent, answer(), [], NOW)
    assert not machine.gave_up


def test_one_that_is_to_work_until_the_queue_is_empty_stops_after_a_lease_without_its_server() -> None:
    """It can't know; and one whose time is over stops likewise."""
    for limits, after in ((Limits("empty"), 30 * SECOND + 1), (Limits(max_time_s=2.0), 2 * SECOND)):
        machine = limited(limits)
        sent = request(machine.free(NOW))
        machine.lost(NOW + after - 1, sent, maybe_sent=False)
        assert machine.stopping_at is None
        machine.lost(NOW + after, sent, maybe_sent=False)
        assert machine.stopping_at == NOW + after
        assert machine.hurry


# -- the end ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("until", "due_s", "ready", "ends"),
    [("empty", 5.0, 0, True), ("drained", 5.0, 0, False), ("drained", None, 0, True), ("empty", None, 1, False)],
)
def test_it_is_finished_when_nothing_is_left_that_it_was_to_do(
    until: Any, due_s: float | None, ready: int, ends: bool
) -> None:
    """It has looked, and found no more; what is delayed counts for one that drains."""
    machine = limited(Limits(until))
    assert not choose.finished(machine)
    exchanged(machine, machine.free(NOW), next_due_s=due_s, ready=ready)
    assert choose.finished(machine) == ends


def test_a_stop_is_told_once_and_rings_each_time() -> None:
    """A second one may come in another pause."""
    machine = working(1, job(1))
    for _ in range(2):
        machine.bell = machine.hurry = False
        machine.stop(NOW)
        assert (machine.bell, machine.hurry) == (True, True)
    assert machine.news == ["stopping"]


def test_the_keeper_settles_all_records_twice_and_goes_off_the_list() -> None:
    """In this order; a failure may have come while it recorded."""
    machine = working(1, d := job(1), has_store=True)
    machine._ended(NOW, settle.failed(d, NOW / SECOND, "e", 1))
    machine.stop(NOW)
    machine.fewer()
    settles = request(machine.keep(NOW))
    assert [one.move for one in settles.settlings] == ["fail"]
    machine.unanswered(NOW)
    assert machine.keep(NOW) is settles
    machine.answered(NOW, settles, answer(unrecorded=1), [], NOW)
    for _ in range(2):
        machine.unrecorded = 1
        assert machine.keep(NOW) == Record(1)
        waits = machine.keep(NOW)
        assert isinstance(waits, Rest)
        machine.bell = False
        machine.recorded(1, done=True)
        assert machine.bell
    machine.hurry = False
    leaves = request(machine.keep(NOW))
    assert [one.move for one in leaves.settlings] == ["leave"]
    assert machine.hurry
    assert machine.lost(NOW + 1, leaves, maybe_sent=False) is None
    assert machine.keep(NOW + 1) is None
    assert not machine.away


def test_a_table_that_does_not_answer_is_waited_for_a_while() -> None:
    """And then the log says so."""
    machine = working(1, has_store=True)
    machine.stop(NOW)
    machine.fewer()
    machine.unrecorded = 1
    assert isinstance(machine.keep(NOW), Record)
    assert machine.keep(NOW) == Rest(NOW + tend.CLOSE)
    assert isinstance(machine.keep(NOW + tend.CLOSE), Request)
    assert "table silent" in machine.news


# -- the keeper -----------------------------------------------------------------------------------------------


def test_the_keeper_looks_again_soon_while_there_is_more_of_the_dead_and_only_then() -> None:
    """And not while what it has to say of them has not gone out."""
    machine = working(1, job(1))
    machine.reaped(NOW, [], more=True)
    assert machine.reap_at == NOW
    assert tend.pause(machine) == SECOND // 10
    machine.reaped(NOW, [], more=False)
    assert tend.pause(machine) == SECOND
    machine.reaped(NOW, [settle.gone("dead", 0.0)], more=True)
    assert machine.urgent
    assert not tend.reaps(machine, NOW)
    machine._request(NOW, by_thread=False)
    assert not machine.urgent
    assert tend.reaps(machine, NOW)
    machine.stop(NOW)
    assert not tend.reaps(machine, NOW)


def test_claimed_jobs_go_back_when_no_attempt_has_begun_for_a_second() -> None:
    """One that begins starts the second anew."""
    machine = working(1, job(1))
    machine._admit(NOW, [job(2)])
    machine._release_hostages(NOW)
    machine.taken += 1
    machine._release_hostages(NOW + HOSTAGE)
    assert machine.ready
    machine._release_hostages(NOW + 2 * HOSTAGE - 1)
    assert machine.ready
    machine._release_hostages(NOW + 2 * HOSTAGE)
    assert not machine.ready


def test_the_keeper_stops_a_busy_worker_whose_time_is_over() -> None:
    """Its threads don't come by."""
    machine = limited(Limits(max_time_s=2.0))
    exchanged(machine, machine.free(NOW), job(1))
    machine.free(NOW)
    keeps(machine, NOW + 2 * SECOND - 1)
    assert machine.stopping_at is None
    keeps(machine, NOW + 2 * SECOND)
    assert machine.stopping_at == NOW + 2 * SECOND


def test_the_keeper_renews_a_third_of_a_lease_after_the_last_answer() -> None:
    """If no thread does."""
    machine = working(1, job(1))
    assert not tend.exchanges(machine, NOW + 10 * SECOND - 1)
    assert tend.exchanges(machine, NOW + 10 * SECOND)
    machine.exchanging = True
    assert not tend.exchanges(machine, NOW + 10 * SECOND)


# -- the server's clock, and what an outage leaves -----------------------------------------------------


def heard(machine: Machine, now: int, server_s: float, **more: Any) -> None:
    """An exchange, answered at once."""
    step = machine._request(now, by_thread=True)
    machine.answered(now, step, answer(**more)._replace(server_at=server_s), [], now)


def test_a_clock_stands_still_from_answer_to_answer() -> None:
    """Not while there is no answer, as in an outage; and not in a worker that waits for nothing that is due."""
    machine = limited(Limits("drained"))
    heard(machine, NOW, 1000.0, next_due_s=60.0)
    heard(machine, NOW + 6 * SECOND, 1000.0, next_due_s=60.0)
    assert machine.stands_still == 6 * SECOND
    heard(machine, NOW + 7 * SECOND, 1007.0, next_due_s=60.0)
    assert machine.stands_still == 0
    step = machine._request(NOW + 8 * SECOND, by_thread=True)
    assert machine.lost(NOW + 20 * SECOND, step, maybe_sent=True) is not None
    assert machine.stands_still == 0
    listing = machine._compare()
    machine.answered(NOW + 20 * SECOND, listing, answer()._replace(server_at=1020.0), [], NOW + 20 * SECOND)
    assert machine.stands_still == 0
    other = limited(Limits("empty"))
    heard(other, NOW, 1000.0, next_due_s=60.0)
    heard(other, NOW + 6 * SECOND, 1000.0, next_due_s=60.0)
    assert other.stands_still == 0


def test_after_an_old_request_was_answered_the_keeper_hands_over_what_ended_meanwhile() -> None:
    """No thread may be idle to do it, and its next tick is a second away."""
    machine = working(2, job(1), job(2))
    step = request(machine.free(NOW, done(job(3))))
    machine._ended(NOW, done(job(4)))
    machine.bell = False
    machine.answered(NOW, step._replace(by_thread=False), answer(holding=2), [], NOW)
    assert machine.outbox
    assert (machine.flush_asked, machine.bell) == (True, True)


def test_a_worker_that_has_given_its_server_up_ended_without_it_also_if_it_owes_nothing() -> None:
    """Its caller hears of the error."""
    machine = made()
    step = request(machine.free(NOW))
    machine.stop(NOW)
    late = NOW + 2 * machine.lease
    assert machine.lost(late, step, maybe_sent=False) is None
    machine.open = None
    machine.fewer()
    while machine.keep(late) is not None:
        """Whatever is left to do."""
    assert machine.away


def test_while_the_queue_is_paused_nothing_starts_and_a_thread_asks_twice_a_second() -> None:
    """What has not started goes back; the first free thread asks, and no wait begins."""
    machine = made(threads=2)
    step = request(machine.free(NOW))
    machine.answered(NOW, step, answer(job(1), job(2))._replace(paused=True), [job(1), job(2)], NOW)
    assert machine.news == ["paused default"]
    back = request(machine.free(NOW))
    assert [(s.move, s.delivery.job_id) for s in back.settlings] == [("return", "job 2"), ("return", "job 1")]
    assert back.want == 0
    machine.answered(NOW, back, answer(ready=2)._replace(paused=True), [], NOW)
    half = NOW + SECOND // 2
    assert machine.free(NOW) == Idle(half)
    assert machine.free(NOW) == Idle()
    assert machine.woken(half, Idle(half)) == AskDue()
    wait = machine.due(half, None, paused=True)
    machine.waited(half, wait, None)
    assert (wait.time, machine.free(half)) == (0, Idle(half + SECOND // 2))


def test_who_hears_that_the_pause_is_over_claims_at_once() -> None:
    """A thread that asked by its wait, and all others by an exchange."""
    machine = made(threads=2)
    machine.answered(NOW, request(machine.free(NOW)), answer(ready=3)._replace(paused=True), [], NOW)
    later, first = NOW + SECOND, job(1)
    assert machine.free(NOW) == Idle(NOW + SECOND // 2)
    assert machine.free(later) == AskDue()
    wait = machine.due(later, None)
    assert (wait.time, machine.news, machine.wake) == (WAIT_MAX, ["paused default", "resumed default"], 1)
    assert request(machine.woken(later, Idle(NOW + SECOND // 2))).want == 2
    machine.waited(later, wait, first)
    assert machine.free(later) is first


def test_a_suspect_that_was_announced_before_the_pause_goes_back_as_it_was() -> None:
    """It counts as none that runs."""
    machine = made(threads=1)
    machine.answered(NOW, request(machine.free(NOW)), answer(job(1, lost=1)), [job(1, lost=1)], NOW)
    step = request(machine.free(NOW))
    assert [s.move for s in step.settlings] == ["start"]
    machine.answered(NOW, step, answer(holding=1)._replace(paused=True), [], NOW)
    back = request(machine.free(NOW))
    assert [(s.move, s.delivery.place) for s in back.settlings] == [("return", "running")]
    assert machine.suspect is None


def test_a_job_that_a_wait_brings_after_the_pause_goes_back() -> None:
    machine = made(threads=2)
    machine.answered(NOW, request(machine.free(NOW)), answer(), [], NOW)
    wait = machine.free(NOW)
    assert isinstance(wait, Wait)
    machine.paused, machine.paused_queues, machine.asked_at = True, frozenset({"default"}), NOW
    machine.waited(NOW + 1, wait, job(1))
    assert [s.move for s in request(machine.free(NOW + 1)).settlings] == ["return"]


def test_a_paused_worker_that_cannot_ask_tries_again_half_a_second_later() -> None:
    """It does not call without end."""
    machine = made(threads=1)
    machine.answered(NOW, request(machine.free(NOW)), answer(ready=3)._replace(paused=True), [], NOW)
    later = NOW + SECOND
    assert machine.free(later) == AskDue()
    machine.wait_lost(later, maybe_sent=False)
    assert machine.free(later) == Idle(later + SECOND // 2)


def test_a_paused_queue_is_empty_for_one_that_is_to_end_then() -> None:
    machine = made(threads=1, until="empty")
    machine.answered(NOW, request(machine.free(NOW)), answer(ready=3)._replace(paused=True), [], NOW)
    assert machine.free(NOW) is None
    assert machine.stopping_at == NOW


# -- stuck attempts -----------------------------------------------------------------------------------


def stuck(d: Delivery, limits: Limits | None = None) -> Machine:
    """Of its two threads, one runs this attempt, which does not end."""
    machine = Machine.new("me", 2, 30.0, limits or Limits(), NOW, has_store=False, obey_s=0.0, spare=2)
    exchanged(machine, machine.free(NOW), d)
    assert machine.free(NOW) is d
    machine.limit(d, NOW, 1.0)
    machine.duty = "limits"
    step = machine.keep(NOW + SECOND)
    assert isinstance(step, Stuck)
    return machine


def test_a_worker_leaves_no_call_under_way_behind_but_a_wait_that_takes_a_lease() -> None:
    """Either may bring a job, and with the process gone it would count as having been there."""
    machine, later = stuck(job(1), Limits(patience_s=0.0)), NOW + SECOND
    assert timeouts.leaves(machine, later)
    machine.exchanging = True
    assert not timeouts.leaves(machine, later + 2 * machine.lease)
    machine.exchanging, machine.waiting = False, True
    assert not timeouts.leaves(machine, later + machine.lease)
    assert timeouts.leaves(machine, later + machine.lease + 1)


def test_a_worker_that_leaves_a_stuck_attempt_gives_its_server_a_lease_from_its_last_answer() -> None:
    """Its leases run so long; what it said at its stop is no reason to go sooner."""
    machine = stuck(job(1), Limits(patience_s=25.0))
    machine.renewed_at, gone = NOW + 20 * SECOND, NOW + 26 * SECOND
    machine.duty = "limits"
    assert isinstance(machine.keep(gone), Abandon)
    assert not stop.tired(machine, NOW + 50 * SECOND)
    assert stop.tired(machine, NOW + 50 * SECOND + 1)


def test_an_attempt_that_was_left_behind_is_not_settled_again_when_it_ends() -> None:
    """Its process is about to go; the job is in other hands."""
    d = job(1)
    machine = stuck(d, Limits(patience_s=0.0))
    machine.duty = "limits"
    assert isinstance(machine.keep(NOW + SECOND), Abandon)
    machine.free(NOW + SECOND, done(d))
    assert (machine.outbox, machine.unsettled) == ([], 0)


def test_a_thread_that_ends_after_a_stuck_attempt_has_its_outcome_handed_over() -> None:
    """No other thread may come by for as long as a wait takes."""
    machine = stuck(d := job(1))
    machine.flush_asked = machine.bell = False
    assert machine.free(NOW + SECOND, done(d)) is None
    assert (machine.opened, machine.flush_asked, machine.bell) == (0, True, True)


def test_an_attempt_that_was_interrupted_has_no_time_limit_left() -> None:
    """Its thread may go on with others, and the worker would take it for stuck."""
    machine = working(1, d := job(1))
    machine.limit(d, NOW, 1.0)
    machine.interrupted(NOW, d, done(d))
    assert not timeouts.matter(machine)


def test_a_paused_queue_has_nothing_due_for_one_that_waits_for_what_is() -> None:
    """It would wait until the queue is resumed, whenever that is."""
    machine = made(threads=1, until="drained")
    step = request(machine.free(NOW))
    machine.answered(NOW, step, answer(ready=3, next_due_s=60.0)._replace(paused=True), [], NOW)
    assert machine.free(NOW) is None


def test_a_time_limit_has_passed_and_is_disobeyed_from_the_microsecond_on() -> None:
    machine = working(1, job(1))
    machine.limit(job(1), NOW, 1.0)
    assert [bool(timeouts.passed(machine, at)) for at in (NOW + SECOND - 1, NOW + SECOND)] == [False, True]
    (key,) = machine.time_limits
    machine.time_limits[key] = machine.time_limits[key]._replace(obey_until=NOW + 2 * SECOND)
    assert [bool(timeouts.disobeyed(machine, NOW + 2 * SECOND - n)) for n in (1, 0)] == [False, True]


# -- cancelled jobs -----------------------------------------------------------------------------------


def test_a_worker_asks_about_a_suspect_that_was_being_announced_when_it_asked() -> None:
    """It was neither ready nor running then. Without marks it asks nothing."""
    for marked_at in (None, 7.0):
        machine = made(1)
        exchanged(machine, machine.free(NOW), job(1, lost=1))
        announcing = request(machine.free(NOW))
        assert [one.move for one in announcing.settlings] == ["start"]
        machine.marked_at = marked_at
        machine.answered(NOW, announcing, answer(holding=1, marked_at=marked_at), [], NOW)
        assert machine.to_ask == (marked_at is not None)


def test_marks_that_go_away_take_no_call_of_the_keeper_back() -> None:
    machine = working(1, job(1))
    machine.marked_at, machine.bell = 7.0, True
    machine.answered(NOW, request(machine._request(NOW, by_thread=False)), answer(holding=1), [], NOW)
    assert (machine.to_ask, machine.bell) == (False, True)
