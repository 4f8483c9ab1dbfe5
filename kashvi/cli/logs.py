"""The ``logging`` set-up of a worker process. It changes little: the app's set-up comes first."""

from __future__ import annotations

import logging

from ..text import visible, without_passwords


def set_up(*, verbose: bool) -> None:
    """Call it after the app's import. ``verbose``: show kashvi's own messages from DEBUG on.

    Changes only the logger ``kashvi``; a root logger without a handler gets one for warnings.
    """
    log, root = logging.getLogger("kashvi"), logging.getLogger()
    log.disabled = False  # logging.config disables loggers it does not list
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
