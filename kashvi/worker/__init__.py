"""A worker: the machine that decides (``machine/``), and what runs it (``shell.py``, ``keeper.py``)."""

from .machine.steps import Limits as Limits
