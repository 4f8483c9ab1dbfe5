"""Chromium for tests. At a desk without one they are skipped; in CI they fail."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

from tests.servers.launch import missing

QUIET = ["--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--disable-quic", "--no-first-run"]  # fmt: skip
"""Chromium asks its makers for nothing."""


@contextmanager
def chromium(*flags: str) -> Iterator[Browser]:
    """A headless Chromium, from the system's package."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        program = None
    if program is None:
        missing("chromium, or playwright for it,")
    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=[*QUIET, *root, *flags])
        yield browser
        browser.close()
