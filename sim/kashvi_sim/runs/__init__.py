"""Workloads played in a world: one run, many seeds, a recording once more."""
