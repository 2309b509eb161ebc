"""Which messages have taken effect: 64-bit hashes with their receipt, packed sixteen bytes to a message."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Final

SCAN: Final = 64
"""Up to this many hashes are searched one by one; beyond it a set is kept beside them."""


class Seen:
    """Hashes in order of receipt. Verbs: received_ms (of a hash), add, forget (what is older).

    >>> seen = Seen(); seen.add(7, 1000); seen.received_ms(7), seen.received_ms(8)
    (1000, None)
    """

    __slots__ = ("_hashes", "_index", "_times")

    def __init__(self, pairs: Iterable[tuple[int, int]] = ()) -> None:
        self._hashes = array("Q")
        self._times = array("q")
        self._index: set[int] | None = None
        for message, received_ms in pairs:
            self.add(message, received_ms)

    def __len__(self) -> int:
        return len(self._hashes)

    def received_ms(self, message: int) -> int | None:
        """When a message was received; None for one that was not, or is forgotten."""
        if message not in (self._hashes if self._index is None else self._index):
            return None
        # The last of its kind: a message that came again after a day stands twice until the first is forgotten.
        return self._times[len(self._hashes) - 1 - self._hashes[::-1].index(message)]

    def add(self, message: int, received_ms: int) -> None:
        """Remember a message."""
        self._hashes.append(message)
        self._times.append(received_ms)
        if self._index is not None:
            self._index.add(message)
        elif len(self._hashes) > SCAN:
            self._index = set(self._hashes)

    def forget(self, before_ms: int) -> None:
        """Forget from the front what was received before a time."""
        n = 0
        while n < len(self._times) and self._times[n] <= before_ms:
            n += 1
        if n:
            del self._hashes[:n], self._times[:n]
            if self._index is not None:
                self._index = set(self._hashes) if len(self._hashes) > SCAN else None

    def pairs(self) -> list[list[int]]:
        """(hash, receipt) in order of receipt, the form in a snapshot."""
        return [list(pair) for pair in zip(self._hashes, self._times, strict=True)]
