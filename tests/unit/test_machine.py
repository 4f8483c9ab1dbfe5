"""The worker's machine, driven by hand: no thread, no clock, no server."""

from __future__ import annotations

import ast
import random
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import kashvi.worker.machine
from kashvi.jobs.envelope import seal
from kashvi.ports import Exchange
from kashvi.worker import Limits, settle
from kashvi.worker.machine import Machine
from kashvi.worker.machine.key import setting
from kashvi.worker.machine.state import ALL, State, told_of
from kashvi.worker.machine.steps import (
    SECOND,
    Abandon,
    Again,
    AskDue,
    AskMarks,
    Idle,
    KeeperStep,
    Reap,
    Record,
    Request,
    Rest,
    Stuck,
    Wait,
    micros,
    not_before,
)
from kashvi.worker.settle import Delivery, Kept, TimeLimit

NOW = 1000 * SECOND
ROOM = Path(kashvi.worker.machine.__file__).parent


def made(threads: int = 1, until: Any = "stopped", has_store: bool = False) -> Machine:
    return Machine.new("me", threads, 30.0, Limits(until), NOW, has_store=has_store)


def job(n: int, lost: int = 0) -> Delivery:
    sealed = seal(f"job {n}", b'"t"', b"{}")
    return settle.delivery(sealed[:-1] + b',"lost":%d}' % lost if lost else sealed, "me", str, float(n))


def answer(*claimed: Delivery, holding: int | None = None, **more: Any) -> Exchange:
    given: dict[str, Any] = {"ready": 0, "unrecorded": 0, "next_due_s": None} | more
    count = len(claimed) if holding is None else holding
    return Exchange(1000.0, 1000.0, (), [d.raw for d in claimed], count, **given)


def exchanged(machine: Machine, request: Any, *claimed: Delivery, **more: Any) -> None:
    assert isinstance(request, Request)
    machine.answered(NOW, request, answer(*claimed, **more), list(claimed), NOW)


def with_follow_ups(number: int, size: int) -> settle.Settling:
    return settle.succeeded(job(number), 1000.0, 0.0, tuple(Kept("", "t", b"x" * size, 0.0) for _ in range(number)))


# -- wake-ups ---------------------------------------------------------------------------------------


def test_four_idle_threads_are_woken_one_by_one_for_four_jobs() -> None:
    """Each that takes one wakes the next. A thread that goes idle wakes none: it would take its own call."""
    machine = made(threads=4)
    lead = machine.free(NOW)
    idle = [machine.free(NOW) for _ in range(3)]
    assert all(isinstance(one, Idle) for one in idle)
    assert machine.wake == 0
    exchanged(machine, lead, *(job(n) for n in range(4)))
    step, working = machine.free(NOW), 0
    while isinstance(step, Delivery):
        working += 1
        if not machine.wake:
            break
        assert machine.wake == 1
        machine.wake = 0
        step = machine.woken(NOW, Idle())
    assert working == 4
    assert machine.idle == 0


def test_a_thread_that_goes_idle_wakes_nobody() -> None:
    """All would sleep while one job waits."""
    machine = made(threads=4)
    machine.free(NOW)
    for _ in range(3):
        machine.free(NOW)
        assert (machine.wake, machine.called) == (0, False)


def test_all_are_woken_for_the_end() -> None:
    """And end."""
    machine = made(threads=3)
    exchanged(machine, machine.free(NOW))
    wait, _, _ = (machine.free(NOW) for _ in range(3))
    assert isinstance(wait, Wait)
    machine.stop(NOW)
    assert (machine.wake, machine.bell, machine.hurry) == (ALL, True, True)
    machine.waited(NOW, wait, None)
    assert [machine.woken(NOW, Idle()), machine.woken(NOW, Idle()), machine.free(NOW)] == [None, None, None]


# -- lost replies -------------------------------------------------------------------------------------


def lost_reply(machine: Machine) -> Request:
    """The machine after an exchange that came through at the second try: it asks for a listing."""
    request = machine.free(NOW)
    assert isinstance(request, Request)
    assert isinstance(machine.lost(NOW, request, maybe_sent=True), Again)
    machine.answered(NOW, request, answer(), [], NOW)
    again = machine.free(NOW)
    assert isinstance(again, Request)
    assert again.reconciles
    return again


def test_a_server_that_does_not_know_our_number_answers_without_a_listing_and_that_is_no_empty_one() -> None:
    """After a failover: what runs would be started twice."""
    machine = made(threads=2)
    machine._admit(NOW, [job(1)])
    machine.holding.update([job(1).raw])
    assert isinstance(machine.free(NOW), Delivery)
    asked = lost_reply(machine)
    machine.answered(NOW, asked, answer(), [], NOW)
    assert machine.to_reconcile
    assert machine.holding == Counter([job(1).raw])
    machine.answered(NOW, asked, answer(listing=([job(1).raw, job(2).raw], [])), [job(1), job(2)], NOW)
    assert not machine.to_reconcile
    assert [d.raw for d in machine.ready] == [job(2).raw]


def test_a_suspect_whose_start_is_refused_runs_if_a_listing_shows_that_we_have_it_again() -> None:
    """Another worker took it over, and the same request claimed it again: its reply was lost. As queues, seed
    206905, where no worker ran the job as long as this one lived."""
    machine, d = made(), job(1, lost=1)
    machine._admit(NOW, [d])
    machine.holding.update([d.raw])
    sent = machine.free(NOW)
    assert isinstance(sent, Request)
    assert [one.move for one in sent.settlings] == ["start"]
    machine.lost(NOW, sent, maybe_sent=True)
    machine.answered(NOW, sent, answer(holding=1, listing=([d.raw], []))._replace(refused=(0,)), [], NOW)
    compares = machine.free(NOW)
    assert isinstance(compares, Request)
    assert compares.reconciles
    machine.answered(NOW, compares, answer(listing=([d.raw], [])), [again := job(1, lost=1)], NOW)
    assert list(machine.suspects) == [again]


def test_what_a_listing_announces_starts_before_all_else() -> None:
    """It is counted."""
    machine = made()
    asked = lost_reply(machine)
    moved = settle.delivery(job(2, lost=1).raw, "me", str, 2.0, "wait", "running")
    machine.answered(NOW, asked, answer(listing=([job(1).raw], [moved.raw])), [moved, job(1)], NOW)
    assert [machine.free(NOW), *machine.ready] == [moved, machine.ready[0]]


def test_an_interrupted_request_goes_first_and_nothing_is_added_to_it() -> None:
    """Under its number: the server may have carried it out."""
    machine = made()
    first = machine.free(NOW)
    machine.unanswered(NOW)
    machine.outbox.append(settle.succeeded(job(1), NOW / SECOND))
    assert machine.free(NOW) is first
    exchanged(machine, first)
    then = machine.free(NOW)
    assert isinstance(then, Request)
    assert [one.move for one in then.settlings] == ["done"]


# -- the keeper ----------------------------------------------------------------------------------------


def test_the_keeper_rests_between_two_tries_of_anything() -> None:
    """Whatever fails: a loop that pulls must not spin where a thread would have slept."""
    machine = made(has_store=True)
    now = NOW
    seen: list[str] = []
    for _ in range(200):
        machine.bell = False
        step = machine.keep(now)
        seen.append(type(step).__name__)
        now = failing(machine, step, now)
    assert set(seen) == {"Rest", "Reap", "Request", "Record"}
    for kind in ("Reap", "Request", "Record"):
        places = [i for i, name in enumerate(seen) if name == kind]
        assert all("Rest" in seen[a:b] for a, b in pairwise(places))


def failing(machine: Machine, step: KeeperStep, now: int) -> int:
    """The step fails at once, as with a server and a table that are away; returns the time then."""
    if isinstance(step, Rest):
        assert step.until > now
        return step.until
    if isinstance(step, Request):
        machine.unanswered(now)
    elif isinstance(step, Reap):
        machine.reaped(now, [], more=False)
    elif isinstance(step, Record):
        machine.recorded(step.waiting, done=False)
    machine.unrecorded = machine.unrecorded or 1
    return now


def test_every_answer_takes_time_or_changes_something() -> None:
    """In any order of whatever may happen: else a thread would turn in circles."""
    for seed in range(300):
        drive(random.Random(seed))


def drive(chance: random.Random) -> None:
    machine = made(threads=2, until=chance.choice(["stopped", "empty", "drained"]))
    now, n, stuck = NOW, 0, 0
    steps: list[Any] = [machine.free(now), machine.free(now)]
    for _ in range(60):
        before = machine.key(now), now
        i = chance.randrange(2)
        step = steps[i]
        if step is None:
            return
        now += chance.choice([0, 0, 1000, SECOND])
        if isinstance(step, Delivery):
            ended = settle.succeeded(step, now / SECOND, 0.01) if chance.random() < 0.7 else None
            if ended is None:
                machine.interrupted(now, step, None)
            steps[i] = machine.free(now, ended)
        elif isinstance(step, Request):
            if chance.random() < 0.3 and machine.lost(now, step, chance.random() < 0.5) is not None:
                now += 1000
                continue
            if machine.exchanging:
                n += 1
                claimed = [job(n)] if step.want and chance.random() < 0.6 else []
                due = chance.choice([None, 0.0000004, 0.5])
                listing = ([], []) if step.reconciles and chance.random() < 0.8 else None
                told = answer(*claimed, holding=len(machine.holding), next_due_s=due, listing=listing)
                machine.answered(now, step, told, [] if step.reconciles else claimed, now)
            steps[i] = machine.free(now)
        elif isinstance(step, AskDue):
            steps[i] = machine.due(now, None)
        elif isinstance(step, Wait):
            now += chance.choice([step.time, 0])
            if chance.random() < 0.2:
                machine.wait_lost(now, chance.random() < 0.5)
            else:
                machine.waited(now, step, None)
            steps[i] = machine.free(now)
        elif isinstance(step, Idle):
            now = max(now, step.until or now + SECOND)
            steps[i] = machine.woken(now, step)
        stuck = 0 if (machine.key(now), now) != before or steps[i] is not step else stuck + 1
        assert stuck < 3, (step, machine.key(now))


# -- times -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("left_s", [1e-9, 0.0000004, 0.3, 0.1 + 0.2, 1.0])
def test_a_job_that_is_not_due_is_due_in_a_time(left_s: float) -> None:
    """Rounded to nothing, it would be asked for again in no time."""
    assert not_before(left_s) == max(round(left_s * SECOND), 1)
    assert not_before(0.0) == not_before(-1.0) == 0


def test_what_is_over_is_over_in_every_comparison() -> None:
    """Whole microseconds: of a window that ends now, the key and the decision say the same."""
    machine = made()
    machine._admit(NOW, [job(1, lost=1)])
    machine._begin(NOW, job(2, lost=1))
    over = NOW + 10 * machine.lease
    before, then = machine.clone(), machine.clone()
    assert not kashvi.worker.machine.suspects.may_start(before, over - 1)
    assert kashvi.worker.machine.suspects.may_start(then, over)
    assert before.key(over - 1) != then.key(over)
    assert micros(1.0000004) == micros(1.0) == SECOND


# -- as a value ------------------------------------------------------------------------------------------


def busy() -> Machine:
    """A machine in which every field matters."""
    limits = Limits("drained", max_jobs=9, max_time_s=60.0)
    machine = Machine.new("me", 2, 30.0, limits, NOW, has_store=True)
    machine._admit(NOW, [job(1), job(2), job(3, lost=1), job(4, lost=2)])
    machine.outbox = [settle.succeeded(job(5), NOW / SECOND)]
    machine.running = {1: job(6)}
    machine.time_limits = {1: TimeLimit(machine.running[1], 3.0, NOW + SECOND)}
    machine.open = Request(3, [settle.succeeded(job(7), NOW / SECOND)], 2, waits=0)
    machine.suspect = job(8, lost=1)
    machine.stopping_at = machine.waited_at = machine.stuck_at = machine.owed_since = machine.suspect_at = NOW
    machine.renewed_at = machine.counted_at = machine.server_moved_at = machine.suspects_since = NOW
    machine.watched = machine.next_due_at = machine.record_until = machine.reap_at = NOW + SECOND
    return machine


def changed(value: Any) -> Any:
    """Something else that may stand there."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, Request):
        return value._replace(want=value.want + 1)
    if isinstance(value, Delivery):
        return job(99, lost=1)
    if isinstance(value, str):
        return {"rest": "gather", "settle": "record"}.get(value, "you")
    if isinstance(value, Limits):
        return Limits("empty", max_jobs=9, max_time_s=60.0)
    if value is None:
        return 77
    if isinstance(value, frozenset | tuple):
        return type(value)(("x",)) if not value else type(value)()
    other = value.copy()
    other.clear()
    if not value and isinstance(value, dict):
        return {1: job(97)}
    return other if value else type(value)(["x"])


NUMBERS = {"n"}
"""Only compared with the server's."""
FIELDS = list(told_of())


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_is_in_the_key_or_never_changes(name: str) -> None:
    """One that was forgotten would merge states that go on differently."""
    at = NOW + 10
    machine, other = busy(), busy()
    assert machine.key(at) == other.key(at)
    setattr(other, name, changed(getattr(other, name)))
    constant = told_of()[name] is setting
    if name != "limits":  # others are told as far as the limits ask for them
        assert (machine.key(at) == other.key(at)) == (constant or name in NUMBERS), name
    assert not constant or name not in assigned()


def assigned() -> set[str]:
    """The fields that the machine assigns to."""
    found: set[str] = set()
    for path in ROOM.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                assert isinstance(node.value, ast.Name)
                assert node.value.id in ("self",), f"{path.name}: {ast.unparse(node)} is assigned from outside"
                found.add(node.attr)
    return found


def test_nobody_else_assigns_to_a_field() -> None:
    """But for the signals, which those who call it clear."""
    signals = {"wake", "bell", "hurry", "news"}
    for path in ROOM.parents[1].rglob("*.py"):
        if path.parent != ROOM:
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                    owner = ast.unparse(node.value)
                    assert not owner.endswith("machine") or node.attr in signals, f"{path.name}: {ast.unparse(node)}"


def test_a_request_carries_what_a_server_takes() -> None:
    """What is left goes next, first of all by number, then by size; the first settlement always goes."""
    machine = made()
    for _ in range(3):
        machine._ended(NOW, with_follow_ups(6_000, 1))
    machine._ended(NOW, with_follow_ups(1, 40 * 1024 * 1024))
    machine._ended(NOW, with_follow_ups(1, 1))
    machine._ended(NOW, with_follow_ups(0, 1))
    sent = []
    while machine.outbox:
        request = machine.free(NOW)
        assert isinstance(request, Request)
        sent.append([len(settling.follow_ups) for settling in request.settlings])
        exchanged(machine, request)
    assert sent == [[6_000], [6_000], [6_000], [1], [1, 0]]
    assert machine.owed_bytes == 0


def test_no_job_starts_while_too_many_bytes_of_follow_ups_are_not_sent() -> None:
    """A server that is away must not fill the memory; one more job of each thread may end meanwhile."""
    machine = made(threads=2)
    first = machine.free(NOW)
    exchanged(machine, first, *(job(n) for n in range(4)))
    steps = [machine.free(NOW), machine.free(NOW)]
    assert isinstance(steps[0], Delivery)
    assert isinstance(steps[1], Delivery)
    request = machine.free(NOW, settle.succeeded(steps[0], 1000.0, 0.0, (Kept("", "t", b"x" * (33 << 20), 0.0),)))
    assert isinstance(request, Request)
    assert isinstance(machine.free(NOW, settle.succeeded(steps[1], 1000.0, 0.0, (Kept("", "t", b"x", 0.0),))), Idle)
    exchanged(machine, request, holding=3)
    exchanged(machine, machine.free(NOW), holding=2)
    assert machine.owed_bytes == 0
    assert isinstance(machine.free(NOW), Delivery)


def test_a_process_that_hands_back_sends_all_of_it() -> None:
    """Also what one request could not carry."""
    machine = made(threads=2)
    first = machine.free(NOW)
    exchanged(machine, first, job(1), job(2))
    step = machine.free(NOW)
    assert isinstance(step, Delivery)
    machine._ended(NOW, with_follow_ups(1, 33 << 20))
    machine._ended(NOW, with_follow_ups(1, 33 << 20))
    machine.stop(NOW)
    moves = []
    request = machine.hand_back(NOW)
    while request is not None:
        moves.append([settling.move for settling in request.settlings])
        exchanged(machine, request)
        request = machine.hand_over(NOW)
    assert moves == [["done"], ["done", "return", "return"]]


def test_time_that_passes_is_in_the_key_only_as_far_as_it_matters() -> None:
    """An hour later nothing is different, if nothing was to happen."""
    machine = made()
    exchanged(machine, machine.free(NOW))
    late = NOW + 3600 * SECOND
    assert machine.key(late) == machine.key(late + 3600 * SECOND)
    assert machine.key(NOW) != machine.key(late)


def test_a_clone_is_the_same_and_apart() -> None:
    """Whatever is done to one, the other does not know."""
    machine = busy()
    other = machine.clone()
    assert type(other) is Machine
    assert other.key(NOW) == machine.key(NOW)
    machine.key(NOW)
    kept = machine.key(NOW)
    for name in FIELDS:
        value = getattr(other, name)
        if isinstance(value, list | dict) or hasattr(value, "popleft"):
            assert value is not getattr(machine, name), name
            value.clear()
    other.stop(NOW)
    assert machine.key(NOW) == kept


def test_the_room_of_the_machine_is_closed() -> None:
    """No lock, clock, thread, driver or chance comes in, and each module is under 300 lines."""
    allowed = {
        "collections", "collections.abc", "copy", "functools", "math", "msgspec", "msgspec.structs", "operator",
        "typing",
    }  # fmt: skip
    for path in ROOM.glob("*.py"):
        tree = ast.parse(path.read_text())
        outside = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level}
        outside |= {one.name for node in ast.walk(tree) if isinstance(node, ast.Import) for one in node.names}
        assert outside - {"__future__"} <= allowed, path.name
        upwards = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level > 1}
        assert upwards <= {None, "names", "ports", "settle"}, path.name
        assert len(path.read_text().splitlines()) < 300, path.name


def test_the_table_of_steps_names_every_step_and_every_call() -> None:
    """The theory of operation is held against the code."""
    text = kashvi.worker.machine.__doc__ or ""
    for kind in (Request, AskDue, Wait, Idle, Delivery, Rest, Reap, AskMarks, Record, Stuck, Abandon, Again):
        assert kind.__name__ in text
    calls: dict[str, Callable[..., Any]] = {
        name: one
        for kind in Machine.__mro__
        if kind.__module__.startswith(kashvi.worker.machine.__name__)
        for name, one in vars(kind).items()
        if callable(one) and not name.startswith("_")
    }
    for name in calls.keys() - {"clone", "key"}:
        assert f"``{name}``" in text, name
    assert issubclass(Machine, State)
