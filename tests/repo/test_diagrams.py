"""The site draws the diagrams of the pages, which are text where the repository is shown."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_each_state_and_each_arrow_is_drawn_inside_the_picture() -> None:
    """And the text is still there, folded."""
    place = importlib.util.spec_from_file_location("diagrams", ROOT / "docs" / "site" / "diagrams.py")
    assert place
    assert place.loader
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    page = (ROOT / "docs" / "steps.md").read_text()
    drawn = module.draw(page)
    assert "```mermaid" in page
    assert "```mermaid" not in drawn
    pictures = re.findall(r"<svg viewBox=\"0 0 (\d+) (\d+)\".*?</svg>", drawn, re.DOTALL)
    assert len(pictures) == page.count("```mermaid")
    arrows = re.findall(r"^ +(\S+) --> (\S+)$", page, re.MULTILINE)
    assert drawn.count('<path marker-end="url(#head)"') == len(arrows)
    assert all(f"{one} → {other}" in drawn for one, other in arrows)
    for x, y, width, height in re.findall(r'<rect x="(\S+)" y="(\S+)" width="(\S+)" height="(\S+)"', drawn):
        assert 0 <= float(x) < float(x) + float(width) <= int(pictures[0][0])
        assert 0 <= float(y) < float(y) + float(height) <= int(pictures[0][1])
