"""``kashvi queue:work``: the worker process."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import click

from .. import __version__
from ..drivers.memory import MemoryDriver
from ..errors import InvalidSetting, RedisRequired
from ..names import DEFAULT, served
from ..queues import LEASE_S, Queue
from ..runtime import SystemRuntime
from ..settings import OBEY_S, UNKNOWN_FOR_S
from ..trace import TraceFile
from ..worker import Limits
from ..worker.pool import Workers
from . import logs
from .options import (
    Seconds,
    app_option,
    choose_database,
    choose_driver,
    database_option,
    examples,
    json_option,
    load_app,
    redis_option,
)
from .output import JsonLines, Lines, write
from .processes import ENDED, FULL, REFUSED, WORKS, Processes, tell
from .replacing import replace, started, unwatch, watch
from .signals import Signals

LOOK_S = 1.0
"""How long the main thread waits before it checks for signals."""
STANDS_STILL_S = 10.0
"""The least time after which a process that stands still is ended: a host may be that slow."""
GRACE_S = 25.0
"""Less than the 30 s after which Kubernetes kills, so that running jobs can be handed back."""


def _served(context: click.Context, parameter: click.Parameter, queues: str) -> str:
    """The queues, checked."""
    try:
        served(queues)
    except InvalidSetting as error:
        raise click.BadParameter(str(error)) from None
    return queues


@examples(
    """
kashvi queue:work --workers=5 --app myapp.jobs --redis-url redis://localhost:6379/0
kashvi queue:work --processes=4 --workers=5 --app myapp.jobs --redis-url redis://localhost:6379/0
kashvi queue:work --queue payments,default --app myapp.jobs --redis-url redis://localhost:6379/0
kashvi queue:work --queue payments:3,default:1 --app myapp.jobs --redis-url redis://localhost:6379/0
kashvi queue:work --app myapp.jobs --redis-url redis://localhost:6379/0 --stop-when-empty --json
kashvi queue:work --app myapp.jobs --redis-url redis://localhost:6379/0 --trace worker.jsonl
KASHVI_REDIS_URL=redis://localhost KASHVI_DATABASE_URL=postgresql://localhost/app kashvi queue:work --app myapp.jobs
"""
)
@click.command("queue:work")
@click.option("-w", "--workers", type=click.IntRange(1), default=5, show_default=True, help="Threads that run jobs.")
@click.option(
    "-p",
    "--processes",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Worker processes, each with its threads.",
)
@click.option(
    "-q",
    "--queue",
    "queues",
    default=DEFAULT,
    show_default=True,
    callback=_served,
    metavar="NAME,...",
    help="Queues to serve: strictly in this order, or with NAME:WEIGHT by weight.",
)
@app_option
@redis_option
@database_option
@click.option("--stop-when-empty", is_flag=True, help="Exit when no job is ready; delayed jobs stay.")
@click.option("--max-jobs", type=click.IntRange(1), help="Exit after this many jobs.")
@click.option("--max-time", type=Seconds(0, min_open=True), help="Exit after this many seconds.")
@click.option(
    "--grace",
    type=Seconds(0),
    default=GRACE_S,
    show_default=True,
    help="Seconds from a signal until running jobs are handed back to the queue.",
)
@click.option("--max-retry", type=click.IntRange(1), help="Attempts in all for each job.  [default: 3]")
@click.option(
    "--lease",
    type=Seconds(0.1),
    help=f"Seconds without a renewal before this worker's jobs go to others.  [default: {LEASE_S:g}]",
)
@click.option(
    "--unknown-for",
    type=Seconds(0),
    help="Seconds that a job of an unknown type waits for a worker that knows it; then it is recorded as failed.  "
    f"[default: {UNKNOWN_FOR_S:g}]",
)
@click.option(
    "--obey",
    type=Seconds(0),
    help=f"Seconds that a handler may take to end after its time limit; then it is stuck.  [default: {OBEY_S:g}]",
)
@click.option(
    "--patience",
    type=Seconds(0),
    help="Seconds that others may go on beside a stuck attempt; then this process is replaced.  [default: the lease]",
)
@click.option(
    "--trace",
    "trace_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Append every event to this file, as JSON lines.",
)
@click.option("--tell-fd", type=int, hidden=True)
@json_option
@click.option("-v", "--verbose", is_flag=True, help="Print also starts, tracebacks, retries and recorded failures.")
def work(
    workers: int,
    processes: int,
    queues: str,
    app: str | None,
    redis_url: str | None,
    database_url: str | None,
    stop_when_empty: bool,
    max_jobs: int | None,
    max_time: float | None,
    grace: float,
    max_retry: int | None,
    lease: float | None,
    unknown_for: float | None,
    obey: float | None,
    patience: float | None,
    trace_file: Path | None,
    tell_fd: int | None,
    as_json: bool,
    verbose: bool,
) -> None:
    """Run jobs from the queue until a signal stops it.

    The app's own queue.set_driver and queue.use_db win over these options, and options win over the environment.
    --max-retry, --lease, --unknown-for and --obey win over the app.

    With --queue payments,default no job of the queue "default" is claimed while "payments" has one. With
    payments:3,default:1 the worker claims three jobs of "payments" for each one of "default", while both have jobs;
    if one is empty, all threads serve the other.

    The first SIGTERM or Ctrl-C lets running jobs end and claims no more. After the grace, jobs that still run are
    handed back to the queue, uncounted; a second signal, a second later or more, hands them back at once. Set the grace
    some seconds below the time after which the process is killed (30 s in Kubernetes and Heroku, 90 s in systemd, 10 s
    in Docker). Without a Redis URL the queue is in this process's memory.

    With --processes, each process is such a worker. One that dies is replaced, later each time; one that reached its
    --max-jobs is replaced at once. If one can't start to work, the command ends. More processes than cores gain
    nothing. If the command itself is killed, the processes go on: stop them one by one.

    An attempt that has not ended --obey seconds after its time limit is stuck. Other attempts may go on for --patience.
    Then the stuck one is settled as failed, jobs that still run go back to the queue, uncounted, and a new process with
    the same process id takes the place of this one.

    Set up logging in the app. If the root logger has no handler after the app's import, it gets one for warnings;
    --verbose shows kashvi's own messages from DEBUG on. With --json, handlers print to standard error.

    sim:replay and spec:check read a trace. Several workers of one host may share it; it keeps the type of an error, not
    its text. After the file was renamed, SIGHUP makes the worker open a new one; without a trace, SIGHUP is SIGTERM.
    """
    program = started()
    signals = Signals(grace, quiet=as_json)
    queue = load_app(app)
    logs.set_up(verbose=verbose)
    choose_driver(queue, redis_url)
    if max_retry is not None:
        queue.set_max_retry(max_retry)
    for name, seconds in (("lease_s", lease), ("unknown_for_s", unknown_for), ("obey_s", obey)):
        if seconds is not None:
            setattr(queue, name, seconds)
    if not queue.registry.names():
        raise click.UsageError(_nothing_to_run(app))
    if processes > 1:
        if isinstance(queue.driver, MemoryDriver):
            raise RedisRequired("queue:work --processes")
        sys.exit(Processes(processes, program, max_time, passes_on_hangup=trace_file is not None).run())
    choose_database(queue, database_url)
    output = JsonLines() if as_json else Lines(lambda: queue.max_attempts, verbose)
    queue.observe(output)
    trace = TraceFile(trace_file) if trace_file is not None else None
    if trace is not None:
        queue.observe(trace)
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, lambda number, frame: trace.reopen())
    signals.expect()  # before the banner says that Ctrl-C stops it
    if not as_json:
        _banner(queue, workers, queues)
    patience_s = None if isinstance(queue.driver, MemoryDriver) else queue.lease_s if patience is None else patience
    limits = Limits("empty" if stop_when_empty else "stopped", max_jobs, max_time, patience_s)
    ends_at = None if max_time is None else SystemRuntime.monotonic() + max_time
    still_s = max(2 * queue.lease_s, STANDS_STILL_S) if queue.registry.time_limits else 0.0
    watch(still_s)
    tell(tell_fd, WORKS)  # first, since the first job may end the process
    try:
        running = queue.start_workers(workers, queues=queues, limits=limits)
    except BaseException:
        tell(tell_fd, REFUSED)
        raise
    signals.stops(running)
    _wait(running, still_s)
    output.close()
    if trace is not None:
        trace.close()
    if running.to_replace:
        replace(program, signals, running, max_jobs, None if ends_at is None else ends_at - SystemRuntime.monotonic())
    if not running.stuck:
        running.join()
    tell(tell_fd, FULL if running.full else ENDED)
    if running.error is not None and (running.unsettled or not signals.came):
        raise running.error


def _wait(running: Workers, still_s: float) -> None:
    """Until they have ended. A signal that comes just before this thread begins to wait is seen when the wait ends."""
    while not running.over(LOOK_S):
        watch(still_s)
    unwatch()


def _nothing_to_run(app: str | None) -> str:
    if not (app or "").strip():
        return "no job types are registered, so no job can run. Pass the module with your jobs: --app MODULE."
    return (
        f"{app!r} registers no job types on its queue, so no job can run. Import the modules with your jobs in it, "
        "or pass the queue that has them: --app MODULE:QUEUE."
    )


def _banner(queue: Queue, workers: int, queues: str) -> None:
    write(f"\n  kashvi {__version__}: processing jobs with {workers} workers on {queue.driver!r}.")
    if isinstance(queue.driver, MemoryDriver):
        write("  The queue is in this process's memory: it sees no jobs of other processes and ends with this one.")
    if queues != DEFAULT:
        how = "by weight" if served(queues)[0].weight else "strictly in this order" if "," in queues else "no other"
        write(f"  Queues: {queues}, {how}.")
    write(f"  Failed jobs: {queue.store!r}.")
    write("  Times are UTC. Ctrl-C stops it.\n")
