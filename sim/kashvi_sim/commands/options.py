"""Options that several ``sim:`` commands take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kashvi.errors import InvalidSetting

from .. import DRIVERS

if TYPE_CHECKING:
    from ..figures import Figures
    from ..lanes import Picture
    from ..workload import Workload

KASHVI = "kashvi"
"""What a command begins with that is printed to be repeated."""
HERE = Path(__file__).resolve()
PLACES = (HERE.parents[2] / "workloads", HERE.parents[1] / "workloads")
"""In a checkout, and installed."""

driver_option = click.option(
    "--driver", type=click.Choice(DRIVERS), default="memory", show_default=True, help="Where the simulated jobs wait."
)
redis_option = click.option(
    "--redis-url", envvar="KASHVI_SIM_REDIS_URL", show_envvar=True, help="A real server, for --driver redis."
)
report_option = click.option(
    "--report", type=click.Path(path_type=Path, dir_okay=False), help="Write a page to look at here (HTML)."
)
perfetto_option = click.option(
    "--perfetto",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a Chrome trace here (JSON), for ui.perfetto.dev.",
)


def show_picture(picture: Picture, figures: Figures, report: Path | None, perfetto: Path | None, **about: Any) -> None:
    """Write what was asked for. ``about``: as ``write_report`` takes it."""
    if report is not None:
        from ..report import write_report

        write_report(report, picture, figures, **about)
    if perfetto is not None:
        from ..perfetto import write_perfetto

        write_perfetto(perfetto, picture)


def faults_option(default: str) -> Callable[[Any], Any]:
    return click.option(
        "--faults",
        default=default,
        show_default=True,
        metavar="none|all|NAME,…",
        help="What may go wrong; sim:faults lists it.",
    )


def workload_named(name: str) -> Workload:
    """A file, or one of ours by its name. Raises InvalidSetting."""
    from ..scope import scope_named
    from ..workload import load

    if (scope := scope_named(name)) is not None:
        return scope.workload()
    if Path(name).suffix == ".toml" or Path(name).exists():
        return load(Path(name))
    for place in PLACES:
        if (found := place / f"{name}.toml").exists():
            return load(found)
    ours = sorted({path.stem for place in PLACES for path in place.glob("*.toml")})
    raise InvalidSetting("the workload", name, f"a .toml file, or one of {', '.join(ours)}")
