"""kashvi in virtual time."""

DRIVERS = ("memory", "fakeredis", "redis")
"""The drivers of a simulated world."""
