"""Unique jobs: the key of a job's lock, and what a dispatch returns.

While a job with a key is on its queue, ready, delayed, or held by a worker, no other one with this key is added.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from .errors import InvalidSetting

TEXT_MAX = 128
"""The most UTF-8 bytes of a key's text; a longer one travels as its hash."""

Unique = bool | Callable[[Any], object]
"""Of a type: False, True (by type and payload), or a function from the job to what must differ."""


class Dispatched(str):
    """The id of a dispatched job of a unique type; if it is a ``duplicate``, of the job that has its key."""

    duplicate: bool

    def __new__(cls, job_id: str, *, duplicate: bool = False) -> Dispatched:
        self = super().__new__(cls, job_id)
        self.duplicate = duplicate
        return self


def checked(unique: object, job_class: type) -> Unique:
    """The setting. Raises InvalidSetting."""
    if isinstance(unique, bool) or callable(unique):
        return unique
    raise InvalidSetting(f"unique of {job_class.__qualname__}", unique, "True, False or a function of the job")


def key_of(name: str, unique: Unique, job: object, sorted_payload: Callable[[], bytes]) -> str:
    """The key of a job of a unique type: the type, a colon and a text.

    Raises InvalidSetting if the type's function returns no text or whole number, or an empty text.
    """
    if unique is True or unique is False:
        return f"{name}:{_hash(sorted_payload())}"
    found = unique(job)
    if isinstance(found, bool) or not isinstance(found, str | int) or found == "":
        raise InvalidSetting(f"what the function unique= of {name} returns", found, "a text or a whole number")
    text = str(found).encode("utf-8", "surrogatepass")
    return f"{name}:{found if len(text) <= TEXT_MAX and text.isascii() else _hash(text)}"


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
