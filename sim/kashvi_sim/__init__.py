"""kashvi in virtual time."""
