"""The tape: all random choices of a run, in streams: scheduling, faults, workload, chance.

Every choice is one integer, 0 the default. A seed fills the tape at random, a token replays the choices that were not
0, and shrinking removes such choices while the run still fails. Each stream counts its own choices, so that one
more draw in the workload does not reshuffle the faults; an attempt's outcome is drawn by its job and its number, so
that the schedule changes no outcome.
"""

from __future__ import annotations

import base64
import hashlib
import random
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Self

from kashvi.errors import UnusableSetting

STREAMS = ("schedule", "faults", "workload", "chance", "attempts")
FINE = 1 << 16
"""The number of values of a fraction."""
TRIES, AGAIN, DRAWS = 64, 16, 4
"""Positions of the stream ``attempts``: the most attempts of a job, starts of an attempt, and choices of a start."""

Choices = Mapping[tuple[str, int], int]
"""The choices by stream and position; a missing one is 0."""


class Stream:
    """One stream: the ``given`` choices, or random ones, which are recorded."""

    def __init__(
        self, name: str, chance: Callable[[], float] | None, given: Mapping[int, int], often: float = 1.0
    ) -> None:
        self.name = name
        self.position = 0
        self.taken: dict[int, int] = {}
        """The choices that were not 0, by position."""
        self._random = chance
        self._given = given
        self._often = often
        self._far = name == "schedule"
        """True if a given place in an order may be beyond the random ones."""

    def choose(self, n: int) -> int:
        """A choice from 0 to ``n`` - 1."""
        position = self.position
        self.position = position + 1
        random = self._random
        if random is None:
            value = self._given.get(position, 0) if self._given else 0
            if value >= n and not self._far:
                return 0
        elif self._often < 1.0 and random() >= self._often:
            return 0
        else:
            value = int(random() * n)
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
        """A fraction from 0 to below 1."""
        return self.choose(FINE) / FINE


class AttemptStream(Stream):
    """Outcomes of attempts: the same attempt at the same job draws the same, whatever was drawn before."""

    def __init__(self, seed: int | str | None, given: Mapping[int, int], often: float = 1.0) -> None:
        super().__init__("attempts", None if seed is None else self._next, given, often)
        self._key = int.from_bytes(hashlib.sha256(f"{seed} attempts".encode()).digest()[:8])
        self._state = 0
        self._begun: Counter[int] = Counter()

    def begin(self, n: int, attempt: int) -> Self:
        """Go to the attempt's first choice. ``n``: the job's number by dispatch. A repeated start draws anew."""
        which = n * TRIES + attempt % TRIES
        again = self._begun[which]
        self._begun[which] = again + 1
        self.position = (which * AGAIN + again % AGAIN) * DRAWS
        self._state = _mixed(self._key + self.position)
        return self

    def _next(self) -> float:
        self._state = (self._state + 0x9E3779B97F4A7C15) & _64_BITS
        return (_mixed(self._state) >> 11) / (1 << 53)


_64_BITS = (1 << 64) - 1


def _mixed(number: int) -> int:
    """Splitmix64: similar numbers give unrelated ones."""
    number = ((number ^ number >> 30) * 0xBF58476D1CE4E5B9) & _64_BITS
    number = ((number ^ number >> 27) * 0x94D049BB133111EB) & _64_BITS
    return number ^ number >> 31


class Tape:
    """All streams of one run.

    ``often``: how often the schedule departs from the order in which tasks became runnable. ``sparse``: how often the
    workload departs from its defaults, for runs that are simple from the start.
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
        drawn = None if given is not None else seed
        by_stream: dict[str, dict[int, int]] = {name: {} for name in STREAMS}
        for (name, position), value in (given or {}).items():
            by_stream[name][position] = value

        def stream(name: str) -> Stream:
            chance = None if drawn is None else random.Random(f"{drawn} {name}").random
            return Stream(name, chance, by_stream[name], how_often.get(name, 1.0))

        self.schedule, self.faults, self.workload, self.chance = map(stream, STREAMS[:-1])
        self.attempts = AttemptStream(drawn, by_stream["attempts"], sparse)

    @property
    def streams(self) -> tuple[Stream, ...]:
        return self.schedule, self.faults, self.workload, self.chance, self.attempts

    def taken(self) -> dict[tuple[str, int], int]:
        """The choices of this run that were not 0."""
        return {(s.name, position): value for s in self.streams for position, value in s.taken.items()}


def token_of(choices: Choices) -> str:
    """A short text that ``choices_of`` decodes."""
    out = bytearray()
    for number, name in enumerate(STREAMS):
        last = 0
        for (_, position), value in sorted(item for item in choices.items() if item[0][0] == name and item[1]):
            out += _varint((position - last) * len(STREAMS) + number) + _varint(value)
            last = position
    packed = zlib.compress(bytes(out), 9)
    body = b"\1" + packed if len(packed) < len(out) else b"\0" + bytes(out)
    check = zlib.crc32(body).to_bytes(4, "big")[:2]
    return "k2-" + base64.urlsafe_b64encode(check + body).rstrip(b"=").decode()


def choices_of(token: str) -> dict[tuple[str, int], int]:
    """The choices in a token. Raises InvalidSetting for any other text and for a truncated token."""
    wrong = UnusableSetting(f"the replay token {token!r}", "it is not a token of a sweep (k2-…), or it is truncated")
    head, _, text = token.partition("-")
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        check, body = raw[:2], raw[2:]
        if head != "k2" or zlib.crc32(body).to_bytes(4, "big")[:2] != check:
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
