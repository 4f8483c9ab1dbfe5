"""A lesson as one page: no network, and all its runs inside, as values."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from importlib.resources import files

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from kashvi_sim.show.tokens import TOKENS
from kashvi_sim.show.values import HOWS, Values
from markdown_it import MarkdownIt
from markupsafe import Markup

from ...clauses import load
from ..museum import MUSEUM
from . import LESSONS, Lesson, text_of_lesson
from .stories import stories_of

SECTION = re.compile(
    r"(?P<lead>.*?)\n```console\n.*?\n```\n+\*\*Question\.\*\* (?P<question>.*?)\n+<details><summary>Answer</summary>\n"
    r"(?P<answer>.*?)\n</details>\n+\*\*Find the bug\.\*\* (?P<find>.*?)\n+<details><summary>Answer</summary>\n"
    r"(?P<found>.*?)\n</details>$",
    re.DOTALL,
)
LOCAL = re.compile(r"\[([^\]]+)\]\((?!https?:)[^)]*\)")
"""A link to another page, which a single file does not have beside it."""


def page_of(lesson: Lesson, *, beside: bool = False) -> str:
    """The HTML of a lesson's page. ``beside``: the other lessons' pages lie beside it, as on the site."""
    markdown = MarkdownIt()
    env = Environment(loader=PackageLoader("kashvi_spec.kit.lessons", ""), autoescape=True, undefined=StrictUndefined)
    env.filters["markdown"] = lambda text: Markup(markdown.render(LOCAL.sub(r"\1", text)))
    env.filters["inline"] = lambda text: Markup(markdown.renderInline(LOCAL.sub(r"\1", text)))
    section = SECTION.match(text_of_lesson(lesson))
    if section is None:
        raise ValueError(f"lesson {lesson.title!r} has not the parts of a lesson")
    stories = list(stories_of(lesson))
    shows = next(n for n, story in enumerate(stories) if story.bug["breaks"])
    clauses = {clause.id: clause for clause in load()}
    shared, own = files("kashvi_sim.show"), files(__package__)
    script = shared.joinpath("lanes.js").read_text("utf-8") + own.joinpath("lesson.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    values = {"hows": HOWS, "shows": shows, "stories": [story.plain() for story in stories]}
    return env.get_template("page.html").render(
        lesson=lesson,
        lessons=LESSONS,
        number=LESSONS.index(lesson) + 1,
        parts=section.groupdict(),
        clause=clauses[lesson.clause],
        also=[clauses[one] for one in lesson.also],
        bug=MUSEUM[lesson.bug],
        peers=[MUSEUM[one] for one in lesson.peers],
        stories=stories,
        shows=shows,
        text=lambda run: "\n".join(_lines(run)),
        beside=beside,
        tokens=TOKENS,
        lanes=Markup(shared.joinpath("lanes.css").read_text("utf-8")),
        hash=f"sha256-{digest}",
        script=Markup(script),
        values=Markup(msgspec.json.encode(values).decode().replace("<", "\\u003c")),
    )


def _lines(run: Values) -> Iterator[str]:
    """A run as text, for a reader without JavaScript."""
    for at, process, job, text, *_ in run["steps"]:
        name = f"#{job} {run['jobs'].get(str(job), '')}" if job else ""
        yield f"{at:10.3f}  {process:<4} {name:<12} {run['texts'][text]}"
    for at, clause, _, why in run["breaks"]:
        yield f"{at:10.3f}  BROKEN  {clause}: {why}"
