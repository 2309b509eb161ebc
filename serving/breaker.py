"""A circuit breaker: after so many failures in a row nobody is asked for a while, then one is asked to try."""

from __future__ import annotations

from typing import Literal

State = Literal["closed", "open", "trying"]


class Breaker:
    """Verbs: allows, succeeded, failed; each is told the time in seconds.

    It opens for `open_s` after `failures` failures in a row, twice as long after each trial that fails, up to
    `longest_s`. Source: Nygard, "Release It!" (2007), ch. 5.
    """

    def __init__(self, failures: int, open_s: float, longest_s: float) -> None:
        self._limit, self._first_s, self._longest_s = failures, open_s, longest_s
        self._pause_s = open_s
        self._until_s = 0.0
        self._trying = False
        self.n_failures = 0
        self.n_opened = 0

    def state(self, now_s: float) -> State:
        """Whether requests go through, none do, or one may or does try."""
        if self.n_failures < self._limit:
            return "closed"
        return "open" if now_s < self._until_s else "trying"

    def allows(self, now_s: float) -> bool:
        """Whether to ask now; of those who come after a pause the first is the trial."""
        state = self.state(now_s)
        if state == "trying" and not self._trying:
            self._trying = True
            return True
        return state == "closed"

    def succeeded(self) -> None:
        """It answered, and well."""
        self.n_failures, self._trying, self._pause_s = 0, False, self._first_s

    def failed(self, now_s: float) -> None:
        """It did not."""
        self.n_failures += 1
        if self._trying:
            self._pause_s = min(2.0 * self._pause_s, self._longest_s)
        if self.n_failures == self._limit or self._trying:
            self._until_s, self._trying = now_s + self._pause_s, False
            self.n_opened += 1
