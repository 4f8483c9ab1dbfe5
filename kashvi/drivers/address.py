"""A Redis URL made into a client, with errors that show nothing of it: it may hold a password."""

from __future__ import annotations

import re

import redis

from ..errors import UnusableSetting

SCHEMES = ("redis://", "rediss://", "unix://")
_UNESCAPED = re.compile(r"://[^/?#]*([/#][^?]*|\?[^=]*)@")
"""What comes after a /, # or ? is not the password, whatever was meant: a part of it would be the host."""


def client_of(url: str) -> redis.Redis:
    """A client for a ``redis://``, ``rediss://`` or ``unix://`` URL; blanks and line ends around it are dropped.

    Raises InvalidSetting.
    """
    text = url.strip()
    try:
        why = _why_unusable(text)
        if not why:
            client: redis.Redis = redis.Redis.from_url(text)
            return client
    except (ValueError, TypeError, AttributeError):
        why = "its port is no number, or an option does not fit; a password's / ? # are written %2F %3F %23"
    raise UnusableSetting("the Redis URL", why)  # out here, where the error that shows the URL is gone


def _why_unusable(text: str) -> str:
    if not text.startswith(SCHEMES):
        return "it must be a redis://, rediss:// or unix:// URL"
    if re.search(r"\s", text):
        return "there is a blank or a line end in it"
    if not text.startswith("unix://") and _UNESCAPED.search(text):
        return "a password's / ? # are written %2F %3F %23"
    return ""
