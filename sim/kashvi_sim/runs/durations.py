"""How long something takes, by chance."""

from __future__ import annotations

import math

from ..world.tape import Stream
from .fields import Positive, Seconds, Strict


class Fixed(Strict, frozen=True, tag_field="kind", tag="fixed"):
    """Always the same duration."""

    seconds: Seconds

    def draw(self, chance: Stream) -> float:
        return self.seconds


class Uniform(Strict, frozen=True, tag_field="kind", tag="uniform"):
    """Uniformly distributed."""

    least_s: Seconds
    most_s: Seconds

    def draw(self, chance: Stream) -> float:
        return self.least_s + (self.most_s - self.least_s) * chance.fraction()


class Exponential(Strict, frozen=True, tag_field="kind", tag="exponential"):
    """Exponentially distributed: mostly short, memoryless."""

    mean_s: Positive

    def draw(self, chance: Stream) -> float:
        return -self.mean_s * math.log1p(-chance.fraction())


class LogNormal(Strict, frozen=True, tag_field="kind", tag="lognormal"):
    """Log-normally distributed, as many real services: half take up to ``median_s``, a few take very long."""

    median_s: Positive
    sigma: Positive

    def draw(self, chance: Stream) -> float:
        radius = math.sqrt(-2.0 * math.log1p(-chance.fraction()))
        return self.median_s * math.exp(self.sigma * radius * math.cos(2 * math.pi * chance.fraction()))


class OneOf(Strict, frozen=True, tag_field="kind", tag="one_of"):
    """One of these, equally likely."""

    seconds: tuple[Seconds, ...]

    def draw(self, chance: Stream) -> float:
        return self.seconds[chance.choose(len(self.seconds))]


Duration = Fixed | Uniform | Exponential | LogNormal | OneOf
