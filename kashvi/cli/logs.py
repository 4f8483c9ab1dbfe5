"""What a worker process does to ``logging``: as little as it can, for the app's own set-up comes first."""

from __future__ import annotations

import logging

from ..text import visible, without_passwords


def set_up(*, verbose: bool) -> None:
    """Call it after the app's import. ``verbose``: kashvi's own messages from DEBUG on.

    Only the logger ``kashvi`` is touched; the root logger gets a handler, for warnings, if nobody has given it one.
    """
    log, root = logging.getLogger("kashvi"), logging.getLogger()
    log.disabled = False  # as logging.config leaves every logger that it is not told of
    if verbose:
        log.setLevel(logging.DEBUG)
    if not (root.handlers or log.handlers):
        handler = logging.StreamHandler()
        handler.setFormatter(OneLine())
        root.addHandler(handler)


class OneLine(logging.Formatter):
    """A message in one line; a traceback below it, indented, so that no line of it looks like a message."""

    def __init__(self) -> None:
        super().__init__("%(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        return _safe(super().formatMessage(record))

    def formatException(self, ei: object) -> str:  # noqa: N802
        text = super().formatException(ei)  # type: ignore[arg-type]
        return "\n".join("    " + _safe(line) for line in text.split("\n"))


def _safe(text: str) -> str:
    return visible(without_passwords(text))
