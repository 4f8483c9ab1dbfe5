"""The points at which faults strike a world: calls, and both ends of an attempt."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, cast

from .faults import Blow, Moment, Scene
from .trace import FaultStruck

if TYPE_CHECKING:
    from .runtime import SimRuntime
    from .world import World


class Struck:
    """The part of a world that faults strike."""

    @property
    def _self(self) -> World:
        return cast("World", self)

    @cached_property
    def calm(self) -> bool:
        """True if nothing can ever strike."""
        world = self._self
        return world._hook is None and (world.faults is None or world.faults.none)

    def strike(self, moment: Moment, call: str, process: SimRuntime, effect: Callable[[], object] | None) -> None:
        """A point at which a fault may strike: it may raise, wait, or never return."""
        if (blow := self.struck_by(moment, call, process, effect)) is not None:
            self._self.kernel.sleep(blow.held_up_s)
            if blow.error is not None:
                raise blow.error

    def struck_by(
        self, moment: Moment, call: str, process: SimRuntime, effect: Callable[[], object] | None
    ) -> Blow | None:
        """What a fault that strikes here does to the call. It may have ended the process."""
        world = self._self
        if world._closed:
            return None
        if world._hook is not None:
            world._hook(f"{moment} {call}", process)
        if world.faults is None:
            return None
        rule = world.faults.draw(world, moment, call, process)
        if rule is None:
            return None
        world.struck[rule.name] += 1
        world.trouble.begins(rule.name, world.kernel.time)
        world._tell(FaultStruck, fault=rule.name, call=f"{moment} {call}", victim=process.name)
        return rule.strike(Scene(world, process, call, effect))

    def curtain(self, process: SimRuntime) -> None:
        """Begin an attempt, in the task of its worker."""
        world = self._self
        world.kernel.check_open()  # a worker that is closed in an attempt takes the next job
        task = world.kernel.current
        assert task is not None
        self.poison(process)
        self.strike("before", "handle", process, None)
        task.on_stage = True
        if world._virtual_handlers:
            world._handler_time.resume(task)

    def poison(self, process: SimRuntime) -> None:
        """End the process if the job of this task does so each time."""
        world = self._self
        if world.poisoned and world._attempting[id(world.kernel.current)].job_id in world.poisoned:
            world.end(process)

    def last_call(self, process: SimRuntime) -> None:
        """End an attempt."""
        world = self._self
        if world._closed:
            return
        assert world.kernel.current is not None
        world.kernel.current.on_stage = False
        self.strike("after", "handle", process, None)
