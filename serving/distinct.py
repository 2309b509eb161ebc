"""Counting distinct texts in bounded memory: exact below 65,536, about 0.4 % off above."""

from __future__ import annotations

import heapq
from hashlib import blake2b
from typing import Final

KEPT: Final = 65_536


class Distinct:
    """Keeps the `KEPT` smallest 64-bit hashes.

    Source: Bar-Yossef, Jayram, Kumar, Sivakumar, Trevisan, "Counting distinct elements in a data stream"
    (RANDOM 2002), k minimum values: (k − 1)·2⁶⁴ / k-th smallest.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._hashes: set[int] = set()
        self._largest_first: list[int] = []
        self.exact = True

    def add(self, text: str) -> None:
        """Count a text, once however often it comes."""
        value = int.from_bytes(blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "big")
        if value in self._hashes:
            return
        if len(self._hashes) < self._kept:
            self._hashes.add(value)
            heapq.heappush(self._largest_first, -value)
            return
        self.exact = False
        if value < -self._largest_first[0]:
            self._hashes.discard(-heapq.heappushpop(self._largest_first, -value))
            self._hashes.add(value)

    @property
    def count(self) -> int:
        """How many there were."""
        if self.exact:
            return len(self._hashes)
        return round((self._kept - 1) * 2**64 / -self._largest_first[0])
