"""Options that several ``sim:`` commands take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kashvi.errors import InvalidSetting

from .. import DRIVERS

if TYPE_CHECKING:
    from ..runs.figures import Figures
    from ..runs.workload import Workload
    from ..show.lanes import Picture

KASHVI = "kashvi"
"""The beginning of a printed command that repeats a run."""
DIRECT = True
"""Whether runs use the direct shell. It is off while a bug is planted, which may be in the library's own shell."""
HERE = Path(__file__).resolve()
PLACES = (HERE.parents[2] / "workloads", HERE.parents[1] / "workloads")
"""The workloads, in a checkout and installed."""

driver_option = click.option(
    "--driver",
    type=click.Choice(DRIVERS),
    default="memory",
    show_default=True,
    help="The driver of the simulated jobs.",
)
redis_option = click.option(
    "--redis-url", envvar="KASHVI_SIM_REDIS_URL", show_envvar=True, help="A real server, for --driver redis."
)
report_option = click.option(
    "--report", type=click.Path(path_type=Path, dir_okay=False), help="Write a report to this file (HTML)."
)
perfetto_option = click.option(
    "--perfetto",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a Chrome trace to this file (JSON), for ui.perfetto.dev.",
)


def show_picture(picture: Picture, figures: Figures, report: Path | None, perfetto: Path | None, **about: Any) -> None:
    """Write the requested files. ``about``: further arguments of ``write_report``."""
    if report is not None:
        from ..show.report import write_report

        write_report(report, picture, figures, **about)
    if perfetto is not None:
        from ..show.perfetto import write_perfetto

        write_perfetto(perfetto, picture)


def faults_option(default: str) -> Callable[[Any], Any]:
    return click.option(
        "--faults",
        default=default,
        show_default=True,
        metavar="none|all|NAME,…",
        help="Faults to simulate; sim:faults lists them.",
    )


def workload_named(name: str) -> Workload:
    """The workload in a file, or kashvi's own of that name. Raises InvalidSetting."""
    from ..runs.workload import load

    if Path(name).suffix == ".toml" or Path(name).is_file():
        return load(Path(name))
    for place in PLACES:
        if (found := place / f"{name}.toml").exists():
            return load(found)
    ours = sorted({path.stem for place in PLACES for path in place.glob("*.toml")})
    raise InvalidSetting("the workload", name, f"a .toml file, or one of {', '.join(ours)}")
