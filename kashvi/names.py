"""The names of queues, and the list of queues that a worker serves."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from .errors import InvalidSetting

DEFAULT = "default"
"""The queue of the documented keys."""
RESERVED = frozenset((
    "jobs", "delayed", "workers", "exchanges", "unrecorded", "held", "running", "paused", "unique", "cancelled",
    "names", "serves", "retried", "relay", "relayed", "cron", "counts", "about",
))  # fmt: skip
"""The names of a queue's other keys."""
ALLOWED = "1 to 64 of a-z, 0-9, '_', '.' and '-', and not the name of another key, such as jobs or workers"
WEIGHT_MAX = 1000

_NAME = re.compile(r"[a-z0-9_.-]{1,64}")


class Served(NamedTuple):
    """A queue that a worker serves."""

    name: str
    weight: int = 0
    """Its share of the claims; 0: the queues are served strictly in their order."""

    def __str__(self) -> str:
        return f"{self.name}:{self.weight}" if self.weight else self.name


ONLY_DEFAULT = (Served(DEFAULT),)


def is_queue(name: object) -> bool:
    """Whether a queue can have this name: it becomes part of a key."""
    return isinstance(name, str) and name not in RESERVED and _NAME.fullmatch(name) is not None


def queue_name(name: object) -> str:
    """The name, checked. Raises InvalidSetting."""
    if not isinstance(name, str) or not is_queue(name):
        raise InvalidSetting("the name of a queue", name, ALLOWED)
    return name


def served(queues: str | Iterable[str]) -> tuple[Served, ...]:
    """The queues in ``"payments,default"`` (strictly in this order) or ``"payments:3,default:1"`` (by weight).

    Raises InvalidSetting for a name that no queue can have, a weight that is no whole number from 1 to 1,000, a mixture
    of both kinds, a name given twice, and for no name at all.
    """
    texts = queues.split(",") if isinstance(queues, str) else list(queues)
    found = tuple(_one(text.strip() if isinstance(text, str) else text) for text in texts)
    if len({one.name for one in found}) < len(found) or not found:
        raise InvalidSetting("the queues to serve", queues, "different names, such as 'payments,default'")
    if len({one.weight > 0 for one in found}) > 1:
        raise InvalidSetting(
            "the queues to serve", queues, "all with a weight ('payments:3,default:1') or all without one"
        )
    return found


def _one(text: object) -> Served:
    name, colon, weight = text.partition(":") if isinstance(text, str) else (text, "", "")
    if not colon:
        return Served(queue_name(name))
    if not (weight.isascii() and weight.isdigit() and 0 < int(weight[:9]) <= WEIGHT_MAX):
        raise InvalidSetting(
            f"the weight of the queue {name!r}", weight, f"a whole number from 1 to {WEIGHT_MAX:,}, as in 'payments:3'"
        )
    return Served(queue_name(name), int(weight))
