"""One tape of choices behind everything that could have gone otherwise: scheduling, faults, workload, chance.

Every choice is one integer, 0 the default. A seed fills the tape at random, a token replays the choices that were not
0, and shrinking takes such choices away while the run still fails. Each stream counts its own choices, so that one
more draw in the workload does not reshuffle the faults.
"""

from __future__ import annotations

import base64
import random
import zlib
from collections.abc import Mapping, Sequence

from kashvi.errors import InvalidSetting

STREAMS = ("schedule", "faults", "workload", "chance")
FINE = 1 << 16
"""How many values a fraction can take."""

Choices = Mapping[tuple[str, int], int]
"""By stream and position, what was chosen there; 0 where nothing is said."""


class Stream:
    """One stream. With ``given`` choices, those; else random ones, which are written down."""

    def __init__(self, name: str, chance: random.Random | None, given: Mapping[int, int], often: float = 1.0) -> None:
        self.name = name
        self.position = 0
        self.taken: dict[int, int] = {}
        """Position: choice, where it was not 0."""
        self._random = chance.random if chance else None
        self._given = given
        self._often = often
        self._far = name == "schedule"
        """A place in an order may be given beyond those that chance gives."""

    def choose(self, n: int) -> int:
        """One of ``n`` possibilities."""
        position = self.position
        self.position = position + 1
        if self._random is None:
            value = self._given.get(position, 0) if self._given else 0
            if value >= n and not self._far:
                return 0
        elif self._often >= 1.0 or self._random() < self._often:
            value = int(self._random() * n)
        else:
            return 0
        if value:
            self.taken[position] = value
        return value

    def rarely(self, odds: float, options: Sequence[int]) -> int:
        """0, or with ``odds`` one of ``options``, numbers above 0."""
        position = self.position
        self.position = position + 1
        if self._random is None:
            value = self._given.get(position, 0) if self._given else 0
            if value not in options:
                return 0
        elif options and self._random() < odds:
            value = options[int(self._random() * len(options))]
        else:
            return 0
        if value:
            self.taken[position] = value
        return value

    def fraction(self) -> float:
        """From 0 to below 1."""
        return self.choose(FINE) / FINE


class Tape:
    """All streams of one run.

    ``often``: how often the schedule leaves the order things became possible in. ``sparse``: how often the workload
    leaves its defaults, for runs that are simple from the start.
    """

    def __init__(
        self,
        seed: int | str | None = None,
        given: Choices | None = None,
        often: float = 1.0,
        sparse: float = 1.0,
    ) -> None:
        how_often = {"schedule": often, "workload": sparse}
        self.seed = seed
        by_stream: dict[str, dict[int, int]] = {name: {} for name in STREAMS}
        for (name, position), value in (given or {}).items():
            by_stream[name][position] = value

        def stream(name: str) -> Stream:
            chance = None if seed is None or given is not None else random.Random(f"{seed} {name}")
            return Stream(name, chance, by_stream[name], how_often.get(name, 1.0))

        self.schedule, self.faults, self.workload, self.chance = map(stream, STREAMS)

    @property
    def streams(self) -> tuple[Stream, ...]:
        return self.schedule, self.faults, self.workload, self.chance

    def taken(self) -> dict[tuple[str, int], int]:
        """The choices of this run that were not 0."""
        return {(s.name, position): value for s in self.streams for position, value in s.taken.items()}


def token_of(choices: Choices) -> str:
    """A short text from which ``choices_of`` has the choices again."""
    out = bytearray()
    for number, name in enumerate(STREAMS):
        last = 0
        for (_, position), value in sorted(item for item in choices.items() if item[0][0] == name and item[1]):
            out += _varint((position - last) * len(STREAMS) + number) + _varint(value)
            last = position
    packed = zlib.compress(bytes(out), 9)
    body = b"\1" + packed if len(packed) < len(out) else b"\0" + bytes(out)
    check = zlib.crc32(body).to_bytes(4, "big")[:2]
    return "k1-" + base64.urlsafe_b64encode(check + body).rstrip(b"=").decode()


def choices_of(token: str) -> dict[tuple[str, int], int]:
    """Raises InvalidSetting for what is no token, or was cut off."""
    wrong = InvalidSetting("the replay token", token, "one that a sweep printed, k1-…, whole")
    head, _, text = token.partition("-")
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        check, body = raw[:2], raw[2:]
        if head != "k1" or zlib.crc32(body).to_bytes(4, "big")[:2] != check:
            raise wrong
        data = zlib.decompress(body[1:]) if body[0] else body[1:]
    except (ValueError, IndexError, zlib.error):
        raise wrong from None
    choices: dict[tuple[str, int], int] = {}
    numbers, position = iter(_numbers(data)), [0] * len(STREAMS)
    for delta, value in zip(numbers, numbers, strict=True):
        distance, stream = divmod(delta, len(STREAMS))
        position[stream] += distance
        choices[STREAMS[stream], position[stream]] = value
    return choices


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def _numbers(data: bytes) -> list[int]:
    found, number, shift = [], 0, 0
    for byte in data:
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            found.append(number)
            number = shift = 0
    return found
