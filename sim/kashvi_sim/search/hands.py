"""Processes that make trials: forks of this one, with its planted bugs."""

from __future__ import annotations

import gc
import signal
import warnings
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Self

from .scope import Scope
from .search import END, Branch, Known, Tried, tried
from .state import State


class Hands:
    """A pool of processes, as a context manager. They know the states sent to them."""

    def __init__(self, scope: Scope, processes: int) -> None:
        self._scope = scope
        self._count = processes
        self._pipes: list[Connection] = []
        self._processes: list[BaseProcess] = []

    def __enter__(self) -> Self:
        context = get_context("fork")
        for _ in range(self._count):
            pipe, theirs = context.Pipe()
            others = [*self._pipes, pipe]
            process = context.Process(target=_work, args=(self._scope, theirs, others), daemon=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # other threads may run; none is needed there
                process.start()
            theirs.close()
            self._pipes.append(pipe)
            self._processes.append(process)
        return self

    def __exit__(self, *error: object) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(1)
            process.kill()

    def make(self, branches: Sequence[Branch], learned: Sequence[State]) -> list[Tried]:
        """The trials of these branches, in order. ``learned``: states that are new since the last call.

        Raises any exception of a trial.
        """
        for n, pipe in enumerate(self._pipes):
            pipe.send((branches[n :: self._count], learned))
        answers = [pipe.recv() for pipe in self._pipes]
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return [answers[i % self._count][i // self._count] for i in range(len(branches))]


def _work(scope: Scope, pipe: Connection, others: list[Connection]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the search, and so us
    for other in others:
        other.close()  # or the end of the other process would not show
    known = Known()
    gc.freeze()
    answer: list[Tried] | Exception
    with suppress(EOFError, OSError):  # the search is over, or was ended
        while True:
            branches, learned = pipe.recv()
            for state in learned:
                known.add(state, END)
            try:
                answer = [tried(scope, branch, {}, known, True) for branch in branches]
            except Exception as error:
                answer = error
            pipe.send(answer)
            gc.collect(0)
