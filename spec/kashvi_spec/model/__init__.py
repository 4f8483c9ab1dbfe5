"""The queue as one small pure model: what may happen to jobs and workers, with a decision table of its own.

It is explored to the end (``explore.py``), is the oracle of the property tests of drivers and walks traces
(``walk.py``). It calls nothing of the library, so that a wrong library can't agree with it.
"""
