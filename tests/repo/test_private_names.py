"""The simulator and the specification use no private name of another module; only the museum plants bugs there."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
OF_TUPLES = {"_replace", "_asdict", "_fields"}
KNOWN = {"sim/kashvi_sim/simulated.py _hooks", "sim/kashvi_sim/simulated.py _cron"}
"""The fixture gives a process the hooks and cron entries of the app's queue, which no public name tells."""


def test_the_simulator_and_the_judges_use_no_private_name_of_kashvi() -> None:
    """What they read of the library, a change of its inside must not break. Only the museum plants bugs there."""
    ours = [path for part in ("sim", "spec") for path in (ROOT / part).rglob("*.py") if "museum" not in path.parts]
    of_kashvi = set[str]().union(*(_defined(path) for path in (ROOT / "kashvi").rglob("*.py")))
    of_kashvi -= set[str]().union(*(_defined(path) for path in ours))
    used = {f"{path.relative_to(ROOT)} {name}" for path in ours for name in _used(path) & of_kashvi - OF_TUPLES}
    assert used == KNOWN


def _defined(path: Path) -> set[str]:
    """The private functions, classes and fields of a module."""
    found = set[str]()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
            found.add(node.attr)
    return {name for name in found if name.startswith("_") and not name.endswith("__")}


def _used(path: Path) -> set[str]:
    """The names that a module reads of objects, or imports."""
    tree = ast.parse(path.read_text())
    read = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return read | {one.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for one in node.names}
