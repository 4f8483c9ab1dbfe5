"""Find a user's file that is imported in place of a package of the same name."""

from __future__ import annotations

import sys
from pathlib import Path

PACKAGES = (
    *("fakeredis", "greenlet", "hiredis", "jinja2", "junitparser", "markdown_it", "msgspec", "plotly", "psycopg"),
    *("pymysql", "redis", "rich", "sqlalchemy", "time_machine", "uuid_utils"),
)
"""The other packages that kashvi imports."""


def shadow() -> str:
    """A sentence about such a file, else empty; called when an import has failed."""
    here = Path.cwd()
    for name in (*PACKAGES, *sorted(sys.stdlib_module_names)):
        for file in (here / f"{name}.py", here / name / "__init__.py"):
            if file.exists() and (name in PACKAGES or _is_loaded(name, file)):
                return f"{file} is imported in place of the package {name}, which kashvi needs: give it another name."
    return ""


def _is_loaded(name: str, file: Path) -> bool:
    loaded = getattr(sys.modules.get(name), "__file__", None)
    return loaded is not None and Path(loaded).resolve() == file.resolve()
