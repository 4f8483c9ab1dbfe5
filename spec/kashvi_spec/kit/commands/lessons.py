"""``kashvi spec:lesson``: read a lesson, or write the page on which its runs can be scrubbed."""

from __future__ import annotations

from pathlib import Path

import click

from kashvi.cli.options import examples

from ..lessons import LESSONS, lesson_named, text_of_lesson


@examples(
    """
kashvi spec:lesson
kashvi spec:lesson 6
kashvi spec:lesson "who is to blame" --html blame.html
"""
)
@click.command("spec:lesson")
@click.argument("name", required=False)
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write the lesson as a page.")
def lesson_command(name: str | None, html: Path | None) -> None:
    """Print the lesson of that NAME or number; without one, list them.

    With --html, write it as one file that needs no network: the runs of the lesson on a time line, as they should be
    and with the planted bug, and the moment at which the promise breaks. A browser opens it.
    """
    if name is None:
        if html is not None:
            raise click.UsageError("--html writes one lesson: name it")
        for number, one in enumerate(LESSONS, 1):
            click.echo(f"{number}  {one.title:<16} {', '.join((one.clause, *one.also))}")
        return
    lesson = lesson_named(name)
    if lesson is None:
        titles = ", ".join(f"{number} {one.title!r}" for number, one in enumerate(LESSONS, 1))
        raise click.BadParameter(f"no lesson {name!r}; there are {titles}", param_hint="NAME")
    if html is None:
        click.echo(f"{LESSONS.index(lesson) + 1}. {lesson.title}\n\n{text_of_lesson(lesson)}")
        return
    if not html.parent.is_dir():
        raise click.BadParameter(f"there is no folder {str(html.parent)!r}", param_hint="--html")
    from ..lessons.page import page_of

    html.write_text(page_of(lesson), "utf-8")
    click.echo(f"wrote {html}: open it in a browser")
