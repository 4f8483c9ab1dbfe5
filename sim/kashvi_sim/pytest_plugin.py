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
from typing import TYPE_CHECKING, Any

import pytest

from kashvi.testing import assert_dispatched  # noqa: F401  # a fixture beside sim

if TYPE_CHECKING:
    from .simulated import Sim

SEED = pytest.StashKey[int]()
SIM = pytest.StashKey["Sim"]()


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


@pytest.fixture
def sim(request: pytest.FixtureRequest) -> Iterator[Sim]:
    """The real worker in virtual time; see ``kashvi_sim.pytest_plugin``."""
    from kashvi.queue import default

    try:
        from .simulated import simulated
    except ModuleNotFoundError as missing:
        pytest.fail(f"the fixture sim needs {missing.name}: pip install 'kashvi[sim]'", pytrace=False)

    seed: int = getattr(request, "param", 0)
    request.node.stash[SEED] = seed
    with simulated(default(), seed) as found:
        request.node.stash[SIM] = found
        yield found
