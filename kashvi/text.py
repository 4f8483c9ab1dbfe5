"""Foreign text made safe to show: it can't move a cursor, forge a line or reverse letters.

A job's type, its id and an exception's text come from other programs, and go to terminals and logs.
"""

from __future__ import annotations

import codecs
import os
import re
from io import TextIOWrapper
from typing import TextIO

import msgspec

# C0 and C1 controls with DEL; the soft hyphen, zero width space and BOM; marks that change the direction of text; line
# and paragraph separators; halves of a surrogate pair; tags. The joiners U+200C and U+200D stay: words need them.
_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f]"
)
WORD = 5
"""A shorter password may be a part of ordinary words."""
_CREDENTIALS = re.compile(r"(?<=://)(?![^\s:@/]*:\*\*\*@[^\s@]*(?:\s|$))\S*@")
"""Credentials reach to the last @, since a password may hold any character. SQLAlchemy's own ``***`` stays."""


def visible(text: str) -> str:
    r"""The text in one line, with invisible characters escaped, like ``\x1b`` or ``\u202e``."""
    return text if text.isprintable() else _HIDDEN.sub(_escaped, text)


def without_passwords(text: str) -> str:
    """The same text, with ``***`` for the credentials of each URL in it, however they are spelt."""
    return _CREDENTIALS.sub("***@", text) if "://" in text else text


def without_password(text: str, password: str) -> str:
    """The same text, with ``***`` for the password; a short one is replaced only where it is a word of its own."""
    masked = re.escape(password)
    return re.sub(masked if len(password) >= WORD else rf"(?<!\w){masked}(?!\w)", "***", text)


def json_line(value: object) -> str:
    r"""``value`` as compact JSON, with the characters that ``visible`` escapes as JSON escapes, like ``\u001b``."""
    text = msgspec.json.encode(value).decode()
    return text if text.isprintable() else _HIDDEN.sub(_escaped_in_json, text)


def narrow(stream: TextIO) -> None:
    r"""Let a stream of a small character set, like cp1252, take any text: missing characters become ``\u6771``."""
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors=AS_JSON)


def no_colour() -> bool:
    """True if the user wants no colours (https://no-color.org), or the terminal has none."""
    return bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def _escaped_in_json(found: re.Match[str]) -> str:
    return _units(found[0])


def _units(text: str) -> str:
    units = text.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def _unencodable(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return _units(error.object[error.start : error.end]), error.end


AS_JSON = "kashvi.as_json"
codecs.register_error(AS_JSON, _unencodable)
