"""The work every queue gets. Each job notes its start in a file that the measuring process has mapped too.

Eight bytes a job, at the place of its number: no queue pays more for being watched, and the monotonic clock is
one for all processes of a machine. Standard library only: this runs in every peer's own environment.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import time
from pathlib import Path

JOBS_MAX = 25_000
GATE = JOBS_MAX
"""The slot that lets waiting workers go."""
READY = JOBS_MAX + 1
"""The first of the slots in which workers say that they wait."""
SLOTS = JOBS_MAX + 16
NAP_S = 0.01
BURN_S = 0.001


def slots(path: Path) -> memoryview[float]:
    """The file as numbers; made, and all zero, where it is not there yet."""
    with path.open("r+b" if path.exists() else "w+b") as file:
        file.truncate(SLOTS * 8)
        return memoryview(mmap.mmap(file.fileno(), SLOTS * 8)).cast("d")


started = slots(Path(os.environ["BENCH_STARTED"])) if "BENCH_STARTED" in os.environ else memoryview(b"").cast("d")


def email(number: int) -> str:
    return f"user{number}@example.com"


def noop(user_id: int, email: str) -> None:
    started[user_id] = time.monotonic()


def nap(user_id: int, email: str) -> None:
    started[user_id] = time.monotonic()
    time.sleep(NAP_S)


def burn(user_id: int, email: str) -> None:
    started[user_id] = time.monotonic()
    until = time.thread_time() + BURN_S
    while time.thread_time() < until:
        pass


async def noop_async(user_id: int, email: str) -> None:
    started[user_id] = time.monotonic()


async def nap_async(user_id: int, email: str) -> None:
    started[user_id] = time.monotonic()
    await asyncio.sleep(NAP_S)


async def burn_async(user_id: int, email: str) -> None:
    burn(user_id, email)
