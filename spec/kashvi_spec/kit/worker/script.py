"""The scenes of a run, one after the other. A scene has all situations that do not disturb each other."""

from __future__ import annotations

import signal
from collections.abc import Callable

import redis

from .bench import Bench
from .judging import LATE_S, TAKEOVER_S
from .on_attempts import cancelled_in_time
from .on_deaths import any_ran_when_killed, died_twice, stopped_too_late
from .process import CannotJudge, CutShort, WorkerProcess
from .pushing import HELD_UP_S, ROUNDS, Round, ToPush
from .server import cut_off, idle_commands, pause_writes, put_in_the_way, take_away
from .story import DELAYED, JOBS, UNRECORDED, Story
from .watch import WRONG_TYPE

START_S = 30.0
"""The most seconds until a process's first job."""
STOP_S = 15.0
"""The most seconds from a signal to the end of the process, beside its jobs."""
TRIES = 3
"""The most tries to start a process that lives."""
QUICK = 100
"""The number of quick jobs before slow ones: enough that a worker's estimates adapt."""
ACROSS_S = 1.0
IDLE_S = 2.0
DISTURBED_S = 2.2
"""Two polls of a worker that polls once a second; less than the 3 s after which some clients give up."""


def play(bench: Bench, tell: Callable[[str], None]) -> Story:
    """Play all scenes, as far as possible. ``tell`` gets a line for each. Raises CannotJudge, redis.RedisError."""
    run = Run(bench)
    for scene, title in (
        (run.one_worker, "a backlog, then an idle worker"),
        (run.failing, "jobs that fail"),
        (run.two_workers, "two workers: a race, a key of the wrong type, a job longer than a lease"),
        (run.deaths, "both killed, two others started"),
        (run.held_up, "workers are held up in the middle of jobs, until another has taken those over"),
        (run.dies_again, "a job whose process is killed, twice"),
        *([(run.across, "each kind of worker is killed beside the other")] if len(bench.kinds) > 1 else []),
        (run.stopping, "a worker is told to stop"),
        (run.told_twice, "a worker is told to stop twice"),
    ):
        tell(title)
        try:
            _whole(scene, bench)
        except CutShort as why:
            bench.story.cut_short = str(why)
            bench.story.left = bench.on_the_queue()
            break
    return bench.story


def _whole(scene: Callable[[], None], bench: Bench) -> None:
    """Play a scene. Raises CutShort also if a worker has made further scenes impossible."""
    try:
        scene()
    except redis.ResponseError as error:
        if WRONG_TYPE not in str(error):
            raise
        bench.watch.finds_wrong_type(JOBS, DELAYED)
        found = " and ".join(f"{key} was a {kind}" for key, kind in bench.story.wrong_types.items())
        raise CutShort(f"the kit could push no more jobs, as {found or 'a key was no list'}") from None


class Run:
    """The scenes of a run; each can be played by itself."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.story = bench.story
        self.jobs = bench.jobs
        self.until = bench.watch.until
        self.threads = bench.story.threads
        self._greetings = 0

    # -- scenes --------------------------------------------------------------------------------

    def one_worker(self) -> None:
        self.bench.push(self.jobs.before_any_worker())
        others = {client["addr"] for client in self.bench.client.client_list()}
        self._first_job(self.bench.start())
        self.settle("in order", "due before", "due together", "values")
        self.bench.push([self.jobs.sleep("at once", f"at once {n}", 1.0) for n in range(2 * self.threads)])
        self.settle("at once", seconds=2.0 + LATE_S)
        self.bench.push([self.jobs.echo("idle", "idle")])
        self.settle("idle")
        if why := cut_off(self.bench.client, others):
            self.story.missed["cut off"] = why
        self.bench.push([self.jobs.echo("cut off", "cut off")])
        self.settle("cut off")
        delays = (IDLE_S + 0.5, IDLE_S + 0.75, IDLE_S + 1.25)
        self.bench.push([self.jobs.echo("delayed", f"delayed {n}", delay) for n, delay in enumerate(delays)])
        asked = idle_commands(self.bench.client, others, IDLE_S)
        if isinstance(asked, str):
            self.story.missed["idle commands"] = asked
        else:
            self.story.asked_idle, self.story.idle_s = asked, IDLE_S
        self.settle("delayed", seconds=1.25 + LATE_S)

    def failing(self) -> None:
        """Failing jobs, enough to fill a worker that sleeps between attempts, and one job behind them."""
        self._alive(1)
        failing = self.jobs.failing()
        self.bench.push([*failing, self.jobs.echo("behind", "behind")])
        rounds = -(-len(failing) // self.threads)
        self.settle("no id", "odd bytes", "flaky", "failing", "behind", seconds=rounds * 6.0 + LATE_S)

    def two_workers(self) -> None:
        self._alive(2)
        self.bench.push([self.jobs.echo("race", f"race {n}", 0.1) for n in range(20)])
        if why := pause_writes(self.bench.client, DISTURBED_S):
            self.story.missed["race"] = why
        self.settle("race", seconds=DISTURBED_S + LATE_S)
        self._wrong_type()
        self.bench.push([self.jobs.sleep("long", "long", self.story.lease_s + 1.5)])
        self.cancelled()
        self.settle("long", "wrong type", seconds=self.story.lease_s + 1.5 + LATE_S)

    def cancelled(self) -> None:
        """Mark a job as cancelled while it runs, and see whether it is tried again."""
        for turn in ROUNDS:
            self._alive(1)
            takes_s = HELD_UP_S * turn.longer
            [name] = self.bench.push([self.jobs.cancelled(turn)])
            self.until(lambda name=name: bool(self.story.told(name)), LATE_S)  # type: ignore[misc]
            self.bench.mark(name)
            again = self.until(lambda name=name: len(self.story.told(name)) > 1, takes_s + 2.5)  # type: ignore[misc]
            if again or cancelled_in_time(self.story, name):
                return

    def _wrong_type(self) -> None:
        if not self.until(lambda: put_in_the_way(self.bench.client), LATE_S):
            self.story.missed["wrong type"] = "kashvi:queue:jobs did not become empty when nothing was left to do"
            return
        try:
            self.bench.push([self.jobs.echo("wrong type", f"wrong type {n}", 0.1) for n in range(3)])
            self.until(lambda: False, DISTURBED_S)
        finally:
            take_away(self.bench.client)

    def deaths(self) -> None:
        for turn in ROUNDS:
            victims = self._kill_all(turn)
            if any_ran_when_killed(self.story):
                break

        def over() -> bool:
            """True if all jobs are done, except the retries of the failing one."""
            return all(self.story.elsewhere(one.name) for one in victims) and self._settled_but("failed", "killed")

        if self.until(over, self.story.lease_s + TAKEOVER_S * turn.longer):
            self.settle("killed", seconds=5.0 + 3.0 * turn.longer + LATE_S)
        else:
            why = "a killed worker's jobs were not taken over, so {} would not be"
            self.story.missed["paused"] = self.story.missed["paused last"] = why.format("those of one held up")
            self.story.missed["dies again"] = why.format("those of the next")

    def _kill_all(self, turn: Round) -> list[ToPush]:
        self._alive(2)
        victims = self.jobs.killed(turn)
        self.bench.push([self.jobs.echo("outlives", f"outlives{turn.suffix}", 0.5), *victims])
        self.until(lambda: all(self.story.told(one.name) for one in victims), LATE_S)
        for worker in self.bench.running():
            self.bench.send(worker, signal.SIGKILL)
        self.until(lambda: not self.bench.running(), LATE_S)
        self._alive(1)
        self.settle("outlives")
        self._alive(2)
        return victims

    def _settled_but(self, fate: str, situation: str) -> bool:
        return all(self.story.ended(one) for one in self.story.of(situation) if one.fate != fate)

    def held_up(self) -> None:
        """Pause a worker during jobs, for longer than its lease, until another has taken them over."""
        if "paused" in self.story.missed:
            return
        for n in range(len(self.jobs.held_up())):  # one after the other: suspects would wait for each other
            for turn in ROUNDS:
                self._alive(2)
                [name] = self.bench.push([self.jobs.held_up(turn)[n]])
                self._hold_up(name, HELD_UP_S * turn.longer)
                if not stopped_too_late(self.story, name):
                    break

    def _hold_up(self, name: str, takes_s: float) -> None:
        self.until(lambda: bool(self.story.told(name)), LATE_S)
        started = {entry.worker for entry in self.story.told(name)}
        stopped = [worker for worker in self.bench.running() if worker.name in started]
        for worker in stopped:
            self.bench.send(worker, signal.SIGSTOP)
        self.until(lambda: self.story.elsewhere(name), self.story.lease_s + TAKEOVER_S)
        for worker in stopped:
            self.bench.send(worker, signal.SIGCONT)
        self.settle("paused", "paused last", seconds=3.0 + 3 * takes_s + LATE_S)

    def dies_again(self) -> None:
        """A job that is alone in its process, which is killed at its first two starts."""
        if "dies again" in self.story.missed:
            return
        for turn in ROUNDS:
            self._alive(2)
            takes_s = HELD_UP_S * turn.longer
            [name] = self.bench.push([self.jobs.fail("dies again", f"dies again{turn.suffix}", takes_s)])
            self._kill_twice(name)
            self.settle("dies again", seconds=self.story.lease_s + TAKEOVER_S + 4.0 + 3 * takes_s)
            if died_twice(self.story, name) or len(self.story.told(name)) < 2:
                return
        self.story.missed["dies again"] = "the job had ended before the kit could kill its process a second time"

    def _kill_twice(self, name: str) -> None:
        for n in (1, 2):
            self.until(lambda n=n: len(self.story.told(name)) >= n, n * LATE_S + (n - 1) * self.story.lease_s)  # type: ignore[misc]
            if len(starts := self.story.told(name)) != n:
                return
            for worker in self.bench.running():
                if worker.name == starts[-1].worker:
                    self.bench.send(worker, signal.SIGKILL)
                    self.until(lambda worker=worker: self.bench.ended(worker), LATE_S)  # type: ignore[misc]
            self._alive(3 - n)  # at once: the process that is killed next must not hold the small jobs

    def across(self) -> None:
        """Kill each of two kinds of workers during jobs, beside the other, which takes them over."""
        for kind in self.bench.kinds:
            self._one_of_each()
            names = [f"across {kind} {n}" for n in range(self.threads + 1)]  # more than one of them can run
            self.bench.push([self.jobs.sleep("across", name, ACROSS_S) for name in names])
            self.until(lambda names=names: all(self.story.told(name) for name in names), LATE_S)  # type: ignore[misc]
            for worker in self.bench.running():
                if worker.name.startswith(kind):
                    self.bench.send(worker, signal.SIGKILL)
            self.settle("across", seconds=self.story.lease_s + TAKEOVER_S + self.threads * ACROSS_S)

    def _one_of_each(self) -> None:
        for kind in self.bench.kinds:
            of_it = [one for one in self.bench.running() if one.name.startswith(kind)] or [self._another(kind)]
            for worker in of_it[1:]:
                self._stop(worker, STOP_S)

    def _another(self, kind: str = "") -> WorkerProcess:
        """Start one more process. Raises CutShort."""
        worker = self.bench.start(kind)
        if not self._greeted(worker):
            raise CutShort(f"{worker.name} ran no job, after another process of the command did")
        return worker

    def stopping(self) -> None:
        held_up = {stop.worker for stop in self.story.did("SIGSTOP")}
        for worker in sorted(self._alive(1), key=lambda worker: worker.name in held_up)[1:]:
            self._stop(worker, STOP_S)  # such a one may still be busy
        worker = self._alive(1)[0]
        # Quick ones first: after short jobs, some workers claim more than they can start.
        quick = [self.jobs.echo("before the slow", f"quick {n}") for n in range(QUICK)]
        running = [self.jobs.sleep("stopped", f"running {n}", 2.0) for n in range(self.threads)]
        waiting = [self.jobs.echo("stopped", f"not started {n}") for n in range(self.threads + 1)]
        self.bench.push([*quick, *running, *waiting])
        self.until(lambda: all(self.story.told(one.name) for one in running), 2 * LATE_S)
        on_the_list = self.bench.on_the_list()
        self.story.held = sum(one.raw not in on_the_list and not self.story.told(one.name) for one in waiting)
        if self._stop(worker, 2.0 + STOP_S):
            self.story.handed_back = self.bench.on_the_list()
        self._alive(1)
        in_order = self.story.handed_back is not None
        self.settle("stopped", seconds=LATE_S if in_order else self.story.lease_s + TAKEOVER_S)
        # A job logs its end before its worker settles it.
        self.until(lambda: not [key for key, _ in self.bench.on_the_queue() if key != UNRECORDED], LATE_S)
        self.story.left = self.bench.on_the_queue()

    def told_twice(self) -> None:
        worker = self._alive(1)[0]
        jobs = [self.jobs.sleep("told twice", f"told twice {n}", 60.0, "left") for n in range(self.threads)]
        self.bench.push(jobs)
        self.until(lambda: all(self.story.told(one.name) for one in jobs), LATE_S)
        self.bench.send(worker, signal.SIGTERM)
        if self.until(lambda: self.bench.ended(worker), 1.0):
            self.story.missed["told twice"] = "the first signal had ended the process"
        elif self._stop(worker, LATE_S):
            self.story.handed_back_at_once = self.bench.on_the_list()

    # -- actions of scenes -----------------------------------------------------------------------

    def settle(self, *situations: str, seconds: float = LATE_S) -> None:
        """Wait until all jobs of these situations have ended, or a worker had ``seconds`` for them."""
        self.until(lambda: self._settled(*situations), seconds)

    def _settled(self, *situations: str) -> bool:
        return all(self.story.ended(one) for one in self.story.of(*situations))

    def _first_job(self, worker: WorkerProcess) -> None:
        bench = self.bench
        self.until(lambda: self.story.entries or bench.ended(worker), START_S)
        said = f"\nIt printed:\n{worker.tail()}" if worker.tail() else "\nIt printed nothing."
        if not self.story.entries and (code := worker.code()) is not None:
            raise CannotJudge(f"the worker ended before it ran a job, with exit code {code}.{said}")
        if not any(entry.job in self.story.pushed for entry in self.story.entries):
            raise CannotJudge(
                f"no job of the kit told of its start within {START_S:g} s. The worker has to take jobs from "
                "kashvi:queue:jobs on the server in KASHVI_REDIS_URL, and the job types of spec/worker-kit.md "
                f"have to write to the log that their payload names.{said}"
            )

    def _alive(self, count: int) -> list[WorkerProcess]:
        """``count`` live workers, each of which has run a job. Raises CutShort."""
        for _ in range(TRIES * count):
            if len(running := self.bench.running()) >= count:
                return running
            worker = self.bench.start()
            if not self._greeted(worker):
                how = "it ended by itself" if self.bench.ended(worker) else f"not within {START_S:g} s"
                raise CutShort(f"{worker.name} ran no job ({how}), after another process of the command did")
        raise CutShort(f"processes of the command end by themselves, again and again: {worker.name} was the last")

    def _greeted(self, worker: WorkerProcess) -> bool:
        """Push a small job now and then, until this worker has run one; False if it does not."""
        for _ in range(int(START_S / 0.1)):
            self._greetings += 1
            self.bench.push([self.jobs.echo("greeting", f"greeting {self._greetings}")])
            if self.until(lambda: any(entry.worker == worker.name for entry in self.story.entries), 0.1):
                return True
            if self.bench.ended(worker):
                return False
        return False

    def _stop(self, worker: WorkerProcess, seconds: float) -> bool:
        """Send SIGTERM; True if the worker ended in time. If not, it is killed."""
        self.bench.send(worker, signal.SIGTERM)
        if self.until(lambda: self.bench.ended(worker), seconds):
            return True
        self.bench.send(worker, signal.SIGKILL)
        self.until(lambda: self.bench.ended(worker), LATE_S)
        return False
