"""The pages of the site that are made from the code: each clause, each command, each lesson."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
from kashvi_sim.show.timeline import Timeline
from kashvi_spec.clauses import AREAS, Clause, load
from kashvi_spec.kit.example.examples import run
from kashvi_spec.kit.example.situation import example_of
from kashvi_spec.kit.lessons import LESSONS
from kashvi_spec.kit.lessons.page import page_of
from kashvi_spec.kit.museum import MUSEUM, VARIANTS
from pygments.lexers.configs import TOMLLexer

from kashvi.cli import cli

LINES = 60
"""The most lines of a timeline on a page."""


class ExampleLexer(TOMLLexer):
    """The clauses' examples are TOML."""

    name = "example"
    aliases = ["example"]


def write_pages(folder: Path) -> None:
    """Write the pages that changed, so that a second build is short."""
    (folder / "clauses").mkdir(parents=True, exist_ok=True)
    clauses = load()
    pages = {f"clauses/{one.id}.md": _of_clause(one) for one in clauses}
    pages["clauses.md"] = _index(clauses)
    pages["commands.md"] = "".join(_of_commands())
    pages["lessons.md"] = _lessons()
    for name, text in pages.items():
        path = folder / name
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
    for path in folder.rglob("*.md"):
        if str(path.relative_to(folder)) not in pages:
            path.unlink()


def write_lessons(folder: Path) -> None:
    """Write the lessons' own pages, which the site shows as they are."""
    folder.mkdir(parents=True, exist_ok=True)
    for lesson in LESSONS:
        (folder / f"{lesson.slug}.html").write_text(page_of(lesson, beside=True), "utf-8")


def _lessons() -> str:
    """The page that leads to them. Links to pages that Sphinx does not make are HTML."""
    sentences = {clause.id: clause.sentence for clause in load()}
    lines = [
        "# The lessons, to play with\n\nEach page shows a run on a time line. Scrub through it by keys or pointer, "
        "answer the question, then plant the bug and find the moment at which the promise breaks. The text with the "
        "commands is in [lessons.md](../../../spec/lessons.md).\n\n"
    ]
    for number, lesson in enumerate(LESSONS, 1):
        link = f'<a href="../../../lessons/{lesson.slug}.html">{lesson.title}</a>'
        lines.append(f"{number}. {link}: {sentences[lesson.clause]}\n")
    return "".join(lines)


def _index(clauses: list[Clause]) -> str:
    lines = [
        "# The clauses, a page each\n\nEach page has the clause's example with its run, and the bugs that break it.\n"
    ]
    for area in AREAS:
        lines.append(f"\n## [{area}](../../../spec/{area}.md)\n\n")
        lines += [f"- [{one.id}](clauses/{one.id}.md) {one.sentence}\n" for one in clauses if one.area == area]
    return "".join(lines)


def _of_clause(clause: Clause) -> str:
    parts = [
        "---\norphan: true\n---\n",  # in the index alone: a list of all beside each page would be long
        f"# {clause.id}\n",
        f"**{clause.level}:** {clause.sentence}\n",
        re.sub(r"\]\((?!https?:)([^)#]+)", r"](../../../../spec/\1", clause.why) + "\n",
        f"It is a clause of [{clause.area}](../../../../spec/{clause.area}.md)"
        + (f", judged on any trace by the predicate “{clause.predicate}”.\n" if clause.predicate else ".\n"),
    ]
    for promise in clause.promises:
        parts.append(f"> {promise}\n")
    for text in clause.examples:
        parts += [f"```example\n{text}```\n", f"```text\n{_timeline(text)}\n```\n"]
    if clause.examples:
        parts.append(
            "To change it and run it again, copy it to `mine.toml` and type `kashvi spec:try mine.toml --watch`.\n"
        )
    parts += [f"```python\n{code}```\n" for code in clause.code]
    if clause.tests:
        parts.append("Tests that go further: " + ", ".join(f"`{test}`" for test in clause.tests) + ".\n")
    bugs = [one for one in MUSEUM.values() if clause.id in one.clauses]
    if bugs:
        parts.append("## Bugs that break it\n")
        rows = (f"| {_cell(one.name)} | {_cell(one.about)} | {_cell(one.source)} |\n" for one in bugs)
        parts.append("| bug | what it does | whose it is |\n|---|---|---|\n" + "".join(rows))
        if clause.examples:
            command = f'kashvi spec:plant "{bugs[0].name}" spec:show {clause.id}'
            parts.append(f"`{command}` runs the example with the first one.\n")
    legal = [one for one in VARIANTS.values() if clause.id in one.clauses]
    if legal:
        parts.append("## What it allows\n")
        parts += [f"- {one.name}: {one.about}\n" for one in legal]
    return "\n".join(parts)


def _timeline(text: str) -> str:
    world = run(example_of(text)).world
    lines = [line for _, line in Timeline(world.names).lines(world.times, world.events)]
    more = [f"{'…':>12}  {len(lines) - LINES} lines more"] if len(lines) > LINES else []
    return "\n".join([*_narrow(lines[:LINES]), *more])


def _narrow(lines: list[str]) -> list[str]:
    """Without what is more than three blank columns beside each other, since a page is narrower than a terminal."""
    width = max(map(len, lines), default=0)
    blank = [all(line[n : n + 1] in ("", " ") for line in lines) for n in range(width)]
    kept = [n for n in range(width) if not (n >= 3 and all(blank[n - 3 : n + 1]))]
    return ["".join(line[n : n + 1] for n in kept) for line in lines]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _of_commands() -> Iterator[str]:
    yield "# Commands\n\nWhat `--help` says.\n"
    context = click.Context(cli, info_name="kashvi")
    for name in sorted(cli.list_commands(context)):
        command = cli.get_command(context, name)
        assert command is not None
        told = command.get_help(click.Context(command, info_name=f"kashvi {name}", terminal_width=100))
        yield f"\n## {name}\n\n```text\n{click.unstyle(told)}\n```\n"
