"""How much is taken on a second: of more decisions than there is a use for, those of a fair sample of profiles."""

from __future__ import annotations

from typing import Final

from training.attribution import Attribution
from training.keeping import LEAST_SHARE

LOOK_MS: Final = 1_000


class Pace:
    """Halves the profiles that are learned from while more than `most_per_s` examples a second are taken on.

    They are doubled again when a quarter of that comes. Seconds are those of the journal: a backlog that is read at
    once was no rush. What was taken on before stays, and matures. Verbs: hold, look.
    """

    def __init__(self, most_per_s: float) -> None:
        self._most_per_s = most_per_s
        self._at: tuple[int, int] | None = None
        """(watermark, examples taken on until then) at the last look."""
        self._held = False

    def hold(self, attribution: Attribution, until_ms: int) -> None:
        """While all is read that was received until a time: take on half from here on, where it is too much already."""
        if self._at is None or attribution.pace <= LEAST_SHARE:
            return
        now_ms, n = self._at
        if (attribution.counts["cases"] - n) * 1000 > self._most_per_s * max(LOOK_MS, until_ms - now_ms):
            attribution.pace /= 2.0
            self._held = True

    def look(self, attribution: Attribution) -> None:
        """When that is read: by what was taken on since the last look, a second ago or more, take on fewer or more."""
        now_ms, n = attribution.watermark_ms, attribution.counts["cases"]
        if now_ms == 0 or (self._at is not None and now_ms < self._at[0] + LOOK_MS):
            return
        if self._at is not None:
            rate = (n - self._at[1]) * 1000 / (now_ms - self._at[0])
            while not self._held and rate > self._most_per_s and attribution.pace > LEAST_SHARE:
                rate, attribution.pace = rate / 2.0, attribution.pace / 2.0
            if attribution.pace < 1.0 and rate < self._most_per_s / 4.0:
                attribution.pace *= 2.0
        self._at, self._held = (now_ms, n), False
