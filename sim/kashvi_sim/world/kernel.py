"""Virtual time: tasks over a heap of (time, choice, sequence).

A task is a greenlet, in which ordinary synchronous code runs unmodified; or a generator, which yields where it waits.
One task runs at a time; tasks switch only where one waits or calls ``pause``. Every choice is one integer: the same
choices give the same run, byte for byte, whichever kind the tasks are.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator
from contextlib import suppress
from types import TracebackType
from typing import Protocol, TypeVar

from greenlet import GreenletExit, getcurrent, greenlet

T = TypeVar("T")
Turns = Generator[None, None, T]
"""Code that yields wherever it waits; it goes on when its task does."""
Choose = Callable[[int], int]
EPOCH = 1_800_000_000.0
"""When virtual time begins: 15 January 2027."""
RIVALS = 3
"""The number of places that a task can fall behind others that become runnable at the same time."""

Entry = tuple[float, int, int, "Task", int]
"""Time, choice, sequence; the task to wake, if this is still its timer."""


class Deadlock(Exception):
    """Tasks wait for each other, and no timer is left to wake one; or a lock was held across a wait."""


class Process(Protocol):
    """A simulated process: its tasks pause and die with it."""

    paused_until: float

    def now(self) -> float: ...


class Task:
    """A spawned function. It dies with ``process``."""

    def __init__(self, kernel: Kernel, run: Callable[[], None], name: str, process: Process | None) -> None:
        self.name = name
        self.process = process
        self.ended = False
        self.killed = False
        self.error: BaseException | None = None
        self.waiting_in: list[Task] | None = None
        self.on_stage = False
        """True while a handler runs, whose clock is virtual."""
        self.timer = 0
        self.woken = 0
        self.interrupted = False
        """True if its wait must raise KeyboardInterrupt."""
        self._kernel = kernel
        self._joiners: list[Task] = []
        self.fiber = self._made_of(run)

    def _made_of(self, run: Callable[[], None]) -> greenlet | None:
        self._work = run
        return greenlet(self._run, parent=self._kernel.hub)

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self._failed(error)
        self._end()

    def go_on(self) -> None:
        """Run until it waits again, or ends."""
        assert self.fiber is not None
        self.fiber.parent = self._kernel.hub
        self.fiber.switch()

    def close(self) -> None:
        """End it where it waits."""
        assert self.fiber is not None
        self.fiber.parent = getcurrent()
        if self.fiber:
            self.fiber.throw(GreenletExit)

    def _failed(self, error: BaseException) -> None:
        if not self._kernel.is_closed:  # or it would keep its frames, and with them the whole world
            self.error = error
            self._kernel.failures.append((self, error))

    def _end(self) -> None:
        self.ended = True
        self._kernel.forget(self)
        for joiner in self._joiners[:]:
            self._kernel.wake(joiner)

    def is_alive(self) -> bool:
        return not self.ended and not self.killed

    def join(self, timeout: float | None = None) -> None:
        if self is self._kernel.current:
            raise RuntimeError("cannot join current task")
        if self.is_alive():
            self._kernel.block(self._joiners, timeout)


class DirectTask(Task):
    """A task without a greenlet. What it calls can't wait: it yields itself, where ``Kernel.waits`` says so."""

    def _made_of(self, run: Callable[[], Turns[None]]) -> None:  # type: ignore[override]
        self._turns = run()

    def go_on(self) -> None:
        try:
            next(self._turns)
        except StopIteration:
            self._end()
        except BaseException as error:
            self._failed(error)
            self._end()

    def close(self) -> None:
        with suppress(BaseException):
            self._turns.close()


class Kernel:
    """The clock and the tasks. ``choose(n)`` picks from n possibilities; 0 is the default."""

    def __init__(self, start: float = EPOCH, choose: Choose = lambda n: 0) -> None:
        self.time = start
        self.steps = 0
        self.on_resume: Callable[[Task], None] = lambda task: None
        self.next: Callable[[list[Entry]], Entry] = heapq.heappop
        """Pops the next entry of the heap. A search sets its own function."""
        self.hub = getcurrent()
        self.failures: list[tuple[Task, BaseException]] = []
        self.current: Task | None = None
        self._choose = choose
        self._until: Callable[[], bool] = lambda: False
        self.heap: list[Entry] = []
        """The heap of wake-ups; some tasks in it were woken before, or are dead."""
        self._seq = 0
        self._graveyard: list[Task] = []
        self._unended: dict[Task, None] = {}
        self.is_closed = False

    def spawn(self, run: Callable[[], None], name: str = "task", process: Process | None = None) -> Task:
        return self._begin(Task(self, run, name, process))

    def spawn_direct(self, run: Callable[[], Turns[None]], name: str, process: Process | None = None) -> Task:
        return self._begin(DirectTask(self, run, name, process))  # type: ignore[arg-type]

    def _begin(self, task: Task) -> Task:
        self._unended[task] = None
        self.wake(task)
        return task

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Run tasks, from one wake-up to the next, until none is left or ``until()``. Raises the first error."""
        self.hub = getcurrent()
        self._until = until
        while self.heap and not until():
            time, _, _, task, timer = self.next(self.heap)
            if task.timer != timer or task.ended or task.killed:
                continue
            if task.process is not None and task.process.paused_until > time:
                self._push(task.process.paused_until, task)
                continue
            self.time = max(self.time, time)
            self.steps += 1
            self.current = task
            task.timer += 1
            if task.waiting_in is not None:
                task.waiting_in.remove(task)
                task.waiting_in = None
            if task.on_stage:
                self.on_resume(task)
            task.go_on()
            self.current = None
            if self.failures:
                failed, error = self.failures.pop(0)
                error.add_note(f"in the simulated task {failed.name}, at {self.time - EPOCH:.6f} s")
                raise error

    def kill(self, process: Process, tasks: list[Task]) -> None:
        """End a process as a power cut does: its tasks never run again, not even their ``finally``.

        A direct task that ends its own process must yield at once.
        """
        for task in tasks:
            if task.is_alive():
                task.killed = True
                if task.waiting_in is not None:
                    task.waiting_in.remove(task)
                    task.waiting_in = None
                self._graveyard.append(task)  # a collected greenlet would run its finally blocks
        if self.current is not None and self.current.process is process and self.current.fiber is not None:
            self.hub.switch()

    @property
    def pushes(self) -> int:
        """How many times a task became runnable so far."""
        return self._seq

    def tasks(self) -> list[Task]:
        """The live tasks."""
        return [task for task in self._unended if task.is_alive()]

    def dues(self) -> dict[Task, float]:
        """The time at which each waiting task goes on, unless it is woken before."""
        return {task: time for time, _, _, task, timer in self.heap if task.timer == timer}

    def leap(self, seconds: float) -> None:
        """Advance the clock while all tasks are idle; their waits last as long as before."""
        self.time += seconds
        self.heap = [(time + seconds, choice, seq, task, timer) for time, choice, seq, task, timer in self.heap]

    def close(self) -> None:
        """End all tasks: a suspended task would keep all its objects alive."""
        self.is_closed = True
        for task in list(self._unended):
            self.current = task
            task.close()
        self.current = None
        self._unended.clear()
        self._graveyard.clear()
        self.heap.clear()
        self.failures.clear()

    def check_open(self) -> None:
        """Raises GreenletExit, which ends a task, after ``close``."""
        if self.is_closed:
            raise GreenletExit

    def forget(self, task: Task) -> None:
        """Remove a task that has ended."""
        self._unended.pop(task, None)

    # -- for code inside a task ---------------------------------------------------------------

    def sleep(self, seconds: float) -> None:
        self.block(None, max(seconds, 0.0))

    def pause(self) -> None:
        """Let another runnable task go first."""
        if self.current is not None:
            self.block(None, 0.0)

    def block(self, queue: list[Task] | None, timeout: float | None) -> bool:
        """Wait in ``queue`` until woken, or for ``timeout``; True if woken."""
        task = self.current
        self.check_open()
        if task is None or task.fiber is None:
            raise Deadlock("only a simulated task can wait, and a direct one where it yields; see Kernel.spawn")
        if not self._waits(task, queue, timeout):
            return False
        woken_before = task.woken
        self.hub.switch()
        if task.interrupted:
            task.interrupted = False
            raise KeyboardInterrupt
        return task.woken > woken_before

    def waits(self, queue: list[Task] | None, timeout: float | None) -> bool:
        """``block`` for a direct task: it must yield now, if this is true."""
        task = self.current
        if self.is_closed:
            raise GreenletExit
        assert task is not None
        assert task.fiber is None, "a greenlet waits in block()"
        return self._waits(task, queue, timeout)

    def _waits(self, task: Task, queue: list[Task] | None, timeout: float | None) -> bool:
        """Have a task woken later. False if it comes before all others: then it continues at once, without a switch."""
        if timeout is not None:
            at = int((self.time + timeout) * 1e6 + 0.5) / 1e6  # a sum of floats is not exact; whole microseconds are
            if (not self.heap or self.heap[0][0] > at) and self._is_next(task, at):
                self._seq += 1
                self._choose(RIVALS)
                self.time = max(self.time, at)
                self.steps += 1
                task.timer += 1
                return False
            self._push(at, task)
        elif queue is None:
            raise Deadlock("a wait that nothing can end")
        if queue is not None:
            queue.append(task)
            task.waiting_in = queue
        return True

    def _is_next(self, task: Task, time: float) -> bool:
        """True if no other task comes before, and nothing else keeps this one from going on."""
        if task.on_stage or self.next is not heapq.heappop:
            return False
        if task.process is not None and task.process.paused_until > time:
            return False
        if self.current is not task or (task.fiber is not None and getcurrent() is not task.fiber):
            return False
        return not self._until()

    def wake(self, task: Task) -> None:
        """Make a waiting (or new) task runnable now."""
        if self.is_closed:
            return
        if task.waiting_in is not None:
            task.waiting_in.remove(task)
            task.waiting_in = None
        task.woken += 1
        task.timer += 1
        self._push(self.time, task)

    def _push(self, time: float, task: Task) -> None:
        self._seq = seq = self._seq + 1
        heapq.heappush(self.heap, (time, self._choose(RIVALS), seq, task, task.timer))


class Condition:
    """A condition whose lock is free by construction: tasks switch only where they wait, and no wait holds it."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.waiting: list[Task] = []
        """The tasks that wait."""
        self._owner: Task | None = None
        self._depth = 0

    def __enter__(self) -> bool:
        me = self._kernel.current
        if self._depth and self._owner is not me and not (self._owner and self._owner.killed):
            raise Deadlock(f"{self._owner and self._owner.name} waited while it held a lock")
        self._owner = me
        self._depth += 1
        return True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1

    def acquire(self) -> bool:
        return self.__enter__()

    def release(self) -> None:
        self._depth -= 1

    def wait(self, timeout: float | None = None) -> bool:
        depth, self._depth = self._depth, 0
        try:
            return self._kernel.block(self.waiting, timeout)
        finally:
            self._depth, self._owner = depth, self._kernel.current

    def notify(self, n: int = 1) -> None:
        for task in self.waiting[:n]:
            self._kernel.wake(task)

    def notify_all(self) -> None:
        if self.waiting:
            self.notify(len(self.waiting))
