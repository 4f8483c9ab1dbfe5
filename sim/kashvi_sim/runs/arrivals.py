"""When jobs come: each kind gives the gaps before them."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec

from kashvi.errors import InvalidSetting

from ..world.tape import Stream
from .fields import Count, Positive, Seconds, Strict


class AtOnce(Strict, frozen=True, tag_field="process", tag="at_once"):
    """All jobs at the start."""

    jobs: Count

    def gaps(self, chance: Stream) -> Iterator[float]:
        yield from (0.0 for _ in range(self.jobs))


class Poisson(Strict, frozen=True, tag_field="process", tag="poisson"):
    """Independent arrivals, ``rate`` a second on average."""

    jobs: Count
    rate: Positive

    def gaps(self, chance: Stream) -> Iterator[float]:
        for _ in range(self.jobs):
            yield -math.log1p(-chance.fraction()) / self.rate


class Regular(Strict, frozen=True, tag_field="process", tag="regular"):
    """One every ``every_s``."""

    jobs: Count
    every_s: Positive

    def gaps(self, chance: Stream) -> Iterator[float]:
        yield from (self.every_s for _ in range(self.jobs))


class Bursts(Strict, frozen=True, tag_field="process", tag="bursts"):
    """``size`` at once, every ``every_s``."""

    bursts: Count
    size: Count
    every_s: Positive

    def gaps(self, chance: Stream) -> Iterator[float]:
        for _ in range(self.bursts):
            yield self.every_s
            yield from (0.0 for _ in range(self.size - 1))


class Daily(Strict, frozen=True, tag_field="process", tag="daily"):
    """Independent arrivals, more by day than by night: ``per_day`` on average, by the hours' weights.

    Begins at midnight, and goes on into the next day until all jobs have come.
    """

    jobs: Count
    per_day: Positive
    hours: Annotated[tuple[Seconds, ...], msgspec.Meta(min_length=24, max_length=24)]

    def gaps(self, chance: Stream) -> Iterator[float]:
        total = sum(self.hours)
        if total <= 0:
            raise InvalidSetting("the daily curve's hours", self.hours, "24 weights, some above 0")
        rates = [weight / total * self.per_day / 3600 for weight in self.hours]
        now, hour, left_s = 0.0, 0, 3600.0
        for _ in range(self.jobs):
            came, wanted = now, -math.log1p(-chance.fraction())
            while wanted > rates[hour] * left_s:
                wanted -= rates[hour] * left_s
                now, hour, left_s = now + left_s, (hour + 1) % 24, 3600.0
            step = wanted / rates[hour] if wanted else 0.0
            now, left_s = now + step, left_s - step
            yield now - came


class Times(Strict, frozen=True, tag_field="process", tag="times"):
    """Arrivals from a CSV file: seconds from the start in its first column; the first line may be a heading.

    ``file`` is relative to the workload's file. It is read when the run begins.
    """

    file: str

    def gaps(self, chance: Stream) -> Iterator[float]:
        before = 0.0
        for at in sorted(self._times()):
            yield at - before
            before = at

    def _times(self) -> Iterator[float]:
        with Path(self.file).open(newline="", encoding="utf-8") as lines:
            for number, row in enumerate(csv.reader(lines), 1):
                try:
                    at = float(row[0]) if row else -1.0
                except ValueError:
                    at = -1.0
                if 0 <= at < math.inf:
                    yield at
                elif row and number > 1:
                    wanted = "seconds, 0 or more, in its first column"
                    raise InvalidSetting(f"line {number} of {self.file}", ",".join(row), wanted)


class Handful(Strict, frozen=True, tag_field="process", tag="handful"):
    """From ``least`` to ``most`` jobs, some together and some apart, to find bugs."""

    least: Count
    most: Count
    gap_s: tuple[Seconds, ...] = (0.0, 0.01, 1.0)

    def gaps(self, chance: Stream) -> Iterator[float]:
        for _ in range(self.least + chance.choose(self.most - self.least + 1)):
            yield self.gap_s[chance.choose(len(self.gap_s))]


Arrivals = AtOnce | Poisson | Regular | Bursts | Daily | Times | Handful
