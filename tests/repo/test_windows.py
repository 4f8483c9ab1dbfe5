"""Windows, as far as it can be told here: a process in which all that it lacks is gone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MODULES = "fcntl grp posix pty pwd readline resource syslog termios tty"
OF_OS = """chown fork forkpty fchmod getegid geteuid getgid getloadavg getpgid getpgrp getsid getuid killpg kill mkfifo
nice O_CLOEXEC O_NONBLOCK posix_spawn pread pwrite register_at_fork sched_getaffinity setpgid setsid sysconf uname
wait3 wait4 waitid WNOHANG"""
OF_SIGNAL = """alarm pause pthread_kill pthread_sigmask setitimer SIGALRM SIGCHLD SIGCONT SIGHUP siginterrupt SIGKILL
SIGPIPE SIGQUIT SIGSTOP SIGTSTP SIGUSR1 SIGUSR2 sigwait SIGWINCH"""
GONE = f"""
import asyncio, logging.handlers, multiprocessing, os, selectors, signal, socket, subprocess, sys, tempfile, threading
sys.modules |= dict.fromkeys({MODULES.split()!r})
for module, names in ((os, {OF_OS.split()!r}), (signal, {OF_SIGNAL.split()!r}), (socket, ["AF_UNIX"])):
    for name in names:
        module.__dict__.pop(name, None)
"""
PROGRAMS = {
    "every module is imported": """
import importlib, importlib.util, pkgutil
import kashvi, kashvi_sim, kashvi_spec
for package in (kashvi, kashvi_sim, kashvi_spec):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if module.name != "kashvi.contrib.django_tasks" or importlib.util.find_spec("django.tasks"):  # Django 6
            importlib.import_module(module.name)
print("done")
""",
    "jobs run": """
from dataclasses import dataclass
from kashvi import queue

@queue.job("jobs.Note")
@dataclass
class Note:
    text: str
    def handle(self):
        print(self.text)

queue.set_driver(queue.MemoryDriver())
queue.use_db("sqlite:///failures.db")
queue.observe(queue.TraceFile("trace.jsonl"))
queue.dispatch(Note("done"))
queue.work(drain=True)
workers = queue.start_workers(2)
workers.stop()
""",
    "the worker command runs, and a promise is judged": """
import sys
open("app.py", "w").write('''
from dataclasses import dataclass
from kashvi import queue

@queue.job("jobs.Note")
@dataclass
class Note:
    text: str
    def handle(self):
        pass

queue.set_driver(queue.MemoryDriver())
queue.dispatch(Note("done"))
''')
from kashvi.cli import main
for words in ("queue:work --app app --stop-when-empty --trace trace.jsonl", "queue:failed", "spec:check trace.jsonl",
              "sim:run retry_herd --seed 1"):
    sys.argv = ["kashvi", *words.split()]
    try:
        main()
    except SystemExit as ended:
        assert not ended.code, (words, ended.code)
print("done")
""",
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_it_works_without_what_windows_lacks(program: str, tmp_path: Path) -> None:
    """README says what needs POSIX: several processes of one command, unix sockets, the worker kit and the museum."""
    ran = subprocess.run(
        [sys.executable, "-c", GONE + program], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stderr
    assert "done" in ran.stdout
