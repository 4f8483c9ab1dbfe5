"""An example of one's own, run: in the clauses' format, in a page of them, or as Python with job classes."""

from __future__ import annotations

import difflib
import importlib.util
import re
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from kashvi_sim.simulated import PromiseBroken, Sim, simulated
from kashvi_sim.world.world import World

from kashvi.errors import JobError, SettingError
from kashvi.queue import default
from kashvi.raised import traceback_of

from ...clauses import BLOCK
from ...judging import Violation
from .examples import run
from .situation import Example, ExampleCron, ExampleJob, ExampleWorker, Happening, example_of

KINDS = (Example, ExampleCron, ExampleJob, ExampleWorker, Happening)


class NotAnExample(Exception):
    """The file can't be run as one; the text says why. ``raised``: the traceback, if its Python raised."""

    def __init__(self, why: str, raised: str = "") -> None:
        super().__init__(why)
        self.raised = raised


@dataclass
class Tried:
    """One run of an example."""

    world: World
    mistakes: list[str]
    """The differences from what the example expects."""
    violations: list[Violation]
    judged: dict[str, int]
    """How often each predicate was checked."""
    expects: bool = True
    """False: it has no expectations, so that only the promises were judged."""
    error: str = ""
    """The traceback, if the Python of the example raised."""
    escapes: list[str] = field(default_factory=list)
    """How its handlers left virtual time, each way and place once."""

    @property
    def good(self) -> bool:
        return not (self.mistakes or self.violations or self.error or self.escapes)


def tried(path: Path) -> list[Tried]:
    """The run of each example in a file: Python, a page of clauses (``.md``), or TOML. Raises NotAnExample."""
    if path.suffix == ".py":
        return [_story(path)]
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise NotAnExample(f"it is no text in UTF-8: {error}") from error
    if path.suffix != ".md":
        return [of_text(text)]
    blocks = [block for language, block in BLOCK.findall(text) if language == "example"]
    if not blocks:
        raise NotAnExample("it has no block that begins with ```example")
    return [of_text(block) for block in blocks]


def of_text(text: str) -> Tried:
    """The run of an example in TOML. Raises NotAnExample."""
    try:
        example = example_of(text, expects=False)
    except (ValueError, TypeError) as error:
        raise NotAnExample(_helpful(str(error))) from error
    if not (example.jobs or example.all_cron):
        raise NotAnExample("it has neither jobs nor cron: begin with jobs = [{}]")
    try:
        ran = run(example)
    except (SettingError, JobError) as error:
        raise NotAnExample(str(error)) from error
    return Tried(ran.world, ran.mistakes, ran.violations, ran.judged, bool(example.expects))


def _helpful(why: str) -> str:
    """With msgspec's path of a field as one reads TOML, and the field that was meant."""
    why = re.sub(r"`\$\.?([^`]*)`", lambda found: f"`{found[1] or 'the file'}`", why)
    if unknown := re.search(r"unknown field `([^`]*)`", why):
        fields = {name for kind in KINDS for name in kind.__struct_fields__}
        if near := difflib.get_close_matches(unknown[1], fields - {unknown[1]}, n=1):
            why += f"; did you mean {near[0]!r}?"
    return why


def _story(path: Path) -> Tried:
    """Import the file and call its ``story(sim)``, with ``kashvi.queue`` in virtual time. Raises NotAnExample."""
    app = default()
    try:
        story = getattr(_imported(path), "story", None)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # it may call sys.exit()
        why = f"it can't be imported: {type(error).__name__}: {error}"
        raise NotAnExample(why, traceback_of(error.with_traceback(_of_the_file(error.__traceback__)))) from error
    if not callable(story):
        raise NotAnExample("it has no function story(sim), which dispatches jobs and lets time pass: sim.workers(1) …")
    with simulated(app, seed=0) as sim:
        raised = _told(story, sim)
        world = sim.world
        stats = sim.stats()
        at_the_end = not (raised or stats.ready or stats.delayed or stats.held)
        violations = world.judge()[0] if at_the_end else world.broken()
        judged = Counter({one.name: one.judged for one in world.predicates})
        escapes = [*dict.fromkeys(f"{one.what}\n{one.stack}" for one in world.escapes)]
    return Tried(world, [], violations, dict(judged), expects=True, error=raised, escapes=escapes)


def _told(story: Any, sim: Sim) -> str:
    """The traceback of what the story raised; a broken promise is shown as one."""
    try:
        story(sim)
    except PromiseBroken:
        return ""
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # it may call sys.exit()
        return "" if sim.world.escapes else traceback_of(error)
    return ""


def _of_the_file(frames: TracebackType | None) -> TracebackType | None:
    """Without the frames that import it; with one, which ``traceback_of`` leaves out."""
    last = frames
    while frames and frames.tb_frame.f_code.co_filename.startswith((__file__, "<frozen importlib")):
        last, frames = frames, frames.tb_next
    return frames and last


def _imported(path: Path) -> Any:
    sys.path.insert(0, str(path.resolve().parent))
    name = path.stem if path.stem.isidentifier() and path.stem not in sys.modules else "story"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
