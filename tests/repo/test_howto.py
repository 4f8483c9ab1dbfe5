"""The how-to pages: their code runs, in a process of its own, from the first block to the last."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize(
    "page",
    [
        "async",
        "chains",
        "cron",
        "dashboard",
        "deploys",
        "development",
        "follow_ups",
        "frameworks",
        "hooks",
        "idempotency",
        "limits",
        "observing",
        "queues",
        "results",
        "retries",
        "site/index",
        "timeouts",
        "transactions",
    ],
)
def test_the_code_of_a_how_to_page_runs(page: str, tmp_path: Path) -> None:
    """Copied as a reader would copy it."""
    blocks = re.findall(r"^```python\n(.*?)^```$", (DOCS / f"{page}.md").read_text(), re.MULTILINE | re.DOTALL)
    script = tmp_path / "howto.py"
    script.write_text("\n".join(blocks))
    ran = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
