"""The archived part of the journal, by partition: segments added, read by position and range, redacted, expired."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
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
from actors.segment_name import OTHER, SegmentName, folder
from actors.segment_records import Unwanted, kind_of, of_kinds, records_in, without
from actors.stores import Position

FIRST_GUESS: Final = 32 * 1024
"""How much of a segment's end is read at once, in the hope that the whole index is in it."""
KEPT_INDEXES: Final = 64
SLICE_BYTES: Final = 32 * 1024
TRIES: Final = 3


class Segments:
    """Verbs: claim, add, get, read, redact, expire. Only a partition's owner may claim, add, redact and expire.

    Entries of segments that overlap (a fenced writer's last words) are the same but for what was erased, so the later
    writer's are taken.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._names: dict[int, list[SegmentName]] = {}
        self._sizes: dict[SegmentName, int] = {}
        self._indexes: OrderedDict[SegmentName, list[Block]] = OrderedDict()

    # -- what there is ---------------------------------------------------------------------------------

    async def names(self, partition: int, *, fresh: bool = False) -> list[SegmentName]:
        """The segments in force, in the order of their positions; `fresh` asks the archive again."""
        if fresh or partition not in self._names:
            found = await self._listed(partition)
            self._set(partition, [name for name in found if not any(other.replaces(name) for other in found)])
        return self._names[partition]

    async def _listed(self, partition: int) -> list[SegmentName]:
        found = []
        for text, size in await self._archive.list(folder(partition)):
            name = SegmentName.parse(text)
            if name is not None:
                found.append(name)
                self._sizes[name] = size
        return found

    def _set(self, partition: int, names: list[SegmentName]) -> None:
        for gone in set(self._names.get(partition, ())) - set(names):
            self._sizes.pop(gone, None)
            self._indexes.pop(gone, None)
        self._names[partition] = sorted(set(names))

    async def claim(self, partition: int) -> None:
        """Look anew after a change of owner, and delete what a crash has left superseded.

        What a fenced writer adds later is not needed: it may only trim the journal after its segment was there, and
        before the fence that comes before this look.
        """
        names = await self.names(partition, fresh=True)
        for leftover in set(await self._listed(partition)) - set(names):
            await self._archive.delete(str(leftover))
            self._sizes.pop(leftover, None)

    async def first(self, partition: int) -> Position | None:
        """The oldest position still held."""
        names = await self.names(partition)
        return names[0].first if names else None

    async def last(self, partition: int, *, fresh: bool = False) -> Position | None:
        """The newest position that is archived."""
        return max((name.last for name in await self.names(partition, fresh=fresh)), default=None)

    async def size(self, partition: int) -> tuple[int, int]:
        """(segments, bytes)."""
        names = await self.names(partition)
        return len(names), sum(self._sizes[name] for name in names)

    # -- writing ---------------------------------------------------------------------------------------

    async def add(self, partition: int, writer: int, rows: Sequence[Row], now_ms: int) -> SegmentName:
        """Make consecutive entries of the journal a segment; on return it is durable. Undated entries are of now."""
        form, marks, kinds, times = SegmentForm(), set[int](), set[str](), set[int]()
        block: list[Row] = []
        size = since_pause = 0
        for row in rows:
            for record in records_in(row[1]):
                marks.add(mark(record[1]))
                kinds.add(kind_of(record))
                times.add(record[2])
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
        await self._put(name, form.finish())
        self._set(partition, [*await self.names(partition), name])
        return name

    async def _put(self, name: SegmentName, blob: bytes) -> None:
        await self._archive.put(str(name), blob)
        self._sizes[name] = len(blob)

    async def redact(self, partition: int, tracks: Collection[str], unwanted: Unwanted) -> int:
        """Remove for good the records that are unwanted, all of which are of these tracks; returns how many."""
        marks, removed = {mark(track) for track in tracks}, 0
        for name in list(await self.names(partition, fresh=True)):
            removed += await self._rewrite(name, unwanted, marks, name.kinds)
        return removed

    async def expire(self, partition: int, before_ms: Mapping[str, int]) -> int:
        """Delete what is wholly older than its kind's limit; returns the number of segments touched."""
        touched = 0
        for name in list(await self.names(partition)):
            gone = frozenset(kind for kind in name.kinds or OTHER if name.last_ms < before_ms[kind])
            if gone >= set(name.kinds or OTHER):
                await self._delete(name)
            elif gone:
                await self._rewrite(name, of_kinds(gone), None, "".join(k for k in name.kinds if k not in gone))
            touched += bool(gone)
        return touched

    async def _rewrite(self, name: SegmentName, unwanted: Unwanted, marks: Collection[int] | None, kinds: str) -> int:
        """Write a segment anew without some records; blocks that cannot name them (`marks`) are copied as they are."""
        blocks = await self._index(name)
        hit = [marks is None or not block.marks.isdisjoint(marks) for block in blocks]
        if not any(hit):
            return 0
        form, removed = SegmentForm(), 0
        for block, is_hit in zip(blocks, hit, strict=True):
            packed, left = await self._block(name, block), block.marks
            if is_hit:
                rows, n = without(unpack_block(packed), unwanted)
                if n:
                    removed += n
                    packed = await asyncio.to_thread(pack_block, rows)
                    left = frozenset(mark(r[1]) for _, payload in rows for r in records_in(payload))
            form.add(block.first, block.last, packed, left)
        if removed or kinds != name.kinds:
            new = replace(name, kinds=kinds, revision=name.revision + 1)
            await self._put(new, form.finish())
            self._set(name.partition, [n for n in self._names[name.partition] if n != name] + [new])
            await self._archive.delete(str(name))
        return removed

    async def _delete(self, name: SegmentName) -> None:
        await self._archive.delete(str(name))
        self._set(name.partition, [n for n in self._names[name.partition] if n != name])

    # -- reading ---------------------------------------------------------------------------------------

    async def get(self, partition: int, position: Position) -> bytes | None:
        """The entry at exactly this position; another look is taken at the archive before it is said to be absent."""
        for fresh in (False, True):
            for name in reversed(await self.names(partition, fresh=fresh)):
                if name.first <= position <= name.last:
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
            _take(found, name, rows)
            if len(found) >= limit:
                end = sorted(found)[limit - 1]
        return [(position, found[position][1]) for position in sorted(found)[:limit]]

    async def naming(self, partition: int, tracks: Collection[str]) -> tuple[Position | None, list[Row]]:
        """The end of the archive, and of all before it the entries of blocks that may name one of the tracks."""
        marks = {mark(track) for track in tracks}
        for _ in range(TRIES):
            found: dict[Position, tuple[int, bytes]] = {}
            names = await self.names(partition, fresh=True)
            for name in names:
                rows = await self._rows(name, lambda b: not b.marks.isdisjoint(marks))
                if rows is None:
                    break
                _take(found, name, rows)
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
            blocks = await self._index(name)
            rows: list[Row] = []
            for block in blocks:
                if wanted(block):
                    entries = unpack_block(await self._block(name, block))
                    rows += entries if after is None else [row for row in entries if row[0] > after]
                    if limit is not None and len(rows) >= limit:
                        break
        except LookupError:
            return None
        return rows

    async def _index(self, name: SegmentName) -> list[Block]:
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

    async def _block(self, name: SegmentName, block: Block) -> bytes:
        return await self._bytes(name, block.start, block.length)

    async def _bytes(self, name: SegmentName, start: int, length: int) -> bytes:
        found = await self._archive.read(str(name), start, length)
        if found is None:
            raise LookupError(str(name))
        if len(found) != length:
            raise DamagedSegment("damaged_segment", f"{name} is shorter than it was")
        return found


def _take(found: dict[Position, tuple[int, bytes]], name: SegmentName, rows: Sequence[Row]) -> None:
    """Of entries that two writers have archived, the later writer's."""
    for position, payload in rows:
        if position not in found or found[position][0] < name.writer:
            found[position] = name.writer, payload


def _unreadable(partition: int) -> DamagedSegment:
    return DamagedSegment("damaged_segment", f"segments of partition {partition} are listed and cannot be read")
