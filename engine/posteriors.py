"""What outcomes have taught of each offer in each segment: published versions that a Thompson policy draws with."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

ANY: Final = ""
"""The segment of visitors in none, and the offer of those who were shown none."""
OWN_PRECISION: Final = 1.0
"""1/variance of the prior of what an offer changes in log-odds, beyond what the model knows: ±1 is no surprise."""
SEGMENT_PRECISION: Final = 2.0
"""The same of how much more or less it changes in one segment than in all."""
MOST: Final = 2.0
"""Outcomes move a probability by at most so much in log-odds, either way: the rest is the model's to learn."""
_EDGE: Final = 1e-9


class Belief(NamedTuple):
    """Outcomes of one offer in one segment: how many, how many converted, how many the model had expected.

    `spread` is Σ p·(1 − p) of those expectations; where it is unknown, what it would be were they all alike.
    """

    n: float
    converted: float
    expected: float
    spread: float | None = None

    @property
    def weight(self) -> float:
        """Information about log-odds: the spread."""
        if self.spread is not None:
            return self.spread
        return self.expected * max(0.0, 1.0 - self.expected / self.n) if self.n else 0.0


UNKNOWN: Final = Belief(0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Posteriors:
    """Beliefs by `campaign.offer` (`campaign.` for none) and segment, as of one version."""

    version: str
    beliefs: Mapping[str, Mapping[str, Belief]]
    _shifts: dict[str, dict[str | None, float]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_shifts", {key: _shifts_of(by) for key, by in self.beliefs.items()})

    def of(self, key: str, segment: str) -> Belief:
        """What is known of an offer in a segment."""
        return self.beliefs.get(key, {}).get(segment, UNKNOWN)

    def shift(self, key: str, segment: str) -> float:
        """By how much outcomes move the model's log-odds for an offer (or none) in a segment.

        Two levels: the offer's own over all segments, then the segment's around that, each one Newton step from the
        model to the mode under a normal prior: δ = (converted − expected) / (Σ p(1 − p) + precision). Source: Gelman &
        Hill, "Data analysis using regression and multilevel/hierarchical models" (2007), partial pooling. What moves in
        log-odds changes a visitor who is sure to buy by next to nothing, as a factor on the probability would not.
        """
        known = self._shifts.get(key)
        if known is None:
            return 0.0
        found = known.get(segment)
        return known[None] if found is None else found

    def to_bytes(self) -> bytes:
        """The form in which it is published."""
        plain = {key: {s: list(b) for s, b in sorted(by.items())} for key, by in sorted(self.beliefs.items())}
        return json.dumps(plain, ensure_ascii=False, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, version: str, blob: bytes) -> Posteriors:
        """Read `to_bytes` back."""
        beliefs = {key: {s: Belief(*row) for s, row in by.items()} for key, by in json.loads(blob).items()}
        return cls(version, beliefs)


def moved(p: float, shift: float) -> float:
    """A probability with its log-odds moved.

    >>> round(moved(0.5, 1.0), 3), round(moved(0.95, 1.0), 3), moved(0.3, 0.0)
    (0.731, 0.981, 0.3)
    """
    if shift == 0.0:
        return p
    p = min(max(p, _EDGE), 1.0 - _EDGE)
    odds = p / (1.0 - p) * math.exp(shift)
    return odds / (1.0 + odds)


def _shifts_of(by: Mapping[str, Belief]) -> dict[str | None, float]:
    weight = sum(belief.weight for belief in by.values())
    own = _bounded(sum(b.converted - b.expected for b in by.values()) / (weight + OWN_PRECISION))
    shifts: dict[str | None, float] = {None: own}
    for segment, b in by.items():
        rest = b.converted - b.expected - own * b.weight
        shifts[segment] = _bounded(own + rest / (b.weight + SEGMENT_PRECISION))
    return shifts


def _bounded(shift: float) -> float:
    return min(MOST, max(-MOST, shift))
