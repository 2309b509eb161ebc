"""Dice from a seed: the same seed gives the same throws for ever, on every platform, at next to no cost."""

from __future__ import annotations

from typing import Final

_MASK: Final = 0xFFFF_FFFF_FFFF_FFFF
_STEP: Final = 0x9E37_79B9_7F4A_7C15


class SeededDice:
    """SplitMix64: one addition and three mixing steps a throw.

    Seeding `random.Random` takes as long as ranking a handful of offers, and a decision throws once a slot. Source:
    Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (OOPSLA 2014).

    >>> SeededDice(0)._next() == 0xE220A8397B1DCDAF
    True
    """

    __slots__ = ("_state",)

    def __init__(self, seed: int) -> None:
        self._state = seed & _MASK

    def random(self) -> float:
        """A number in [0, 1), even to 53 bits."""
        return (self._next() >> 11) * 2.0**-53

    def _next(self) -> int:
        self._state = z = (self._state + _STEP) & _MASK
        z = ((z ^ (z >> 30)) * 0xBF58_476D_1CE4_E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D0_49BB_1331_11EB) & _MASK
        return z ^ (z >> 31)
