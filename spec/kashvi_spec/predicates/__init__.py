"""Predicates over a trace, one module a subject."""
