"""Draws the state diagrams of the pages: states in a ring, arrows bent, so that both directions are seen."""

from __future__ import annotations

import re
from html import escape
from math import cos, hypot, pi, sin
from typing import NamedTuple

BLOCK = re.compile(r"^```mermaid\nstateDiagram-v2\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ARROW = re.compile(r"^\s*(\S+) --> (\S+)$", re.MULTILINE)
WIDTH, HEIGHT = 720, 400


class State(NamedTuple):
    """A rounded box around its name, by its middle and half its size."""

    x: float
    y: float
    w: float
    h: float = 15

    def edge(self, x: float, y: float) -> tuple[float, float]:
        """Where a line from the middle to this point leaves the box, and 4 more."""
        dx, dy = x - self.x, y - self.y
        part = min((self.w + 4) / max(abs(dx), 1e-9), (self.h + 4) / max(abs(dy), 1e-9))
        return self.x + dx * part, self.y + dy * part


def draw(page: str) -> str:
    """The page with a picture for each diagram, and its text folded below."""
    return BLOCK.sub(lambda block: f"```{{raw}} html\n{_picture(ARROW.findall(block[1]))}\n```", page)


def _picture(arrows: list[tuple[str, str]]) -> str:
    names = list(dict.fromkeys(name for arrow in arrows for name in arrow))
    states = {}
    for n, name in enumerate(names):
        angle = 2 * pi * n / len(names) - pi / 2
        size = 20 if name == "[*]" else 4.2 * len(name) + 12
        states[name] = State(WIDTH / 2 + 250 * cos(angle), HEIGHT / 2 + 160 * sin(angle), size)
    lines = [_arrow(states[one], states[other]) for one, other in arrows]
    boxes = [
        f'<rect x="{s.x - s.w:.0f}" y="{s.y - s.h:.0f}" width="{2 * s.w:.0f}" height="{2 * s.h:.0f}" rx="8" '
        f'fill="var(--color-background-secondary)" stroke="currentColor"/>'
        f'<text x="{s.x:.0f}" y="{s.y + 4:.0f}" text-anchor="middle" fill="currentColor">{escape(name)}</text>'
        for name, s in states.items()
    ]
    text = "\n".join(f"{one} → {other}" for one, other in arrows)
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="The arrows are listed below as text" '
        f'style="max-width: {WIDTH}px; width: 100%; font: 13px monospace">\n'
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0 8 4 0 8z" fill="var(--color-brand-primary)"/></marker></defs>\n'
        f'<g fill="none" stroke="var(--color-brand-primary)" marker-end="url(#head)">{"".join(lines)}</g>\n'
        f"{''.join(boxes)}</svg>\n<details><summary>As text</summary><pre>{escape(text)}</pre></details>"
    )


def _arrow(one: State, other: State) -> str:
    """A bow to the right of its direction; from a state to itself, a loop on the side away from the middle."""
    if one == other:
        side = 1 if one.x >= WIDTH / 2 else -1
        x, y = one.x + side * one.w, one.y
        loop = f"M{x:.0f} {y - 6:.0f}c{side * 34} -22 {side * 34} 34 {side * 4} 12"
        return f'<path marker-end="url(#head)" d="{loop}"/>'
    dx, dy = other.x - one.x, other.y - one.y
    length = hypot(dx, dy)
    x, y = (one.x + other.x) / 2 - dy / length * 26, (one.y + other.y) / 2 + dx / length * 26
    (x1, y1), (x2, y2) = one.edge(x, y), other.edge(x, y)
    return f'<path marker-end="url(#head)" d="M{x1:.0f} {y1:.0f}Q{x:.0f} {y:.0f} {x2:.0f} {y2:.0f}"/>'
