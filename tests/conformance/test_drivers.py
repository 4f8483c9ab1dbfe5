"""The examples hold on Redis as they do in memory."""

from __future__ import annotations

import fakeredis
import pytest
from kashvi_spec.clauses import Clause
from kashvi_spec.kit.examples import run
from kashvi_spec.kit.situation import example_of

from .test_examples import EXAMPLES, ids_of


@pytest.mark.parametrize(("clause", "text"), EXAMPLES, ids=ids_of(EXAMPLES))
def test_the_example_holds_on_redis(clause: Clause, text: str) -> None:
    """With the real scripts, on fakeredis."""
    ran = run(example_of(text), fakeredis.FakeRedis())
    assert (ran.mistakes, ran.violations) == ([], [])
