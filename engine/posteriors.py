"""What outcomes have taught of each offer in each segment: published versions that a Thompson policy draws with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

ANY: Final = ""
"""The segment of visitors in none, and the offer of those who were shown none."""
SHRINK: Final = 20.0
"""Conversions' worth of trust in the model's own figure, before outcomes move it."""
MOST: Final = 2.0
"""Outcomes move a probability by at most this factor, either way: the rest is the model's to learn."""


class Belief(NamedTuple):
    """Outcomes of one offer in one segment: how many, how many converted, how many the model had expected."""

    n: float
    converted: float
    expected: float


UNKNOWN: Final = Belief(0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Posteriors:
    """Beliefs by `campaign.offer` (`campaign.` for none) and segment, as of one version."""

    version: str
    beliefs: Mapping[str, Mapping[str, Belief]]

    def of(self, key: str, segment: str) -> Belief:
        """What is known of an offer in a segment."""
        return self.beliefs.get(key, {}).get(segment, UNKNOWN)

    def ratio(self, key: str, segment: str) -> float:
        """Observed conversions over expected ones, shrunk towards 1, relative to those of visitors shown nothing.

        Gamma–Poisson: a rate with prior Gamma(k, k) after c events where e were expected has mean (k + c) / (k + e).
        """
        none = f"{key.partition('.')[0]}."
        found = _rate(self.of(key, segment)) / _rate(self.of(none, segment))
        return min(MOST, max(1.0 / MOST, found))

    def to_bytes(self) -> bytes:
        """The form in which it is published."""
        plain = {key: {s: list(b) for s, b in sorted(by.items())} for key, by in sorted(self.beliefs.items())}
        return json.dumps(plain, ensure_ascii=False, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, version: str, blob: bytes) -> Posteriors:
        """Read `to_bytes` back."""
        beliefs = {key: {s: Belief(*row) for s, row in by.items()} for key, by in json.loads(blob).items()}
        return cls(version, beliefs)


def _rate(belief: Belief) -> float:
    return (SHRINK + belief.converted) / (SHRINK + belief.expected)
