"""Bugs of retry policies, of giving up and of snoozing."""

from __future__ import annotations

from typing import Any

import msgspec

from kashvi import events, retries
from kashvi.errors import InvalidDelay
from kashvi.jobs import envelope
from kashvi.jobs.codec import JobType
from kashvi.retries import Exponential, Retry
from kashvi.worker import attempt, retry, settle
from kashvi.worker.attempt import Attempts
from kashvi.worker.settle import Delivery, Settling

from . import Patch, exhibit, where


@exhibit(
    "a type's limit holds for the first retry",
    "then the worker's default applies",
    "RETRY-8",
    source="Sidekiq #1695: the retried message says 'true'",
    also="JOBS-23 RETRY-1 RETRY-9 RETRY-10 RETRY-11 RETRY-12",
)
def _(patch: Patch) -> None:
    def decide_by(real: Any, policy: Retry, n: int, most: int, *facts: Any) -> Any:
        return real(policy, n, 3, *facts)

    where(patch, retry, "decide_by", lambda policy, n, *rest: bool(policy and policy.attempts and n > 1), decide_by)


@exhibit(
    "a limit in the envelope is not read",
    "a worker that does not know the type goes by its own",
    "RETRY-8",
    source="Laravel #7877: the worker decides",
)
def _(patch: Patch) -> None:
    where(patch, settle, "limit_in", lambda d: True, lambda real, d: 0)


@exhibit(
    "exponential waits overflow",
    "the power is too large for a number before the cap is applied",
    "RETRY-9",
    source="procrastinate #1462: the job disappears forever",
)
def _(patch: Patch) -> None:
    def call(real: Any, self: Exponential, n: int, *facts: Any) -> float:
        return float(min(self.first * self.factor ** (n - 1), self.cap))

    where(patch, Exponential, "__call__", lambda self, n, *facts: n > 100, call)


@exhibit("jitter is added", "on top of the capped wait", "RETRY-9", source="Agenda #1748: jitter can exceed maxDelay")
def _(patch: Patch) -> None:
    def shaken(real: Any, jitter: bool, wait_s: float, chance: float) -> float:
        return wait_s * (1 + chance)

    where(patch, retries, "_shaken", lambda jitter, *rest: bool(jitter), shaken)


@exhibit("a schedule begins with its second wait", "attempts are counted from 1", "RETRY-9")
def _(patch: Patch) -> None:
    def call(real: Any, self: retries.Schedule, n: int, *facts: Any) -> float:
        return float(real(self, n + 1, *facts))

    where(patch, retries.Schedule, "__call__", lambda self, n, *facts: len(self.seconds) > 1, call)


@exhibit(
    "a subclass is another error",
    "give_up_on is compared with the exact class",
    "RETRY-10",
    source="workers that compare names of classes",
    also="RETRY-11",
)
def _(patch: Patch) -> None:
    def decide_by(real: Any, policy: Retry, *facts: Any) -> Any:
        return real(Retry(policy.attempts, policy.backoff, policy.retry_on), *facts)

    def inexact(policy: Retry | None, n: int, most: int, error: BaseException, *rest: Any) -> bool:
        return bool(policy and policy.give_up_on) and type(error) not in policy.give_up_on  # type: ignore

    where(patch, retry, "decide_by", inexact, decide_by)


@exhibit(
    "retry_on beats the limit",
    "an error that is to be retried always is",
    "RETRY-10",
    source="DJJob #14, OCA queue_job #450: retried beyond max_attempts",
    also="DELIVERY-1 DISPATCH-1 RETRY-1 RETRY-3",
)
def _(patch: Patch) -> None:
    where(
        patch, retry, "decide_by",
        lambda policy, n, most, error, *rest: bool(policy and policy.retry_on) and isinstance(error, policy.retry_on),
        lambda real, policy, n, most, *rest: retry.RetryAfter(float(n)),
    )  # fmt: skip


@exhibit("giving up is an error like others", "and is tried again", "RETRY-10", also="QUEUES-8")
def _(patch: Patch) -> None:
    where(
        patch, retry, "decide_by",
        lambda policy, n, most, error, *rest: isinstance(error, retries.GiveUp),
        lambda real, policy, n, most, *rest: retry.decide(n, most),
    )  # fmt: skip


@exhibit(
    "a policy that raises ends the job",
    "it is recorded as failed, with attempts left",
    "RETRY-11",
    source="Threadmill #47: the retry chain ends as if exhausted",
    also="RETRY-1",
)
def _(patch: Patch) -> None:
    def decide_by(real: Any, *facts: Any) -> Any:
        try:
            return real(*facts)
        except InvalidDelay:
            raise
        except BaseException:
            return retry.GiveUp()

    where(patch, retry, "decide_by", lambda policy, *rest: policy is not None, decide_by)


@exhibit(
    "a negative wait is none",
    "the job is due at once, however often",
    "RETRY-11",
    source="Bull #1258: -1 means now",
)
def _(patch: Patch) -> None:
    where(
        patch, retry, "seconds_of",
        lambda wait: isinstance(wait, int | float) and wait < 0,
        lambda real, wait: 0.0,
    )  # fmt: skip


def deployed(self: Attempts, d: Delivery, *rest: Any) -> bool:
    """True if the type's limit is another than at the dispatch."""
    then, now = settle.limit_in(d), self._registry.policy(d.type)
    return bool(then and now and now.attempts and now.attempts != then)


@exhibit(
    "a policy travels with the job",
    "the limit is the one at the dispatch, after a deploy too",
    "RETRY-12",
    source="Laravel #50793: $tries of queued jobs stay as they were",
)
def _(patch: Patch) -> None:
    def failed(
        real: Any, self: Attempts, d: Delivery, ended: float, text: str, error: BaseException, took_s: float
    ) -> Settling:
        most, policy = settle.limit_in(d), self._registry.policy(d.type)
        decision = retry.decide_by(policy, d.attempts + 1, most, error, took_s, self._runtime.random)
        settling = settle.failed(d, ended, text, most, decision)
        settling.type_limit = most
        return settling

    where(patch, Attempts, "_failed", deployed, failed)


@exhibit(
    "a new policy begins anew",
    "the attempts before the deploy are not counted",
    "RETRY-12",
    also="DELIVERY-1 DELIVERY-7 DISPATCH-1",
)
def _(patch: Patch) -> None:
    def failed(real: Any, self: Attempts, d: Delivery, *facts: Any) -> Settling:
        settling: Settling = real(self, msgspec.structs.replace(d, attempts=0) if d.attempts == 1 else d, *facts)
        return settling

    where(patch, Attempts, "_failed", deployed, failed)


@exhibit(
    "a snooze counts",
    "the job asks to be called later, and loses an attempt",
    "RETRY-13",
    source="Laravel docs #4779: release() counts towards the attempts",
    also="RETRY-1 RETRY-2 RETRY-6",
)
def _(patch: Patch) -> None:
    def snoozed(real: Any, d: Delivery, *rest: Any) -> Settling:
        settling: Settling = real(d, *rest)
        settling.attempts += 1
        settling.new = envelope.rewrite(settling.new, d.job_id, attempts=settling.attempts)
        return settling

    where(patch, settle, "snoozed", lambda d, *rest: True, snoozed)


@exhibit(
    "who snoozes stays a suspect",
    "though its attempt ended well, a later death is charged",
    "RETRY-13",
)
def _(patch: Patch) -> None:
    def snoozed(real: Any, d: Delivery, *rest: Any) -> Settling:
        settling: Settling = real(d, *rest)
        settling.new = envelope.rewrite(settling.new, d.job_id, lost=d.lost)
        return settling

    where(patch, settle, "snoozed", lambda d, *rest: d.lost > 0, snoozed)


@exhibit(
    "a snooze of no time is a failure",
    "zero is taken for nothing",
    "RETRY-14",
    source="River #1037: a snooze of zero duration is told as failed",
    also="RETRY-13",
)
def _(patch: Patch) -> None:
    where(
        patch, attempt, "asked_for",
        lambda error: isinstance(error, retries.Snooze) and not error.seconds,
        lambda real, error: (None, error),
    )  # fmt: skip


@exhibit("a job may snooze unseen", "nothing is said, however often", "RETRY-14")
def _(patch: Patch) -> None:
    where(patch, events, "warn", lambda text, *rest: "was snoozed" in text, lambda real, text, *rest: None)


@exhibit(
    "what is no policy is forgotten",
    "a mistake shows at the first failure",
    "JOBS-15",
    source="Celery: an option that it does not know becomes an attribute",
)
def _(patch: Patch) -> None:
    where(patch, retries, "checked", lambda given: not isinstance(given, Retry), lambda real, given: None)


@exhibit("the class's policy wins", "over the one at the registration", "JOBS-15")
def _(patch: Patch) -> None:
    def init(real: Any, self: JobType, name: str, factory: Any, given: Any = None, *rest: Any) -> None:
        real(self, name, factory, None, *rest)

    where(
        patch, JobType, "__init__",
        lambda self, name, factory, given=None, *rest: given and isinstance(vars(factory).get("retry"), Retry),
        init,
    )  # fmt: skip
