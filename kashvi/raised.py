"""The traceback of an exception, as bounded text."""

from __future__ import annotations

import traceback
from types import FrameType

KEPT = 20_000
KEPT_OF_START = 2_000


def traceback_of(error: BaseException) -> str:
    """The traceback as Python prints it, without the worker's own frame; in the middle of a long one, ``[…]``."""
    frames = error.__traceback__
    try:
        lines = traceback.format_exception(type(error), error, frames and (frames.tb_next or frames))
        text = "".join(lines).encode("utf-8", "backslashreplace").decode().rstrip("\n")
    except BaseException as broken:  # an exception's methods may raise anything
        return f"(its traceback can't be had: {type(broken).__name__})"
    return _bounded(text)


def standing_at(frame: FrameType, why: str) -> str:
    """The frames of a thread that goes on, as a traceback that ends with ``why``; from the app's first one."""
    frames = list(traceback.walk_stack(frame))[::-1]
    first = next((i for i, (at, _) in enumerate(frames) if not _is_ours(at)), 0)
    lines = traceback.StackSummary.extract(iter(frames[first:])).format()
    return _bounded(f"Traceback (most recent call last):\n{''.join(lines)}{why}")


def _is_ours(frame: FrameType) -> bool:
    """Of the thread itself, the worker or the event loop."""
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] in ("threading", "kashvi", "asyncio")


def _bounded(text: str) -> str:
    return text if len(text) <= KEPT else f"{text[:KEPT_OF_START]}\n  […]\n{text[KEPT_OF_START - KEPT :]}"


def places_of(error: BaseException) -> list[str]:
    """The frames as ``app.py:12 in handle``, innermost last, without messages and values."""
    frames = error.__traceback__
    places = [f"{at.filename}:{at.lineno} in {at.name}" for at in traceback.extract_tb(frames and frames.tb_next)]
    return places[-50:]
