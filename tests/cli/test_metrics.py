"""``queue:work --processes`` with ``kashvi.contrib.prometheus``: each process is scraped on a port of its own."""

from __future__ import annotations

import contextlib
from urllib.error import URLError
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from kashvi.queue import Queue
from tests.servers.launch import free_port, until_true

from .conftest import Note, Worker

APP = """
import myapp
from kashvi import queue
from kashvi.contrib.prometheus import measure, serve

measure(queue.default())
serve(range({first}, {last}))
"""


def scraped(port: int) -> dict[str, float]:
    """The samples of one process by name, those of one name added; empty if there is none."""
    found: dict[str, float] = {}
    with contextlib.suppress(URLError, ConnectionError), urlopen(f"http://127.0.0.1:{port}/metrics") as page:
        for family in text_string_to_metric_families(page.read().decode()):
            for sample in family.samples:
                found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found


def test_each_process_is_scraped_and_together_they_count_each_job_once(worker: Worker, queue: Queue) -> None:
    """The command itself imports the app too, so it takes a port: it counts nothing and shows the gauges."""
    first = free_port()
    ports = range(first, first + 10)
    (worker.shell.directory / "measured.py").write_text(APP.format(first=ports.start, last=ports.stop))
    command = worker.start("--processes", "2", "--app", "measured")

    def samples(name: str) -> list[float]:
        pages = [page for port in ports if (page := scraped(port))]
        return [page.get(name, 0.0) for page in pages]

    until_true(lambda: samples("kashvi_workers") == [2, 2, 2], 30, "not every process had a port")
    queue.dispatch_many([Note(n) for n in range(20)])
    until_true(lambda: sum(samples("kashvi_jobs_total")) == 20, 30, "not every job was counted")
    assert 0 in samples("kashvi_jobs_total")
    command.terminate()
    assert command.wait(30) == 0
