"""What runs in a peer's own environment: ``python -m benchmarks.process PEER client|work NUMBER``.

A client obeys lines of JSON; a worker waits at the gate, so that two of them start at one moment.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from typing import Any

from benchmarks import peers, work

CHUNK = 100
MANY = 1000


class Client:
    """The producer."""

    def __init__(self, app: peers.App) -> None:
        self._app = app

    def dispatch(self, task: peers.Task, n: int, limit_s: float) -> dict[str, Any]:
        """One job a call, ``n`` of them or as many as the time allows."""
        began = time.perf_counter()
        sent = 0
        while sent < n and time.perf_counter() - began < limit_s:
            self._app.dispatch(task, range(sent, min(sent + CHUNK, n)))
            sent = min(sent + CHUNK, n)
        return {"n": sent, "seconds": time.perf_counter() - began}

    def many(self, n: int) -> dict[str, Any]:
        began = time.perf_counter()
        for first in range(0, n, MANY):
            self._app.many(range(first, min(first + MANY, n)))
        return {"n": n, "seconds": time.perf_counter() - began}

    def later(self, n: int, due: float) -> dict[str, Any]:
        """Dispatch jobs due at ``due``, a whole second of the wall clock; returns how many were sent before it."""
        sent = 0
        while sent < n and due - time.time() > 0.2:
            self._app.later(range(sent, min(sent + CHUNK, n)), due - time.time())
            sent = min(sent + CHUNK, n)
        return {"n": sent}

    def spread(self, n: int, due: float, over_s: float) -> dict[str, Any]:
        """Dispatch jobs due evenly over ``over_s``; returns how many were sent before the first was due."""
        sent = 0
        while sent < n and due - time.time() > 0.2:
            self._app.later(range(sent, sent + 1), due + sent * over_s / n - time.time())
            sent += 1
        return {"n": sent}

    def pings(self, n: int, gap_s: float) -> dict[str, Any]:
        """Jobs for an idle worker, each with the moment before its dispatch."""
        began = []
        for number in range(n):
            began.append(time.monotonic())
            self._app.dispatch("noop", range(number, number + 1))
            time.sleep(gap_s)
        return {"began": began}


def obey(app: peers.App) -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints must not pass for an answer
    client = Client(app)
    for line in sys.stdin:
        name, *args = json.loads(line)
        print(json.dumps(getattr(client, name)(*args)), file=answers)


def wait_at_gate(number: int) -> None:
    work.started[work.READY + number] = 1.0
    while not work.started[work.GATE]:
        time.sleep(0.001)


def main(name: str, role: str, number: str) -> None:
    logging.disable(logging.WARNING)
    app: peers.App = peers.load(name).connect(os.environ["BENCH_URL"])
    if role == "client":
        obey(app)
    else:
        wait_at_gate(int(number))
        app.work()


if __name__ == "__main__":
    main(*sys.argv[1:])
