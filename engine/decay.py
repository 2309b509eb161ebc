"""Sums that fade with event time: forward decay, so that any order of arrival gives the same sum."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class DecayedSum:
    """Σ wᵢ·2^(−(t−tᵢ)/half_life), kept as its value at the latest event time seen.

    Source: Cormode, Shkapenyuk, Srivastava, Xu, "Forward decay" (ICDE 2009), exponential case.

    >>> a, b = DecayedSum(), DecayedSum()
    >>> a.add(1.0, 0, 1000); a.add(1.0, 1000, 1000)
    >>> b.add(1.0, 1000, 1000); b.add(1.0, 0, 1000)
    >>> a.at(1000, 1000) == b.at(1000, 1000) == 1.5
    True
    """

    value: float = 0.0
    at_ms: int = 0

    def add(self, weight: float, t_ms: int, half_life_ms: int) -> None:
        """Add `weight` observed at `t_ms`, which may lie before what was added already."""
        if t_ms >= self.at_ms:
            self.value = self.value * 2.0 ** ((self.at_ms - t_ms) / half_life_ms) + weight
            self.at_ms = t_ms
        else:
            self.value += weight * 2.0 ** ((t_ms - self.at_ms) / half_life_ms)

    def at(self, now_ms: int, half_life_ms: int) -> float:
        """The sum as seen at `now_ms`; a time before the latest event counts as that event's time."""
        if self.value == 0.0 or now_ms <= self.at_ms:
            return self.value
        return float(self.value * 2.0 ** ((self.at_ms - now_ms) / half_life_ms))
