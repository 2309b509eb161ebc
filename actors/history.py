"""The whole journal of a partition, wherever it lies: the archive first, the store's tail after it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from typing import Final

import orjson

from actors.segment import Row
from actors.segments import Segments
from actors.stores import Journal, Position
from engine.ids import DecisionId
from engine.record import Record

CHUNK: Final = 500


class History:
    """Verbs: get, read, entries, records_of, placed_records_of. Without segments it is the journal alone.

    `foreign` is for readers that do not own the partitions: they look at the archive anew where what they know ends.
    """

    def __init__(self, journal: Journal, segments: Segments | None, *, foreign: bool = False) -> None:
        self._journal, self._segments, self._foreign = journal, segments, foreign

    async def get(self, partition: int, position: Position) -> bytes | None:
        """The entry at exactly this position."""
        payload = await self._journal.get(partition, position)
        if payload is None and self._segments is not None:
            payload = await self._segments.get(partition, position)
        return payload

    async def was_held(self, partition: int, position: Position) -> bool:
        """Whether a position that is not held now was once: it is beyond retention."""
        last = await self._journal.last(partition)
        if last is None or position > last:
            return False
        names = await self._segments.names(partition) if self._segments is not None else []
        if any(name.first <= position <= name.last for name in names):
            return False
        if any(position < name.first for name in names):
            return True
        first = await self._journal.first(partition)
        return first is None or position < first

    async def read(self, partition: int, after: Position | None, limit: int) -> list[Row]:
        """At most `limit` entries after a position (None: from the oldest kept), in journal order."""
        if self._segments is None:
            return await self._journal.read(partition, after, limit)
        while True:
            archived = await self._segments.last(partition)
            if archived is None or after is None or after >= archived:
                archived = await self._segments.last(partition, fresh=self._foreign)
            if archived is not None and (after is None or after < archived):
                rows = await self._segments.read(partition, after, limit)
                if rows:
                    return rows
            start = max((at for at in (after, archived) if at is not None), default=None)
            rows = await self._journal.read(partition, start, limit)
            # What was moved between the two looks would be missing from both.
            if await self._segments.last(partition, fresh=self._foreign) == archived:
                return rows

    async def entries(self, partition: int, after: Position | None = None) -> AsyncIterator[Row]:
        """Every entry after a position, in journal order."""
        while rows := await self.read(partition, after, CHUNK):
            for row in rows:
                yield row
            after = rows[-1][0]

    async def records_of(self, partition: int, tracks: Collection[str]) -> list[Record]:
        """Every record of these tracks, in journal order."""
        return [record for _, record in await self.placed_records_of(partition, tracks)]

    async def placed_records_of(self, partition: int, tracks: Collection[str]) -> list[tuple[DecisionId, Record]]:
        """Every record of these tracks with its place, in journal order."""
        found: list[tuple[DecisionId, Record]] = []
        after: Position | None = None
        if self._segments is not None:
            after, rows = await self._segments.naming(partition, tracks)
            found = [placed for row in rows for placed in _of(partition, row, tracks)]
        async for row in self.entries(partition, after):
            found += _of(partition, row, tracks)
        return found


def _of(partition: int, row: Row, tracks: Collection[str]) -> list[tuple[DecisionId, Record]]:
    position, payload = row
    records = enumerate(orjson.loads(payload)[1:])
    return [(DecisionId(partition, *position, i), r) for i, r in records if r is not None and r[1] in tracks]
