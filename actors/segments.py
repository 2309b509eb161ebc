"""The archived part of the journal, by partition: segments added, and read by position, range and track."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from typing import Final

from actors.archive import Archive
from actors.segment import (
    BLOCK_BYTES,
    TRAILER,
    Block,
    DamagedSegment,
    Row,
    SegmentForm,
    index_length,
    mark,
    pack_block,
    read_index,
    unpack_block,
)
from actors.segment_name import SegmentName, folder, in_force
from actors.segment_records import heads_in, kind_of
from actors.stores import Position

FIRST_GUESS: Final = 32 * 1024
"""How much of a segment's end is read at once, in the hope that the whole index is in it."""
KEPT_INDEXES: Final = 64
SLICE_BYTES: Final = 32 * 1024
TRIES: Final = 3


class Segments:
    """Verbs: names, add, get, read, naming. Only a partition's owner may add; `SegmentUpkeep` has its other rights.

    Entries of segments that overlap (a fenced writer's last words) are the same but for what was erased, so the later
    writer's are taken.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._names: dict[int, list[SegmentName]] = {}
        self._sizes: dict[SegmentName, int] = {}
        self._indexes: OrderedDict[SegmentName, list[Block]] = OrderedDict()
        self._changes: dict[int, int] = {}

    # -- what there is ---------------------------------------------------------------------------------

    async def names(self, partition: int, *, fresh: bool = False) -> list[SegmentName]:
        """The segments in force, in the order of their positions; `fresh` asks the archive again."""
        if fresh or partition not in self._names:
            await self.look(partition)
        return self._names[partition]

    async def look(self, partition: int) -> list[SegmentName]:
        """Ask the archive what there is; returns those segments that are there and no longer in force."""
        while True:
            before = self._changes.get(partition)
            listed = await self._archive.list(folder(partition))
            # A listing that was under way while a segment came or went may have neither the old nor the new.
            if self._changes.get(partition) == before:
                break
        sizes = {name: size for text, size in listed if (name := SegmentName.parse(text)) is not None}
        held = in_force(sizes)
        self._sizes.update((name, sizes[name]) for name in held)
        self.put_in_force(partition, held)
        return sorted(sizes.keys() - set(held))

    def put_in_force(self, partition: int, names: Collection[SegmentName]) -> None:
        """These, and no others, are the partition's segments from now on."""
        held = set(names)
        for gone in set(self._names.get(partition, ())) - held:
            self._sizes.pop(gone, None)
            self._indexes.pop(gone, None)
        self._names[partition] = sorted(held)

    async def first(self, partition: int) -> Position | None:
        """The oldest position still held."""
        names = await self.names(partition)
        return names[0].first if names else None

    async def last(self, partition: int, *, fresh: bool = False) -> Position | None:
        """The newest position that is archived."""
        return max((name.last for name in await self.names(partition, fresh=fresh)), default=None)

    def size_of(self, name: SegmentName) -> int:
        """Bytes of a segment in force; LookupError where it is not."""
        return self._sizes[name]

    # -- writing ---------------------------------------------------------------------------------------

    async def add(self, partition: int, writer: int, rows: Sequence[Row], now_ms: int) -> SegmentName:
        """Make consecutive entries of the journal a segment; on return it is durable. Undated entries are of now."""
        form, marks, kinds, times = SegmentForm(), set[int](), set[str](), set[int]()
        block: list[Row] = []
        size = since_pause = 0
        for row in rows:
            for head in heads_in(row[1]):
                marks.add(mark(head.track))
                kinds.add(kind_of(head))
                times.add(head.received_ms)
            block.append(row)
            size += len(row[1])
            since_pause += len(row[1])
            if since_pause > SLICE_BYTES:
                since_pause = 0
                await asyncio.sleep(0)
            if size >= BLOCK_BYTES or row is rows[-1]:
                form.add(block[0][0], block[-1][0], await asyncio.to_thread(pack_block, block), marks)
                block, marks, size = [], set(), 0
        dated = (min(times), max(times)) if times else (now_ms, now_ms)
        name = SegmentName(partition, rows[0][0], rows[-1][0], *dated, "".join(sorted(kinds)), writer, 0)
        await self.put(name, form.finish())
        return name

    async def put(self, name: SegmentName, blob: bytes, instead_of: Collection[SegmentName] = ()) -> None:
        """Write a segment, durably, then let go of those that it takes the place of."""
        await self._archive.put(str(name), blob)
        self._changed(name.partition)
        held = set(await self.names(name.partition)) - set(instead_of)
        self._sizes[name] = len(blob)
        self.put_in_force(name.partition, {*held, name})
        for old in instead_of:
            await self._archive.delete(str(old))
        self._changed(name.partition)

    async def delete(self, name: SegmentName) -> None:
        """Forget a segment for good."""
        await self._archive.delete(str(name))
        self._changed(name.partition)
        self.put_in_force(name.partition, set(await self.names(name.partition)) - {name})

    def _changed(self, partition: int) -> None:
        self._changes[partition] = self._changes.get(partition, 0) + 1

    # -- reading ---------------------------------------------------------------------------------------

    async def get(self, partition: int, position: Position) -> bytes | None:
        """The entry at exactly this position; another look is taken at the archive before it is said to be absent."""
        for fresh in (False, True):
            covering = [n for n in await self.names(partition, fresh=fresh) if n.first <= position <= n.last]
            for name in sorted(covering, key=lambda n: (n.writer, n.revision), reverse=True):
                rows = await self._rows(name, lambda b: b.first <= position <= b.last)
                if rows is None:
                    break  # replaced meanwhile: look anew
                at = bisect_left(rows, position, key=lambda row: row[0])
                if at < len(rows) and rows[at][0] == position:
                    return rows[at][1]
        return None

    async def read(self, partition: int, after: Position | None, limit: int) -> list[Row]:
        """At most `limit` entries after a position, in journal order; empty where the archive ends."""
        for _ in range(TRIES):
            found = await self._read(partition, after, limit)
            if found is not None:
                return found
            await self.names(partition, fresh=True)
        raise _unreadable(partition)

    async def _read(self, partition: int, after: Position | None, limit: int) -> list[Row] | None:
        found: dict[Position, tuple[int, bytes]] = {}
        end: Position | None = None
        for name in await self.names(partition):
            if (after is not None and name.last <= after) or (end is not None and name.first > end):
                continue
            rows = await self._rows(name, lambda b: after is None or b.last > after, after, limit)
            if rows is None:
                return None
            take(found, name, rows)
            if len(found) >= limit:
                end = sorted(found)[limit - 1]
        return [(position, found[position][1]) for position in sorted(found)[:limit]]

    async def naming(self, partition: int, tracks: Collection[str]) -> tuple[Position | None, list[Row]]:
        """The end of the archive, and of all before it the entries of blocks that may name one of the tracks."""
        marks = {mark(track) for track in tracks}
        for _ in range(TRIES):
            found: dict[Position, tuple[int, bytes]] = {}
            names = list(await self.names(partition, fresh=True))
            for name in names:
                rows = await self._rows(name, lambda b: not b.marks.isdisjoint(marks))
                if rows is None:
                    break
                take(found, name, rows)
            else:
                return max((name.last for name in names), default=None), [(at, found[at][1]) for at in sorted(found)]
        raise _unreadable(partition)

    async def _rows(
        self,
        name: SegmentName,
        wanted: Callable[[Block], bool],
        after: Position | None = None,
        limit: int | None = None,
    ) -> list[Row] | None:
        try:
            blocks = await self.index(name)
            rows: list[Row] = []
            for block in blocks:
                if wanted(block):
                    entries = unpack_block(await self._bytes(name, block.start, block.length))
                    rows += entries if after is None else [row for row in entries if row[0] > after]
                    if limit is not None and len(rows) >= limit:
                        break
        except LookupError:
            return None
        return rows

    async def index(self, name: SegmentName) -> list[Block]:
        """Where everything lies in a segment; LookupError where it is no longer there."""
        held = self._indexes.get(name)
        if held is not None:
            self._indexes.move_to_end(name)
            return held
        size = self._sizes[name]
        end = await self._bytes(name, max(0, size - FIRST_GUESS), min(size, FIRST_GUESS))
        length = index_length(end) + TRAILER
        if length > len(end):
            end = await self._bytes(name, size - length, length)
        index = read_index(end[len(end) - length : len(end) - TRAILER])
        self._indexes[name] = index
        while len(self._indexes) > KEPT_INDEXES:
            self._indexes.popitem(last=False)
        return index

    async def blob(self, name: SegmentName) -> bytes:
        """A whole segment; LookupError where it is no longer there."""
        return await self._bytes(name, 0, self._sizes[name])

    async def _bytes(self, name: SegmentName, start: int, length: int) -> bytes:
        found = await self._archive.read(str(name), start, length)
        if found is None:
            raise LookupError(str(name))
        if len(found) != length:
            raise DamagedSegment("damaged_segment", f"{name} is shorter than it was")
        return found


def take(found: dict[Position, tuple[int, bytes]], name: SegmentName, rows: Sequence[Row]) -> None:
    """Of entries that two writers have archived, the later writer's."""
    for position, payload in rows:
        if position not in found or found[position][0] < name.writer:
            found[position] = name.writer, payload


def _unreadable(partition: int) -> DamagedSegment:
    return DamagedSegment("damaged_segment", f"segments of partition {partition} are listed and cannot be read")
