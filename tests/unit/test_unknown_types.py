"""How long a job waits whose type a worker does not know: from the first look of any worker on."""

from __future__ import annotations

import pytest

from kashvi.errors import InvalidSetting
from kashvi.jobs.envelope import read, rewrite
from kashvi.queue import Queue
from kashvi.worker import settle
from kashvi.worker.retry import GiveUp, RetryAfter, decide_unknown
from kashvi.worker.settle import Settling

RAW = b'{"id":"a","type":"jobs.New","payload":{"x": 1.0},"attempts":1,"tenant":7}'


def look(raw: bytes, at: float) -> Settling:
    delivery = settle.delivery(raw, "w", lambda: "id", at)
    return settle.unknown(delivery, 0.0, "unknown job type 'jobs.New'", 600.0)


def test_the_waits_double_and_end_with_the_time_that_is_given() -> None:
    """From one second to ten; a job is looked at some seventy times in ten minutes."""
    at, looks = 0.0, []
    while isinstance(decision := decide_unknown(at, 600.0), RetryAfter):
        looks.append(at)
        at += decision.seconds
    assert looks[:7] == [0, 1, 2, 4, 8, 16, 26]
    assert (len(looks), at) == (64, 606)
    assert decide_unknown(0.0, 0.0) == GiveUp()


def test_the_first_look_is_written_into_the_envelope_and_nothing_else_changes() -> None:
    """So the next worker counts on, and the attempts are what they were."""
    first = look(RAW, 1000.0)
    assert (first.move, first.wait_s, first.postponed) == ("retry", 1.0, True)
    assert first.new == RAW[:-1] + b',"unknown_since":1000.0}'
    again = look(first.new, 1004.0)
    assert (again.wait_s, read(again.new).unknown_since, read(again.new).attempts) == (4.0, 1000.0, 1)


def test_at_the_end_it_is_recorded_as_it_was() -> None:
    """Uncounted; sent back, or retried by a worker that knows it, it starts anew."""
    over = look(rewrite(RAW, "a", unknown_since=1000.0), 1600.0)
    assert (over.move, over.undeliverable, over.attempts) == ("fail", True, 1)
    assert over.new == RAW[:-1] + b',"error":"unknown job type \'jobs.New\'"}'
    failed = settle.failed(settle.delivery(look(RAW, 1000.0).new, "w", lambda: "id", 1001.0), 0.0, "e", 3)
    assert failed.new == RAW.replace(b'"attempts":1', b'"attempts":2')


@pytest.mark.parametrize("since", [b"1e300", b"-5", b"0"])
def test_a_time_that_no_server_can_have_written_makes_no_job_wait_for_ever(since: bytes) -> None:
    """Another program wrote it: the job is recorded, or waits from now."""
    delivery = look(RAW[:-1] + b',"unknown_since":' + since + b"}", 1000.0)
    assert delivery.undeliverable or read(delivery.new).unknown_since == 1000.0


@pytest.mark.parametrize(
    "seconds", [-1, float("nan"), float("inf"), 3.2e9, pytest.param(10**400, id="huge"), True, "10"]
)
def test_the_setting_is_a_number_of_seconds(seconds: object) -> None:
    """0 is one."""
    with pytest.raises(InvalidSetting, match="unknown_for_s must be a number of seconds, 0 or more, up to 100 years"):
        Queue(unknown_for_s=seconds)  # type: ignore[arg-type]
    assert Queue(unknown_for_s=0).unknown_for_s == 0.0
