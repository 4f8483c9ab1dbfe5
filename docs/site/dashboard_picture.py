"""Draws docs/dashboard.png: the dashboard's first page, while a web shop's workers run on a real server.

    python docs/site/dashboard_picture.py --minutes 12

It needs Chromium, and the packages that the browser's tests need.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from kashvi import queue
from kashvi.retries import Fixed, Retry

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "docs" / "dashboard.png"
QUEUES = ("payments", "mail", "images")
TICK_S = 0.25


def chance(share: float) -> bool:
    """True in this share of all calls."""
    return random.random() < share


@queue.job("shop.ChargeCard", retry=Retry(attempts=2, backoff=Fixed(2)))
@dataclass
class ChargeCard:
    order: int

    def handle(self) -> None:
        time.sleep(random.uniform(0.01, 0.04))
        if chance(0.06):
            raise ConnectionError("the bank did not answer within 5 s")


@queue.job("shop.SendEmail", retry=Retry(attempts=3, backoff=Fixed(2)))
@dataclass
class SendEmail:
    to: str

    def handle(self) -> None:
        time.sleep(random.uniform(0.002, 0.02))
        if chance(0.08):
            raise TimeoutError("smtp.example.com timed out")


@queue.job("shop.ResizeImage", retry=Retry(attempts=1))
@dataclass
class ResizeImage:
    photo: int

    def handle(self) -> None:
        time.sleep(random.uniform(0.05, 0.4))
        if chance(0.02):
            raise ValueError(f"photo {self.photo} is not an image")


def feed(until: float) -> None:
    """Dispatch in waves, as visitors come."""
    start = time.time()
    n = 0
    while (now := time.time()) < until:
        wave = 1 + 0.6 * math.sin((now - start) / 75) + random.uniform(-0.2, 0.2)
        queue.dispatch_many([ChargeCard(n + i) for i in range(round(3 * wave))], queue="payments")
        queue.dispatch_many([SendEmail(f"{n + i}@example.com") for i in range(round(7 * wave))], queue="mail")
        queue.dispatch_many([ResizeImage(n + i) for i in range(round(2 * wave))], queue="images")
        queue.dispatch_after(SendEmail(f"{n}@example.com"), 900, queue="mail")
        n += 10
        time.sleep(TICK_S)


def main() -> None:
    from benchmarks.server import Server
    from tests import browser
    from tests.servers.launch import free_port

    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--minutes", type=float, default=12)
    minutes: float = asked.parse_args().minutes
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(Server(folder / "server"))
        queue.set_driver(server.url)
        queue.use_db(f"sqlite:///{folder}/shop.db")
        port = free_port()
        at = ["--app", Path(__file__).stem, "--redis-url", server.url, "--database-url", f"sqlite:///{folder}/shop.db"]
        path = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
        for command in (
            ["queue:work", "--queue", "payments,mail", "--workers", "5"],
            ["queue:work", "--queue", "payments,mail", "--workers", "5"],
            ["queue:work", "--queue", "images", "--workers", "3"],
            ["dashboard", "--port", str(port)],
        ):
            with (folder / "log").open("ab") as log:
                run = subprocess.Popen(
                    [sys.executable, "-m", "kashvi", *command, *at], env=path, stdout=log, stderr=log
                )
            stack.callback(run.wait)
            stack.callback(run.terminate)
        feed(time.time() + minutes * 60)
        with browser.chromium() as chromium:
            page = chromium.new_page(viewport={"width": 1200, "height": 640})
            page.goto(f"http://127.0.0.1:{port}/")
            page.locator(".uplot").wait_for()
            page.screenshot(path=PICTURE, full_page=True)
    print(f"{PICTURE}: {PICTURE.stat().st_size:,} bytes")


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT)]
    main()
