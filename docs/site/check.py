"""Checks the built site: it asks no other host for anything."""

from __future__ import annotations

import re
import sys
from pathlib import Path

LOADED = re.compile(
    r"<(?:script|img|source|iframe)\b[^>]*\bsrc=\"(?:https?:)?//[^\"]*|<link\b[^>]*\bhref=\"(?:https?:)?//[^\"]*"
)
IMPORTED = re.compile(r"@import[^;]*//[^;]*|url\((?:['\"])?(?:https?:)?//[^)]*")


def main(site: Path) -> int:
    """1 if a page or a style sheet loads from another host, or if a page is missing."""
    found = [
        f"{path.relative_to(site)}: {hit}"
        for pattern, kind in ((LOADED, "*.html"), (IMPORTED, "*.css"))
        for path in sorted(site.rglob(kind))
        for hit in pattern.findall(path.read_text("utf-8"))
    ]
    pages = len(list(site.rglob("*.html")))
    for line in found:
        print(line, file=sys.stderr)
    print(f"{pages} pages, {len(found)} things that another host would be asked for")
    return 1 if found or not (site / "index.html").exists() or pages < 200 else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
