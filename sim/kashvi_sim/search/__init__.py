"""Exhaustive search of a small world."""
