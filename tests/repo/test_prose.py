"""What the prose says of the project is true: modules, commands, sessions, files and numbers that it names."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import get_args

import click
import pytest
from kashvi_sim.world.faults import RULES
from kashvi_spec.clauses import load
from kashvi_spec.kit.driver.conformance import about_drivers
from kashvi_spec.kit.museum import MUSEUM, VARIANTS
from kashvi_spec.kit.worker.verdicts import JUDGES

from kashvi.cli import Commands
from kashvi.ports import Driver, Move, Place, Stats

ROOT = Path(__file__).parents[2]
PACKAGES = {"kashvi": ROOT, "kashvi_sim": ROOT / "sim", "kashvi_spec": ROOT / "spec"}
FOLDERS = ("kashvi", "sim", "spec", "tests", "examples", "benchmarks")
PAGES = sorted(
    path
    for path in (*ROOT.glob("*.md"), *(p for folder in (*FOLDERS, "docs") for p in (ROOT / folder).rglob("*.md")))
    if "made" not in path.parts  # of other pages' sentences
)
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
WORDS = ("four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen")
NUMBERS = {word: n for n, word in enumerate(WORDS, 4)}


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


# -- modules ---------------------------------------------------------------------------------------


@cache
def modules() -> dict[str, Path]:
    """All of the three packages, by dotted name."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in (folder / package).rglob("*.py"):
            dotted = ".".join(path.relative_to(folder).with_suffix("").parts)
            found[dotted.removesuffix(".__init__")] = path
    return found


def imported_by(name: str, path: Path) -> Iterator[str]:
    """Dotted names that a module imports or, as a place such as ``package.module:name``, names in a text."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            yield source
            yield from (f"{source}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value.partition(":")[0]


def test_every_module_is_imported_by_another() -> None:
    """By a clause's Python too; or named where something is run: in a table of commands, by nox, as an entry point."""
    there = modules() | {shown(path): path for path in SOURCES if not path.is_relative_to(ROOT / "kashvi")}
    named = {name for one, path in there.items() for name in imported_by(one, path) if name != one}
    for file in ("pyproject.toml", "sim/pyproject.toml", "spec/pyproject.toml", "noxfile.py"):
        named |= set(re.findall(r'"(kashvi[\w.]*)[:"]', (ROOT / file).read_text()))
    named |= {
        place for path in PAGES for place in re.findall(r"^from (kashvi[\w.]+) import", path.read_text(), re.MULTILINE)
    }
    named |= {  # Django's setting BACKEND
        place for path in PAGES for place in re.findall(r'"(kashvi\.contrib\.\w+)\.\w+"', path.read_text())
    }
    unused = {name for name, path in modules().items() if path.name not in ("__init__.py", "__main__.py")} - named
    assert unused == set()


# -- commands and sessions -------------------------------------------------------------------------


@cache
def options(command: str) -> frozenset[str]:
    """All that it takes."""
    module, _, name = Commands()._table()[command][0].partition(":")
    found: click.Command = getattr(import_module(module), name)
    return frozenset(word for one in found.params for word in (*one.opts, *one.secondary_opts)) | {"--help"}


def test_every_command_that_is_named_exists() -> None:
    """In prose, docstrings and in messages."""
    for path in (one for one in (*PAGES, *SOURCES) if not one.is_relative_to(ROOT / "tests")):
        named = set(re.findall(r"(?<![\w/:])(?:queue|sim|spec):[a-z][a-z-]*\b(?!:)", path.read_text()))
        assert named <= Commands()._table().keys(), shown(path)


def test_every_session_that_is_named_exists() -> None:
    """As ``nox -s NAME``."""
    body = ast.parse((ROOT / "noxfile.py").read_text()).body
    sessions = {node.name for node in body if isinstance(node, ast.FunctionDef) and node.decorator_list}
    for path in (*PAGES, *SOURCES):
        if path != Path(__file__):
            assert set(re.findall(r"nox -s ([a-z]\w*)", path.read_text())) <= sessions, shown(path)


@pytest.mark.parametrize("path", PAGES, ids=shown)
def test_commands_take_the_options_that_a_page_gives_them(path: Path) -> None:
    """Where the command stands as it is typed."""
    for command, rest in re.findall(r"kashvi ((?:queue|sim|spec):[a-z]+)([^\n`|&]*)", path.read_text()):
        given = re.sub(r'"[^"]*"', "", rest.partition(" #")[0].partition(" -- ")[0])
        if not re.search(r"\b(sim|spec|queue):", given):  # it runs another, as spec:plant does
            assert set(re.findall(r"(?<=\s)--[a-z][a-z-]*", given)) <= options(command), command


# -- the way in ------------------------------------------------------------------------------------


def test_the_first_screen_of_the_readme_leads_to_the_architecture() -> None:
    """Which is one page, and fits a terminal's columns where it draws."""
    first_screen = (ROOT / "README.md").read_text().splitlines()[:24]
    assert "(ARCHITECTURE.md)" in "\n".join(first_screen)
    page = (ROOT / "ARCHITECTURE.md").read_text()
    assert len(page.splitlines()) <= 100
    drawings = re.findall(r"^```\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert max(len(line) for drawing in drawings for line in drawing.splitlines()) <= 120


def test_the_life_of_a_job_is_drawn_with_every_move_and_place() -> None:
    """But for ``leave``, which is about a worker."""
    drawing = re.findall(r"^```\n(.*?)^```$", (ROOT / "ARCHITECTURE.md").read_text(), re.MULTILINE | re.DOTALL)[0]
    drawn = set(re.findall(r"[a-z_]+", drawing))
    assert {*get_args(Move), *get_args(Place)} - drawn == {"leave"}
    assert {field.name for field in fields(Stats)} - drawn == {"ready", "workers"}  # ready: ``jobs``


def test_the_list_of_what_a_reader_wants_to_do_leads_to_every_page() -> None:
    """``docs/README.md``; the site's list of pages is checked where the site is built."""
    there = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert there - set(re.findall(r"\]\((\w+\.md)", (ROOT / "docs" / "README.md").read_text())) == set()


# -- files and numbers -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES, ids=shown)
def test_every_file_that_a_page_names_exists(path: Path) -> None:
    """A link, from there; a path in backticks, from there, from the root or from a package's folder."""
    text = path.read_text()
    links = re.findall(r"\]\((?!https?://|#)([^)#\s]+)[^)]*\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    assert [link for link in links if not (path.parent / link).exists()] == []
    quoted = set(re.findall(r"`([\w-][\w./-]*/[\w.-]*\.(?:py|lua|md|toml|json))`", text))
    places = (path.parent, ROOT, *(ROOT / folder for folder in FOLDERS), ROOT / "spec/kashvi_spec/kit")
    assert [name for name in quoted if not any((place / name).exists() for place in places)] == []


def test_every_page_that_a_docstring_names_exists() -> None:
    """By its name, somewhere."""
    there = {page.name for page in PAGES}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                named = re.findall(r"[\w/-]+\.md\b", ast.get_docstring(node) or "")
                assert {Path(name).name for name in named} <= there, shown(path)


COUNTS: dict[str, set[int]] = {
    "clauses": {len(load()), len(about_drivers()), sum(bool(one.predicate) for one in load()), len(JUDGES)},
    "known-bad implementations": {len(MUSEUM)},
    "exhibits": {len(MUSEUM)},
    "legal variants": {len(VARIANTS)},
    "kinds of fault": {len(RULES)},
    "workloads": {len(list((ROOT / "sim" / "workloads").glob("*.toml")))},
    "lessons": {len(re.findall(r"^## \d\. ", (ROOT / "spec" / "lessons.md").read_text(), re.MULTILINE))},
    "methods": {sum(not name.startswith("_") for name, each in vars(Driver).items() if callable(each))},
}


@pytest.mark.parametrize("path", PAGES, ids=shown)
def test_what_a_page_counts_is_counted_so(path: Path) -> None:
    """From four on, since "two clauses" may be any two."""
    text = " ".join(path.read_text().split())
    number = rf"\b(\d[\d,]*|{'|'.join(WORDS)})"
    for what, right in COUNTS.items():
        for said in re.findall(rf"{number} {what}\b", text, re.IGNORECASE):
            n = NUMBERS.get(said.lower()) or int(said.replace(",", ""))
            assert n < 4 or n in right, f"{said} {what}"


# -- sentences that hide who does what -------------------------------------------------------------

RIDDLES = re.compile(
    r"\b(?:[Ww]hoever|[Nn]obody|[Ss]omebody|[Aa]nybody|[Ee]verybody|[Tt]ells? of|told of|[Ss]o many)\b"
)


def prose_of(path: Path) -> Iterator[tuple[int, str]]:
    """Lines of a page outside its code; docstrings and comments of a module: each with the number of its line."""
    text = path.read_text()
    if path.suffix == ".md":
        text = re.sub(r"^```.*?^```", lambda code: "\n" * code[0].count("\n"), text, flags=re.MULTILINE | re.DOTALL)
        yield from enumerate(text.splitlines(), 1)
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def test_sentences_have_a_subject() -> None:
    """The worker, the job, the driver; and an event is emitted. CONTRIBUTING.md quotes what it rules out."""
    found = [
        f"{shown(path)}:{line}: {word[0]!r} in {' '.join(text.split())[:200]!r}"
        for path in (*PAGES, *SOURCES)
        if path not in (ROOT / "CONTRIBUTING.md", Path(__file__))
        for line, text in prose_of(path)
        for word in RIDDLES.finditer(text)
    ]
    assert not found, "\n".join(["word these as Plain English in CONTRIBUTING.md has it:", *found])
