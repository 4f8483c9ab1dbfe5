"""Pictures and lines of what happened."""
