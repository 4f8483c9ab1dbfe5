"""A backend for the tasks of Django 6 (``django.tasks``): they are jobs of the type ``django.Task``.

``TASKS = {"default": {"BACKEND": "kashvi.contrib.django_tasks.KashviBackend", "OPTIONS": {…}}}``. OPTIONS may have:

- ``queue``: a ``Queue``; by default the one of the functions of ``kashvi.queue``.
- ``retry``: a policy of ``kashvi.retries`` for all tasks. ``timeout``: seconds or a timedelta.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Any

from django.tasks import Task, TaskContext, TaskResult, TaskResultStatus
from django.tasks.backends.base import BaseTaskBackend
from django.tasks.signals import task_enqueued
from django.utils import timezone
from django.utils.json import normalize_json

from ..errors import KashviError
from ..queue import default
from ..queues import Queue
from ..worker.hooks import current

NAME = "django.Task"


class TaskNotImported(KashviError):
    """A job names a task that this process has not imported."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path!r} is no task that this worker has imported. Import its module in the module that --app names: "
            "kashvi imports nothing that a job names."
        )


@dataclass
class TaskJob:
    """A task and its arguments."""

    path: str
    args: list[Any]
    kwargs: dict[str, Any]

    def handle(self) -> Awaitable[object] | None:
        """Call the task. What it returns is kept nowhere. Raises TaskNotImported, and what the task raises."""
        task = self._task()
        args = [self._context(task), *self.args] if task.takes_context else self.args
        returned = task.func(*args, **self.kwargs)
        return returned if iscoroutinefunction(task.func) else None

    def _task(self) -> Any:
        module, _, name = self.path.rpartition(".")
        task = getattr(sys.modules.get(module), name, None)
        if not isinstance(task, Task) or task.module_path != self.path:
            raise TaskNotImported(self.path)
        return task

    def _context(self, task: Any) -> Any:
        attempt = current()
        return TaskContext(
            task_result=_result(task, attempt.job_id, TaskResultStatus.RUNNING, self, [""] * attempt.attempt)
        )


def _result(task: Any, job_id: str, status: Any, job: TaskJob, worker_ids: list[str]) -> Any:
    now = timezone.now()
    running = status == TaskResultStatus.RUNNING
    return TaskResult(
        task=task,
        id=job_id,
        status=status,
        enqueued_at=None if running else now,
        started_at=now if running else None,
        finished_at=None,
        last_attempted_at=now if running else None,
        args=job.args,
        kwargs=job.kwargs,
        backend=task.backend,
        errors=[],
        worker_ids=worker_ids,
    )


class KashviBackend(BaseTaskBackend):  # type: ignore[misc]
    """Dispatches tasks, now or by ``run_after``; results are kept nowhere, and priorities are queues' business."""

    supports_defer = True
    supports_async_task = True

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)
        self.queue: Queue = self.options.get("queue") or default()
        self.queue.register(NAME, TaskJob, retry=self.options.get("retry"), timeout=self.options.get("timeout"))

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """Dispatch the task; returns a TaskResult with the job's id. Raises InvalidTask, and what dispatches raise."""
        self.validate_task(task)
        job = TaskJob(task.module_path, normalize_json(list(args)), normalize_json(dict(kwargs)))
        if task.run_after is None:
            job_id = self.queue.dispatch(job, queue=task.queue_name)
        else:
            now = timezone.now() if timezone.is_aware(task.run_after) else timezone.make_naive(timezone.now())
            wait_s = max((task.run_after - now).total_seconds(), 0.0)
            job_id = self.queue.dispatch_after(job, wait_s, queue=task.queue_name)
        result = _result(task, job_id, TaskResultStatus.READY, job, [])
        task_enqueued.send(type(self), task_result=result)
        return result
