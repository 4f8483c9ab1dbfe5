"""Checks the built site: it asks no other host for anything, and its links lead to files."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from urllib.parse import unquote

LOADED = re.compile(
    r"<(?:script|img|source|iframe)\b[^>]*\bsrc=\"(?:https?:)?//[^\"]*|<link\b[^>]*\bhref=\"(?:https?:)?//[^\"]*"
)
IMPORTED = re.compile(r"@import[^;]*//[^;]*|url\((?:['\"])?(?:https?:)?//[^)]*")
LINK = re.compile(r"<a\b[^>]*\bhref=\"(?!https?:|mailto:|#)([^\"#?]+)")
"""Sphinx checks those of its own pages, not those in HTML."""


def main(site: Path) -> int:
    """1 if a page or a style sheet loads from another host, a link leads nowhere, or a page is missing."""
    found = [
        f"{path.relative_to(site)}: {hit}"
        for pattern, kind in ((LOADED, "*.html"), (IMPORTED, "*.css"))
        for path in sorted(site.rglob(kind))
        for hit in pattern.findall(path.read_text("utf-8"))
    ]
    dead = [
        f"{path.relative_to(site)}: {link} leads nowhere"
        for path in sorted(site.rglob("*.html"))
        for link in sorted(set(LINK.findall(path.read_text("utf-8"))))
        if not (path.parent / unquote(link)).exists()
    ]
    pages = len(list(site.rglob("*.html")))
    for line in (*found, *dead):
        print(line, file=sys.stderr)
    print(f"{pages} pages; {len(found)} things of another host, {len(dead)} links that lead nowhere")
    return 1 if found or dead or not (site / "index.html").exists() or pages < 200 else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
