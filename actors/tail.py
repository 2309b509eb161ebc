"""The records of a partition that no snapshot covers, by track: kept as read, taken apart when they are asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import KeysView
from typing import Final

import orjson

from actors.stores import Position
from engine.ids import DecisionId
from engine.record import ERASED, FORGOTTEN, LINK_DONE, LINK_INTENT, Record

Placed = tuple[DecisionId, Record]
_UNFINISHED: Final = tuple(b'["%s",' % kind.encode() for kind in (LINK_INTENT, LINK_DONE, ERASED))


class Tail:
    """Verbs: add (an entry), take (a track's records, in order), sort (some entries, oldest first), clear.

    A shard that has taken over a partition decides as soon as its entries have been read: to take all of them apart
    takes ten times as long (measured). Who is asked for before that is looked for by name in their bytes.
    """

    def __init__(self, partition: int) -> None:
        self._partition = partition
        self._raw: deque[tuple[Position, bytes]] = deque()
        self._sorted: dict[str, list[Placed]] = {}
        self._taken: set[str] = set()
        self.n_bytes = 0
        """Of all entries that were added."""

    def __bool__(self) -> bool:
        return bool(self._raw or self._sorted)

    @property
    def n_unsorted(self) -> int:
        """Entries that have not been taken apart."""
        return len(self._raw)

    @property
    def tracks(self) -> KeysView[str]:
        """Tracks with records among the sorted entries."""
        return self._sorted.keys()

    def add(self, position: Position, payload: bytes) -> list[Placed]:
        """One more entry; returns its records where there may be some of links or erasures among them."""
        self._raw.append((position, payload))
        self.n_bytes += len(payload)
        return self._records(position, payload) if any(mark in payload for mark in _UNFINISHED) else []

    def take(self, track_id: str) -> list[Placed]:
        """The records of a track, which are no longer in the tail then."""
        found = self._sorted.pop(track_id, [])
        if self._raw and track_id not in self._taken:
            name = orjson.dumps(track_id)
            for position, payload in self._raw:
                if name in payload:
                    found += [placed for placed in self._records(position, payload) if placed[1][1] == track_id]
            self._taken.add(track_id)
        return found

    def sort(self, n: int) -> None:
        """Take the `n` oldest entries apart."""
        for _ in range(min(n, len(self._raw))):
            for placed in self._records(*self._raw.popleft()):
                track_id = placed[1][1]
                if track_id not in self._taken:
                    self._sorted.setdefault(track_id, []).append(placed)
        if not self._raw:
            self._taken.clear()

    def clear(self) -> None:
        """Drop everything."""
        self._raw.clear()
        self._sorted.clear()
        self._taken.clear()
        self.n_bytes = 0

    def _records(self, position: Position, payload: bytes) -> list[Placed]:
        return [
            (DecisionId(self._partition, *position, index), record)
            for index, record in enumerate(orjson.loads(payload)[1:])
            if record is not None and record[0] != FORGOTTEN
        ]
