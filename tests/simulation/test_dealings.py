"""Each judge of a process's dealings with its server says no to one line gone wrong, and yes to the code as it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from kashvi_sim.world.dealings import Dealings
from kashvi_sim.world.process import SimQueue
from kashvi_sim.world.world import World

from kashvi import events
from kashvi.errors import ReplyLost
from kashvi.registry import Registry
from kashvi.stream import EventStream
from kashvi.worker import Limits
from kashvi.worker.machine import Machine, calls, choose, stop, suspects, tend
from kashvi.worker.machine.steps import SECOND
from kashvi.worker.pool import Workers
from kashvi.worker.shell import Worker

Patch = pytest.MonkeyPatch


@dataclass
class Takes:
    seconds: float = 0.0
    fails: bool = False

    def handle(self) -> None:
        if self.seconds:
            WORLD[0].kernel.sleep(self.seconds)
        if self.fails:
            raise ValueError


WORLD: list[World] = []


class Scene:
    """A producer and a worker of two threads, with a failure table."""

    def __init__(self) -> None:
        registry = Registry()
        registry.register("jobs.Takes", Takes)
        self.world = World(registry=registry, lease_s=6.0, database="sqlite://", virtual_handlers=False, max_attempts=1)
        WORLD[:] = [self.world]
        self.dealings = self.world.dealings = Dealings(self.world)
        self.producer = self.world.process()

    def works(self, threads: int = 2) -> SimQueue:
        queue = self.world.process()
        queue.start_workers(threads)
        return queue

    def dispatch(self, *jobs: Takes) -> None:
        self.producer.dispatch_many(jobs)

    def away(self, for_s: float) -> None:
        self.world.down_until = self.world.kernel.time + for_s

    def run(self, for_s: float) -> None:
        self.world.run(for_s=for_s)

    def stop(self, queue: SimQueue) -> None:
        self.world.terminate(queue.process)
        self.run(12)


def an_outage(scene: Scene) -> None:
    """Then an ordinary day."""
    queue = scene.works()
    scene.run(1)
    scene.away(9)
    scene.run(20)
    scene.dispatch(Takes())
    scene.run(1)
    scene.stop(queue)


def short_jobs_beside_long_ones(scene: Scene) -> None:
    scene.dispatch(*[Takes(8) for _ in range(3)], *[Takes(0.015) for _ in range(60)])
    queue = scene.works(4)
    scene.run(30)
    scene.stop(queue)


def two_long_jobs(scene: Scene) -> None:
    scene.dispatch(Takes(8), Takes(8))
    queue = scene.works()
    scene.run(10)
    scene.stop(queue)


def a_stop_in_the_middle(scene: Scene) -> None:
    scene.dispatch(Takes(0.001), Takes(0.001), Takes(3), Takes(3), *[Takes(1) for _ in range(4)])
    queue = scene.works()
    scene.run(2)
    scene.stop(queue)


def a_wait_whose_reply_is_lost(scene: Scene) -> None:
    queue = scene.works()
    scene.run(1)

    def lose(point: str, process: object) -> None:
        if point == "after wait":
            scene.world._hook = None
            raise ReplyLost("lost", "the scene")

    scene.world._hook = lose
    scene.run(5)
    scene.stop(queue)


def a_suspect_beside_short_jobs(scene: Scene) -> None:
    scene.dispatch(Takes(1.5))
    dies = scene.works(1)
    scene.run(1)
    scene.world.kill(dies)
    queue = scene.works()
    scene.run(6)
    scene.dispatch(*[Takes(0.012) for _ in range(500)])
    scene.run(10)
    scene.stop(queue)


def what_ends_while_the_keeper_gathers(scene: Scene) -> None:
    """A short job ends just before a long one begins, 9 ms before the keeper, called for others, hands over."""
    queue = scene.works(1)
    scene.run(1)
    scene.dispatch(Takes(0.001))
    scene.run(0.01)
    scene.dispatch(Takes(0.001), Takes(), Takes(3))
    scene.run(5)
    scene.stop(queue)


def an_exit(scene: Scene) -> None:
    """One of an idle worker, one while a wait's reply is on its way, and one in the middle of two jobs."""
    slow = scene.works(1)
    scene.run(1)

    def late(point: str, process: object) -> None:
        if point == "after wait":
            scene.world._hook = None
            scene.world.kernel.sleep(5)

    scene.world._hook = late
    scene.dispatch(Takes(1))
    scene.run(0.1)
    slow.leave()
    scene.run(10)
    idle = scene.works()
    scene.run(1)
    idle.leave()
    scene.run(1)
    scene.dispatch(Takes(3), Takes(3))
    busy = scene.works()
    scene.run(1)
    busy.leave()
    scene.run(2)


def a_failure_at_the_end(scene: Scene) -> None:
    scene.dispatch(Takes(3, fails=True))
    queue = scene.works()
    scene.run(1)
    scene.stop(queue)


def a_backlog_and_a_lone_thread(scene: Scene) -> None:
    scene.dispatch(*[Takes(0.5) for _ in range(6)])
    queue = scene.works(1)
    scene.run(10)
    scene.stop(queue)


def four_threads_and_three_jobs(scene: Scene) -> None:
    queue = scene.works(4)
    scene.run(1)
    scene.dispatch(*[Takes(2) for _ in range(3)])
    scene.run(8)
    scene.stop(queue)


def a_job_that_is_due_while_a_wait_hangs(scene: Scene) -> None:
    queue = scene.works()
    scene.run(1)
    scene.producer.dispatch_after(Takes(), 4.3)

    def hang(point: str, process: object) -> None:
        if point == "after wait" and scene.world.elapsed_s > 5.25:
            scene.world._hook = None
            scene.world.kernel.sleep(3)

    scene.world._hook = hang
    scene.run(8)
    scene.stop(queue)


def a_stop_in_an_outage(scene: Scene) -> None:
    """Of an idle worker, which pauses for seconds; and of one with a job that has ended."""
    idle, busy = scene.works(), scene.works(1)
    scene.dispatch(Takes(5))
    scene.run(1)
    scene.away(70)
    scene.run(13)
    scene.stop(idle)
    scene.stop(busy)
    scene.run(40)


def a_stop_just_after_the_keeper_looked(scene: Scene) -> None:
    scene.dispatch(Takes(0.001), Takes(0.001), Takes(3), Takes(3), *[Takes(1) for _ in range(4)])
    queue = scene.works()
    scene.run(0.5)
    scene.stop(queue)


def three_jobs_of_two(scene: Scene) -> None:
    """The worker may have two."""
    queue = scene.world.process()
    queue.process.limits = Limits(max_jobs=2)
    queue.start_workers(1)
    scene.dispatch(*[Takes() for _ in range(3)])
    scene.run(10)
    scene.stop(queue)


def two_seconds_and_a_half(scene: Scene) -> None:
    """The worker's time is over then."""
    queue = scene.world.process()
    queue.process.limits = Limits(max_time_s=2.5)
    queue.start_workers(1)
    scene.run(10)
    scene.stop(queue)


def its_time_is_over_in_an_outage(scene: Scene) -> None:
    queue = scene.world.process()
    queue.process.limits = Limits(max_time_s=2.5)
    queue.start_workers(1)
    scene.dispatch(Takes(2))
    scene.run(0.5)
    scene.away(20)
    scene.run(30)
    scene.stop(queue)


def an_empty_queue(scene: Scene) -> None:
    """The worker ends with it, and not before."""
    queue = scene.world.process()
    queue.process.limits = Limits("drained")
    scene.producer.dispatch_after(Takes(), 3)
    queue.start_workers(1)
    scene.run(10)
    scene.stop(queue)


def a_suspect_and_two_threads(scene: Scene) -> None:
    scene.dispatch(Takes(1.5))
    dies = scene.works(1)
    scene.run(1)
    scene.world.kill(dies)
    queue = scene.works()
    scene.run(20)
    scene.stop(queue)


def two_stops(scene: Scene) -> None:
    scene.dispatch(Takes(3))
    queue = scene.works()
    scene.run(1)
    scene.world.terminate(queue.process)
    scene.stop(queue)


def untold(kind: type[events.Event]) -> Callable[[Patch], None]:
    """An event of this kind is never emitted."""
    emit = EventStream.emit

    def plant(patch: Patch) -> None:
        def emits(self: Any, kind_: type[events.Event], *more: Any, **facts: Any) -> None:
            if kind_ is not kind:
                emit(self, kind_, *more, **facts)

        patch.setattr(EventStream, "emit", emits)

    return plant


def always(owner: Any, name: str, value: Any) -> Callable[[Patch], None]:
    return lambda patch: patch.setattr(owner, name, value)


def stuck_at(owner: Any, name: str, value: Any) -> Callable[[Patch], None]:
    """An attribute that nothing changes."""
    attribute = property(lambda self: value, lambda self, new: None)
    return lambda patch: patch.setattr(owner, name, attribute, raising=False)


def not_repeated(patch: Patch) -> None:
    """A request whose answer was lost is forgotten; the next one has another number."""
    lost, goes_on = Machine.lost, Worker._goes_on

    def forgets(self: Any, now: int, request: Any, maybe_sent: bool) -> None:
        lost(self, now, request, maybe_sent)
        self.open = None
        self.unanswered(now)

    def rests(self: Any, request: Any, caught: Exception) -> bool:
        goes = goes_on(self, request, caught)
        self._runtime.sleep(0.2)
        return goes

    patch.setattr(Machine, "lost", forgets)
    patch.setattr(Worker, "_goes_on", rests)


def nothing_goes_back(patch: Patch) -> None:
    patch.setattr(Machine, "_release", lambda self, now: self.ready.clear())


def compares_at_every_tick(patch: Patch) -> None:
    does = Machine._tend

    def ticks(self: Any, now: int, duty: str) -> Any:
        if duty == "reap":
            self.to_reconcile = self.stopping_at is None
        return does(self, now, duty)

    patch.setattr(Machine, "_tend", ticks)


def claims_by_waits(patch: Patch) -> None:
    sending = Machine._sending
    patch.setattr(Machine, "_sending", lambda self, now, claim: sending(self, now, False))
    patch.setattr(choose, "wants_jobs", lambda state, now: False)


def renews_seldom(patch: Patch) -> None:
    due = tend.exchanges
    patch.setattr(tend, "exchanges", lambda state, now: now - state.renewed_at > 4 * SECOND and due(state, now))


def no_bell(patch: Patch) -> None:
    signal, chosen = Worker.signal, choose.choose

    def dumb(self: Any) -> None:
        self.machine.bell = False
        signal(self)

    def patient(state: Any, now: int) -> Any:
        return "run" if state.ready and state.stopping_at is None else chosen(state, now)

    patch.setattr(Worker, "signal", dumb)
    patch.setattr(choose, "choose", patient)


def claims_while_it_stops(patch: Patch) -> None:
    """Once, or it would hand back what it claims for ever."""
    sending, left = Machine._sending, [1]

    def sends(self: Any, now: int, claim: bool) -> tuple[Any, int]:
        batch, want = sending(self, now, claim)
        return batch, left.pop() if self.stopping_at is not None and left else want

    patch.setattr(Machine, "_sending", sends)


def does_not_wait_for_its_turn(patch: Patch) -> None:
    hand_back = Worker.hand_back

    def hands_back(self: Any) -> bool:
        another = self.machine._request(self.now(), by_thread=False)
        self.machine.exchanging = False
        self._runtime.spawn(lambda: self.exchange(another), "another")
        return hand_back(self)

    patch.setattr(Worker, "hand_back", hands_back)


def asks_at_every_turn(patch: Patch) -> None:
    wait = Worker._wait

    def asks(self: Any, step: Any) -> None:
        self._driver.next_due()
        wait(self, step)

    patch.setattr(Worker, "_wait", asks)


def wakes_no_thread(patch: Patch) -> None:
    call = Machine._call
    patch.setattr(Machine, "_call", lambda self: call(self) if self.stopping_at is not None else None)


def deaf_to_a_stop(patch: Patch) -> None:
    stop = Machine.stop

    def stops(self: Any, now: int) -> None:
        stop(self, now)
        self.bell = False

    patch.setattr(Machine, "stop", stops)


def tells_each_stop(patch: Patch) -> None:
    stop = Machine.stop

    def stops(self: Any, now: int) -> None:
        if self.stopping_at is not None:
            self.news.append("stopping")
        stop(self, now)

    patch.setattr(Machine, "stop", stops)


def suspects_are_shy(patch: Patch) -> None:
    may = suspects.may_start
    patch.setattr(suspects, "may_start", lambda state, now: now > state.suspects_since + 3 * SECOND and may(state, now))


def three_seconds_late(patch: Patch) -> None:
    over = stop.time_is_over
    patch.setattr(stop, "time_is_over", lambda state, now: over(state, now - 3 * SECOND))


BROKEN: dict[str, tuple[str, Callable[[Patch], None], Callable[[Scene], None]]] = {
    "it does not tell that its server is back": ("server told of", untold(events.ServerBack), an_outage),
    "it does not tell that its server is lost": ("server told of", untold(events.ServerLost), an_outage),
    "it rests for a minute": ("tries again", always(calls, "BACKOFF_FIRST", 15 * SECOND), an_outage),
    "it hardly rests": ("tries again", always(calls, "BACKOFF_MAX", SECOND // 5), an_outage),
    "another number for a lost request": ("numbered", not_repeated, an_outage),
    "finished work waits for the keeper's tick": ("settled in time", no_bell, short_jobs_beside_long_ones),
    "it does not know what it owes": (
        "settled in time", stuck_at(Machine, "owes", False), what_ends_while_the_keeper_gathers,
    ),
    "it renews too late": ("renewed in time", renews_seldom, two_long_jobs),
    "it compares without a reason": ("compared for a reason", compares_at_every_tick, a_backlog_and_a_lone_thread),
    "it keeps what it has not started": ("leaves nothing held", nothing_goes_back, a_stop_in_the_middle),
    "its failures are nobody's": (
        "recorded at the end", always(Machine, "_record_the_rest", lambda self, now: None), a_failure_at_the_end,
    ),
    "join does not wait": ("joined", always(Workers, "join", lambda self, timeout=None: True), a_stop_in_the_middle),
    "a backlog is fetched one by one": (
        "claims together", claims_by_waits, a_backlog_and_a_lone_thread,
    ),
    "it never compares": ("compares in time", stuck_at(Machine, "to_reconcile", False), a_wait_whose_reply_is_lost),
    "nothing is urgent": ("suspects settled", stuck_at(Machine, "urgent", False), a_suspect_beside_short_jobs),
    "it always wants to flush": ("rests for a reason", stuck_at(Machine, "flush_asked", True), two_long_jobs),
    "it claims while it stops": ("silent after stop", claims_while_it_stops, a_stop_in_the_middle),
    "it asks what it knows": ("asks with a reason", asks_at_every_turn, an_outage),
    "two hand over at its end": ("one at a time", does_not_wait_for_its_turn, an_exit),
    "it says that all is handed back": ("handed back", always(Worker, "hand_back", lambda self: True), an_exit),
    "it looks for the dead at every tick": (
        "looks after the dead", stuck_at(Machine, "reap_at", 0), two_long_jobs,
    ),
    "it wakes no thread": (
        "starts at once", wakes_no_thread, four_threads_and_three_jobs,
    ),
    "no thread watches": (
        "looks when due", always(choose, "watch", lambda state, now: None), a_job_that_is_due_while_a_wait_hangs,
    ),
    "a stop waits for the pause": ("hurries to its end", stuck_at(Machine, "hurry", False), a_stop_in_an_outage),
    "a stop in between is slept over": (
        "hurries to its end", stuck_at(Worker, "hurried", False), its_time_is_over_in_an_outage,
    ),
    "it tries for ever": ("gives up", always(stop, "tired", lambda state, now: False), a_stop_in_an_outage),
    "its error is forgotten": ("error kept", stuck_at(Worker, "error", None), a_stop_in_an_outage),
    "a stop does not call the keeper": (
        "handed back in time", deaf_to_a_stop, a_stop_just_after_the_keeper_looked,
    ),
    "it is never full": ("limits kept", always(Machine, "full", False), three_jobs_of_two),
    "its time is never over": (
        "limits kept", always(stop, "time_is_over", lambda state, now: False), two_seconds_and_a_half,
    ),
    "its time is over late": ("stops after its time", three_seconds_late, two_seconds_and_a_half),
    "it does not wait for what is delayed": (
        "limits kept", always(choose, "finished", lambda state: state.limits.until != "stopped"), an_empty_queue,
    ),
    "a suspect waits for nothing": ("suspects start", suspects_are_shy, a_suspect_and_two_threads),
    "it tells of each stop": ("server told of", tells_each_stop, two_stops),
}  # fmt: skip


@pytest.mark.parametrize("bug", BROKEN)
def test_a_judge_sees_what_it_is_for_and_nothing_in_good_code(bug: str, monkeypatch: Patch) -> None:
    """In a scene of a few seconds; other judges may see it too."""
    promise, plant, play = BROKEN[bug]
    with monkeypatch.context() as patch:
        plant(patch)
        scene = Scene()
        play(scene)
        assert promise in {violation.predicate for violation in scene.dealings.violations}
        scene.world.close()
    scene = Scene()
    play(scene)
    assert scene.dealings.violations == []
    scene.world.close()
