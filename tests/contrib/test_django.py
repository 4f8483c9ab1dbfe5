"""kashvi.contrib.django, and the backend for the tasks of Django 6, in a process of its own: Django is set up once."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

CONNECTIONS = """
from dataclasses import dataclass
import django
from django.conf import settings
settings.configure(
    DEBUG=True, DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "app.db", "CONN_MAX_AGE": 3600}}
)
django.setup()
from django.db import connection, connections
from kashvi.contrib.django import close_connections
from kashvi.queue import MemoryDriver, Queue
from kashvi.registry import Registry
from kashvi.retries import Retry

seen = []

@dataclass
class Asks:
    breaks: bool = False

    def handle(self) -> None:
        seen.append((connection.connection is not None, len(connection.queries)))
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        if self.breaks:
            connection.errors_occurred = True
            connection.is_usable = lambda: False
            raise ValueError("the database is gone")

queue = Queue(MemoryDriver(), registry=Registry())
queue.register("jobs.Asks", Asks, retry=Retry(attempts=1))
close_connections(queue)
queue.dispatch_many([Asks(), Asks(breaks=True), Asks()])
queue.work(drain=True)
# A good connection stays, a broken one is closed, and the log of queries does not grow.
assert seen == [(False, 0), (True, 0), (False, 0)], seen
queue.dispatch(Asks(breaks=True))
queue.work(drain=True)
assert connection.connection is None  # at once, not at the next job
connections.close_all()
"""

TASKS = """
import json, sys
from datetime import timedelta
import django
from django.conf import settings
from kashvi.queue import MemoryDriver, Queue
from kashvi.registry import Registry
from kashvi.retries import Fixed, Retry

queue = Queue(MemoryDriver(), registry=Registry())
settings.configure(
    USE_TZ=True,
    TASKS={
        "default": {
            "BACKEND": "kashvi.contrib.django_tasks.KashviBackend",
            "QUEUES": ["default", "mail"],
            "OPTIONS": {"queue": queue, "retry": Retry(attempts=2, backoff=Fixed(0, jitter=False))},
        }
    },
)
django.setup()
from django.tasks import TaskResultStatus, task
from django.tasks.exceptions import InvalidTask
from django.tasks.signals import task_enqueued
from django.utils import timezone

ran, sent = [], []

@task
def add(a, b=0):
    ran.append(("add", a, b))
    return a + b

@task(queue_name="mail")
async def mail(to):
    ran.append(("mail", to))

@task(takes_context=True)
def fails(context, n):
    ran.append(("fails", context.attempt, n))
    raise ValueError("no")

def helper():
    raise AssertionError("no task")

task_enqueued.connect(lambda sender, task_result, **_: sent.append(task_result.id), weak=False)
result = add.enqueue(1, b=2)
assert (result.status, result.args, result.kwargs) == (TaskResultStatus.READY, [1], {"b": 2})
assert sent == [result.id]
mail.enqueue("ada@example.com")
fails.enqueue(7)
later = add.using(run_after=timezone.now() + timedelta(hours=1)).enqueue(9)
assert (queue.stats().ready, queue.stats().delayed) == (3, 1)
queue.work(stop_when_empty=True, queues="default,mail")
queue.work(stop_when_empty=True, queues="default,mail")
assert sorted(ran) == [("add", 1, 2), ("fails", 1, 7), ("fails", 2, 7), ("mail", "ada@example.com")], ran
assert [(one.type, one.error) for one in queue.failed_jobs()] == [("django.Task", "ValueError: no")]
assert queue.jobs("delayed")[0].id == later.id

for wrong in (lambda: add.using(queue_name="other"), lambda: add.using(priority=5)):
    try:
        wrong()
    except InvalidTask:
        continue
    raise AssertionError("not refused")
try:
    result.refresh()
except NotImplementedError:
    pass

# A job may name anything; only a task that is imported is called.
paths = [f"{__name__}.helper", "os.system", "antigravity.nothing", "", f"{__name__}.add.func", "nodots"]
for path in paths:
    job = {"id": path or "-", "type": "django.Task", "payload": {"path": path, "args": [], "kwargs": {}}, "attempts": 1}
    queue.driver.push([json.dumps(job).encode()])
queue.work(stop_when_empty=True)
refused = [one.error for one in queue.failed_jobs()[1:]]
assert len(refused) == len(paths) and all("is no task that this worker has imported" in one for one in refused), refused
assert "antigravity" not in sys.modules
"""


def run(script: str, directory: Path) -> None:
    (directory / "app.py").write_text(script)
    ran = subprocess.run(
        [sys.executable, "-W", "error", "app.py"], cwd=directory, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")


def test_old_connections_are_closed_around_each_attempt(tmp_path: Path) -> None:
    """As around a request."""
    run(CONNECTIONS, tmp_path)


@pytest.mark.skipif(not importlib.util.find_spec("django.tasks"), reason="Django 6 needs Python 3.12")
def test_tasks_of_django_are_jobs(tmp_path: Path) -> None:
    """Now, later, async, with their context, with retries; and no job's path is imported."""
    run(TASKS, tmp_path)
