"""Choices: drawn, written down, replayed, put into a token, taken away."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kashvi_sim.runs.shrink import shrink
from kashvi_sim.world.tape import STREAMS, Tape, choices_of, token_of

from kashvi.errors import InvalidSetting

CHOICES = st.dictionaries(
    st.tuples(st.sampled_from(STREAMS), st.integers(0, 10**6)), st.integers(1, 2**16), max_size=40
)


def drawn(tape: Tape) -> list[int]:
    return [
        value
        for _ in range(50)
        for value in (tape.schedule.choose(3), tape.faults.rarely(0.3, (4, 9)), tape.workload.choose(1000))
    ]


def test_a_tape_without_a_seed_is_all_defaults() -> None:
    """Nothing fails, and the first runnable goes first."""
    assert set(drawn(Tape())) == {0}


def test_the_same_seed_draws_the_same_and_another_seed_another() -> None:
    """Also the same seed in words."""
    assert drawn(Tape(1)) == drawn(Tape(1)) != drawn(Tape(2))


def test_what_was_taken_is_replayed() -> None:
    """From the choices alone, without the seed."""
    tape = Tape(5)
    first = drawn(tape)
    assert drawn(Tape(given=tape.taken())) == first


def test_one_more_draw_in_a_stream_leaves_the_others_as_they_were() -> None:
    """Or a longer workload would be a different storm."""
    one, other = Tape(5), Tape(5)
    other.workload.choose(9)
    assert [one.faults.choose(99) for _ in range(20)] == [other.faults.choose(99) for _ in range(20)]


def test_an_attempt_draws_the_same_whoever_goes_first() -> None:
    """By its job and its number; made once more, it may go otherwise."""

    def drawn_for(tape: Tape, *attempts: tuple[int, int]) -> dict[tuple[int, int], list[int]]:
        return {one: [tape.attempts.begin(*one).choose(1000) for _ in range(2)] for one in attempts}

    one, other = Tape(5), Tape(5)
    assert drawn_for(one, (0, 1), (0, 2), (1, 1)) == drawn_for(other, (1, 1), (0, 1), (0, 2))
    assert len({tuple(values) for values in drawn_for(Tape(6), *((n, 1) for n in range(50))).values()}) == 50
    replayed = Tape(given=one.taken())
    assert drawn_for(replayed, (1, 1), (0, 2), (0, 1)) == drawn_for(Tape(5), (0, 1), (0, 2), (1, 1))


def test_a_choice_that_is_not_possible_any_more_is_the_default() -> None:
    """A shrunk run offers less than the whole one did."""
    tape = Tape(given={("faults", 0): 7, ("workload", 0): 2})
    assert tape.faults.rarely(1.0, (1, 2)) == 0
    assert tape.workload.choose(2) == 0
    assert tape.taken() == {}


def test_a_place_in_the_order_can_be_given_beyond_those_that_chance_gives() -> None:
    """A search finds orders that need it."""
    tape = Tape(given={("schedule", 0): 7})
    assert tape.schedule.choose(3) == 7


@given(CHOICES)
def test_a_token_has_the_choices_again(choices: dict[tuple[str, int], int]) -> None:
    """Whatever they are."""
    assert choices_of(token_of(choices)) == choices


def test_a_token_of_eight_choices_is_short() -> None:
    """Short enough for a chat message."""
    choices = {("faults", 5_000 * n): 20 for n in range(1, 5)} | {("workload", 9_000 * n): 60_000 for n in range(1, 5)}
    assert len(token_of(choices)) <= 80


@pytest.mark.parametrize("bad", ["", "k2-", "k2-AAAA", "k1-AAAA", "nonsense", "k2-é", "k2-zzzzzzzzzzz"])
def test_what_is_no_token_is_refused(bad: str) -> None:
    """It may have been cut off."""
    with pytest.raises(InvalidSetting, match="replay token"):
        choices_of(bad)


def test_a_token_that_was_cut_off_is_refused() -> None:
    """At any length."""
    token = token_of({("faults", 3): 4, ("workload", 70): 5})
    for length in range(len(token)):
        with pytest.raises(InvalidSetting):
            choices_of(token[:length])


@given(CHOICES, st.data())
def test_shrinking_keeps_what_the_failure_needs_and_nothing_else(
    choices: dict[tuple[str, int], int], data: st.DataObject
) -> None:
    """Here, some of the choices, at least as large as they need to be."""
    needed = data.draw(st.sets(st.sampled_from(sorted(choices)), max_size=5)) if choices else set()

    def fails(some: dict[tuple[str, int], int]) -> bool:
        return all(some.get(key, 0) >= 1 for key in needed)

    left = shrink(choices, fails, tries=100_000)
    assert set(left) == needed
    assert all(value == 1 for value in left.values())
    few = shrink(choices, fails, tries=100_000, enough=3)
    assert fails(few)
    assert len(few) <= max(3, len(needed))
