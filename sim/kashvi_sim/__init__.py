"""kashvi in virtual time."""

DRIVERS = ("memory", "fakeredis", "redis")
"""Where the jobs of a simulated world can wait."""
