"""``sim``, a fixture for tests of an app's jobs: the real worker, with retries and delays, in virtual time.

    def test_a_reminder_is_sent_after_a_week(sim):
        sim.workers(2)
        place_order()                 # dispatches as the app does, through ``kashvi.queue``
        sim.advance(days=7, seconds=1)
        assert ...

``@pytest.mark.kashvi_seeds(50)`` runs a test with 50 seeds, each with another order of simultaneous steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from kashvi.testing import assert_dispatched  # noqa: F401  # a fixture beside sim

if TYPE_CHECKING:
    from kashvi.events import Event
    from kashvi.failures.recent import FailedJob
    from kashvi.ports import Stats

    from .world.process import SimQueue
    from .world.world import World

SEED = pytest.StashKey[int]()
SIM = pytest.StashKey["Sim"]()
LINES = 60
"""The number of last lines of the timeline that a failing test prints."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("kashvi").addoption(
        "--kashvi-seed", type=int, default=None, help="Run tests with the fixture sim with this seed alone."
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "kashvi_seeds(n): run the test with n seeds of the fixture sim.")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "sim" not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker("kashvi_seeds")
    chosen = metafunc.config.getoption("--kashvi-seed")
    if chosen is not None or marker is not None:
        seeds = [chosen] if chosen is not None else range(marker.args[0] if marker else 1)
        metafunc.parametrize("sim", list(seeds), indirect=True, ids=[f"seed {seed}" for seed in seeds])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report: Any = yield
    if report.failed and SEED in item.stash:
        node = item.nodeid.partition("[seed ")[0]
        seed = item.stash[SEED]
        report.sections.append(("kashvi", f"seed {seed}; to repeat it: pytest '{node}' --kashvi-seed {seed}"))
        if SIM in item.stash:
            report.sections.append(("what happened", item.stash[SIM].story()))
    return report  # type: ignore[no-any-return]


class Sim:
    """A world in virtual time, with the app's job types and its calls of ``kashvi.queue``."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.seed = seed
        self._staff: list[SimQueue] = []
        self._began = world.kernel.time

    def start(self, at: datetime) -> None:
        """Set the start time, before any job or worker (default 15 January 2027). Without a zone, ``at`` is local."""
        assert not self.world.events, "sim.start comes before any job or worker"
        self.world.kernel.leap(at.timestamp() - self.world.kernel.time)
        self._began = self.world.kernel.time

    def story(self) -> str:
        """The last lines of the timeline."""
        from .show.timeline import Timeline

        lines = [line for _, line in Timeline(self.world.names).lines(self.world.times, self.world.events)]
        return "\n".join([f"… {len(lines) - LINES} lines before"] * (len(lines) > LINES) + lines[-LINES:])

    def workers(self, threads: int = 1) -> SimQueue:
        """Start a worker process with this number of threads; returns it, for ``kill``."""
        process = self.world.process()
        process.start_workers(threads)
        self._staff.append(process)
        return process

    def kill(self, worker: SimQueue) -> None:
        """Kill a worker as by SIGKILL. Its jobs go to others when its lease has run out (30 s)."""
        self.world.kill(worker)

    def advance(self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0) -> None:
        """Let this time pass. Idle days cost nothing."""
        passing = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds).total_seconds()
        self.world.advance(passing)
        self._check()

    def run_until_idle(self, within: timedelta = timedelta(days=366)) -> None:
        """Let time pass until no job is ready, delayed or running."""
        end = self.world.kernel.time + within.total_seconds()
        while (left := self._left()) and self.world.kernel.time < end:
            due = self.world.server.driver.next_due()
            at = due if isinstance(due, float) else 0.0
            step = max(at - self.world.kernel.time, 0.0) + 1.0 if self.world.idle() else 1.0
            self.world.advance(min(step, end - self.world.kernel.time))
        assert not left, f"not idle within {within}: {self.stats()}{'' if self._staff else '; no worker was started'}"
        self._check()

    @property
    def elapsed(self) -> timedelta:
        """The virtual time since the start."""
        return timedelta(seconds=self.world.kernel.time - self._began)

    @property
    def events(self) -> list[Event]:
        """All events so far (``kashvi.events``)."""
        return self.world.events

    @property
    def failed_jobs(self) -> list[FailedJob]:
        """The jobs that failed for good, oldest first."""
        return [failed for worker in self._staff for failed in worker.failed_jobs()]

    def stats(self) -> Stats:
        return self.world.server.driver.stats()

    def _left(self) -> bool:
        stats = self.stats()
        return bool(stats.ready or stats.delayed or stats.held)

    def _check(self) -> None:
        broken = self.world.broken()
        assert not broken, f"kashvi broke a promise: {broken}"
        assert not self.world.escapes, f"a handler left virtual time:\n{self.world.escapes[0].stack}"


@pytest.fixture
def sim(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sim]:
    """The real worker in virtual time; see ``kashvi_sim.pytest_plugin``."""
    from kashvi.queue import default

    try:
        from .world.clock import uninstall
        from .world.tape import Tape
        from .world.world import World
    except ModuleNotFoundError as missing:
        pytest.fail(f"the fixture sim needs {missing.name}: pip install 'kashvi[sim]'", pytrace=False)

    seed: int = getattr(request, "param", 0)
    request.node.stash[SEED] = seed
    app = default()
    world = World(tape=Tape(seed), registry=app.registry, max_attempts=app.max_attempts, lease_s=app.lease_s)
    process = world.process()
    for name in ("_driver", "_driver_set", "_runtime", "_stream"):  # the app goes on dispatching to its default queue
        monkeypatch.setattr(app, name, getattr(process, name))
    found = request.node.stash[SIM] = Sim(world, seed)
    yield found
    world.close()
    uninstall()
