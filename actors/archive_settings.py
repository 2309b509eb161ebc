"""The limits of a partition's tail in the store and of its segments in the archive, and how long records are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from actors.segment_name import DECISIONS, OTHER, SIGNALS

MIB: Final = 1024 * 1024
DAY_MS: Final = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class ArchiveSettings:
    """Limits of a partition's tail in the store, and how long each kind of record is kept; times in ms."""

    tail_bytes: int = 8 * MIB
    hard_bytes: int = 32 * MIB
    """Beyond this nothing more is acknowledged until the archive has taken something."""
    segment_bytes: int = 8 * MIB
    """What is moved at once, before compression."""
    merged_bytes: int = 4 * MIB
    """How large a segment may become by merging, compressed."""
    tail_age_ms: int = DAY_MS
    """Older entries are moved whatever the tail's size, those of a quarter of this at a time."""
    every_ms: int = 1_000
    look_ms: int = 600_000
    """How often age, retention and small segments are looked at."""
    scrub_every_ms: int = 60_000
    """How long redacted bytes wait at most for others to be scrubbed from the store's files with them."""
    signals_ms: int = 30 * DAY_MS
    decisions_ms: int = 30 * DAY_MS
    profiles_ms: int = 90 * DAY_MS

    def before_ms(self, now_ms: int) -> dict[str, int]:
        """For each kind of record, the time before which it is beyond retention."""
        kept = {SIGNALS: self.signals_ms, DECISIONS: self.decisions_ms}
        return {**{k: now_ms - v for k, v in kept.items()}, OTHER: now_ms - max(self.profiles_ms, *kept.values())}

    @property
    def merged_ms(self) -> int:
        """How much time a merged segment may span, so that what is in it goes at about the same time."""
        return max(DAY_MS, min(self.signals_ms, self.decisions_ms) // 8)
