"""What holds for the code itself."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

import kashvi.events
import kashvi.jobs.codec
import kashvi.ports
import kashvi.retries
from kashvi import queue
from kashvi.events import Event, JobEvent
from kashvi.ports import PREFIX

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "kashvi").rglob("*.py"))
BANNED = {"time", "threading", "random", "uuid", "uuid_utils", "atexit", "asyncio", "pickle", "concurrent"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_time_threads_ids_and_chance_come_from_the_runtime_alone(path: Path) -> None:
    """Or the simulator could not hold them."""
    if path.name in ("runtime.py", "loops.py"):
        return
    tree = ast.parse(path.read_text())
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom) and not node.level
            else []
        )
    }
    assert imported & BANNED == set()
    calls = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert calls & {"utcnow", "today"} == set()
    assert not re.search(r"datetime\.now\(|\beval\(|\bexec\(", path.read_text())


def test_modules_are_small_and_say_what_they_are() -> None:
    """A docstring at the head; under 500 lines, and most far under."""
    for path in (*MODULES, *(ROOT / "sim" / "kashvi_sim").rglob("*.py"), *(ROOT / "spec").rglob("*.py")):
        text = path.read_text()
        assert not text or ast.get_docstring(ast.parse(text)), path
        assert len(text.splitlines()) <= 500, path


def test_public_names_are_sorted_and_exist() -> None:
    """``__all__`` is the promise."""
    for module in (kashvi, queue):
        assert list(module.__all__) == sorted(module.__all__)
        assert all(getattr(module, name) for name in module.__all__)


def test_the_documented_names_are_there() -> None:
    """Name for name the package that was promised (spec/promises.md), in Python spelling."""
    documented = [
        "job",
        "register",
        "dispatch",
        "dispatch_after",
        "dispatch_many",
        "set_driver",
        "set_max_retry",
        "use_db",
        "failed_jobs",
        "start_workers",
        "work",
        "MemoryDriver",
        "RedisDriver",
        "FailedJobRecord",
    ]
    assert set(documented) <= set(queue.__all__)


def test_what_a_caller_gives_to_a_queue_is_public() -> None:
    """Every class of ours that a parameter asks for is in ``kashvi.queue``, or belongs to a documented seam."""
    tree = ast.parse((ROOT / "kashvi" / "queues.py").read_text())
    [body] = [node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Queue"]
    asked = {
        name.id
        for method in body
        if isinstance(method, ast.FunctionDef) and (not method.name.startswith("_") or method.name == "__init__")
        for argument in (*method.args.args, *method.args.kwonlyargs)
        for name in ast.walk(argument.annotation or ast.Pass())
        if isinstance(name, ast.Name) and name.id[0].isupper()
    }
    typing = {"Any", "Callable", "H", "Iterable", "J", "T"}
    seams = {*vars(kashvi.ports), *vars(kashvi.events), *vars(kashvi.jobs.codec), *vars(kashvi.retries)}
    assert asked - typing - seams <= set(queue.__all__)


def test_every_kind_of_event_is_in_the_closed_union() -> None:
    """So mypy names the places that lack a new one."""
    kinds = {kind for kind in vars(kashvi.events).values() if isinstance(kind, type) and issubclass(kind, Event)}
    assert set(get_args(kashvi.events.AnyEvent)) == kinds - {Event, JobEvent}


def test_the_numbers_of_the_contract_are_in_the_ports_alone() -> None:
    """No driver has one of its own; a script, which cannot import, has the same."""
    contract = {name: value for name, value in vars(kashvi.ports).items() if name.isupper() and value != PREFIX}
    for path in (ROOT / "kashvi" / "drivers").glob("*.py"):
        tree = ast.parse(path.read_text())
        named = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        assert named & contract.keys() == set(), path.name
    for path in (ROOT / "kashvi" / "drivers").glob("*.lua"):
        for names, values in re.findall(r"^local ([A-Z_, ]+) = ([\d., ]+)$", path.read_text(), re.MULTILINE):
            for name, value in zip(names.split(", "), values.split(", "), strict=True):
                assert float(value) == contract[name], f"{name} in {path.name}"


def test_importing_kashvi_loads_nothing_heavy() -> None:
    """The worker, policies, redis, sqlalchemy, cron and the command line's libraries come when they are needed."""
    cron = ("kashvi.cron.entry", "kashvi.worker.ticker", "cronsim", "zoneinfo")
    machine = ("kashvi.worker.machine", "kashvi.retries")
    heavy = (*machine, "asyncio", "socket", "redis", "sqlalchemy", "click", "rich", *cron)
    for loaded, none_of in (("kashvi.queue", heavy), ("kashvi.worker.pool", cron)):
        code = f"import sys, {loaded}; print([m for m in {none_of} if m in sys.modules])"
        shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert shown.stdout == "[]\n", loaded


@pytest.mark.parametrize("document", ["README.md", "sim/README.md"])
def test_the_python_blocks_of_the_documents_run(document: str, tmp_path: Path) -> None:
    """As they stand, each in a process of its own; the first is the module the others import."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)
    assert blocks
    for name, block in zip(("jobs.py", *(f"block{n}.py" for n in range(1, len(blocks)))), blocks, strict=True):
        (tmp_path / name).write_text(block)
        shown = subprocess.run(
            [sys.executable, "-W", "error", name], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert shown.returncode == 0, shown.stderr


def test_the_simulators_readme_names_files_that_are_there() -> None:
    """All of the search's are named: it changed as a whole, and its table was forgotten once."""
    rooms = re.split(r"^\| file in `(\w+)/` \| content \|\n", (ROOT / "sim/README.md").read_text(), flags=re.MULTILINE)
    named = {
        room: set(re.findall(r"`(\w+(?:\.(?:py|js|css)|/))`", table.partition("\n\n")[0]))
        for room, table in zip(rooms[1::2], rooms[2::2], strict=True)
    }
    place = ROOT / "sim/kashvi_sim"
    assert {room for room, files in named.items() if files} == {"world", "runs", "search", "show"}
    assert [f"{room}/{name}" for room in named for name in named[room] if not (place / room / name).exists()] == []
    assert {one.name for one in (place / "search").glob("*.py")} - {"__init__.py"} <= named["search"]
