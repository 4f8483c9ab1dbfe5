"""The predicate over hooks, as far as events show them."""

from __future__ import annotations

from kashvi.events import AttemptFailed, AttemptSnoozed, AttemptStarted, AttemptSucceeded, HookFailed

from ..judging import Predicate, Watches


class HooksSaveNothing(Predicate):
    """An attempt whose handler raised has not succeeded, whatever a hook does with the error."""

    name = "hooks save nothing"

    def __init__(self) -> None:
        super().__init__()
        self._raised: dict[tuple[str, str, int], str] = {}
        """The attempts in which the handler had raised, and a hook raised too, by job, process and number."""

    def watches(self) -> Watches:
        return {
            HookFailed: self._hook_failed,
            AttemptStarted: self._over,
            AttemptSucceeded: self._succeeded,
            AttemptFailed: self._over,
            AttemptSnoozed: self._over,
        }

    def _hook_failed(self, event: HookFailed) -> None:
        self.judged += 1
        self._raised[event.job_id, event.process, event.attempt] = event.hook

    def _succeeded(self, event: AttemptSucceeded) -> None:
        if self._raised and (hook := self._raised.pop((event.job_id, event.process, event.attempt), "")):
            self.breaks(
                event.job_id, f"attempt {event.attempt} succeeded, and its handler had raised before {hook} did"
            )

    def _over(self, event: AttemptStarted | AttemptFailed | AttemptSnoozed) -> None:
        if self._raised:
            self._raised.pop((event.job_id, event.process, event.attempt), None)
