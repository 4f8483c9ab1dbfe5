"""The rest of a chain, in the envelope's field ``next``: the later links as envelopes, in order.

A link is ``{"id":"…","type":"jobs.Ship","payload":{…},"max_attempts":5,"queue":"orders"}`` and has no other field. When
a link is done, the first of the rest goes on its queue, with what is left as its own ``next``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from ..errors import NotAChain
from ..names import DEFAULT, is_queue
from .envelope import COUNT_MAX

LINKS_MAX = 1000
"""The most links of a chain: each link carries all later ones."""

_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]


class Link(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A later link."""

    id: _Text
    type: _Text
    payload: msgspec.Raw
    queue: str
    max_attempts: Annotated[int, msgspec.Meta(ge=1, le=COUNT_MAX)] = 1


_links = msgspec.json.Decoder(Annotated[list[Link], msgspec.Meta(max_length=LINKS_MAX)]).decode
_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode


def joined(envelopes: Sequence[bytes]) -> bytes:
    """The first envelope, with the others in its ``next``."""
    first, *rest = envelopes
    return b'%b,"next":[%b]}' % (first[:-1], b",".join(rest)) if rest else first


def links(rest: msgspec.Raw) -> list[Link]:
    """The later links. Raises NotAChain, whatever the bytes are."""
    try:
        found: list[Link] = _links(rest)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError) as error:
        raise NotAChain(str(error) or type(error).__name__) from None
    for n, link in enumerate(found):
        if link.queue == DEFAULT or not is_queue(link.queue):
            raise NotAChain(f"a link needs a named queue - at `$[{n}].queue`")
    return found


def ids_in(rest: msgspec.Raw) -> tuple[str, ...]:
    """The ids of the later links, in order; none if the rest is malformed."""
    try:
        return tuple(link.id for link in links(rest)) if rest else ()
    except NotAChain:
        return ()


def following(rest: msgspec.Raw) -> tuple[Link, bytes] | None:
    """The next link, and its envelope with what is left; None at the chain's end. ``rest`` has been checked."""
    raws = [bytes(raw) for raw in _raws(rest)]
    return (links(rest)[0], joined(raws)) if raws else None
