"""What the owner of a partition does to its archived segments: erased and expired records go, small ones are merged."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Final

from actors.archive_settings import DAY_MS
from actors.segment import BLOCK_BYTES, Block, DamagedSegment, Row, SegmentForm, mark, pack_block, unpack_block
from actors.segment_name import OTHER, SegmentName
from actors.segment_records import Unwanted, heads_in, kind_of, without
from actors.segments import Segments, take
from actors.stores import Position
from engine.errors import Fenced, Unavailable
from engine.record import Record

log = logging.getLogger("kairos.archive")

FAN_IN: Final = 8
"""So many neighbours at least are merged at once."""
SLACK_MS: Final = DAY_MS
"""How long after its time a record may still be in a segment with younger ones."""
SMALL_BLOCK: Final = 8 * 1024
"""Packed blocks below this are packed anew together when segments are merged."""

Packed = tuple[Position, Position, bytes, Collection[int]]
"""A block's first and last position, its bytes, and the marks of the tracks that it names."""


class SegmentUpkeep:
    """Verbs: tidy, redact, expire, merge. Each writes what is new before it deletes what is old.

    So a crash leaves both, of which readers take the new one; `tidy` deletes the old. Segments are written under the
    epoch of the owner: what an earlier owner still writes never takes the place of what a later one has.
    """

    def __init__(self, segments: Segments) -> None:
        self._segments = segments
        self._thinned: dict[SegmentName, int] = {}
        self._damaged: set[SegmentName] = set()

    async def tidy(self, partition: int) -> None:
        """Look anew, and delete what a crash, a failure or an earlier owner has left superseded.

        What a fenced writer adds later is not needed: it may only trim the journal after its segment was there, and
        before the fence that comes before the first look of the next owner.
        """
        for leftover in await self._segments.look(partition):
            await self._segments.delete(leftover)

    # -- what was erased -------------------------------------------------------------------------------

    async def redact(self, partition: int, writer: int, tracks: Collection[str], unwanted: Unwanted) -> int:
        """Remove for good the records that are unwanted, all of which are of these tracks; returns how many.

        What is damaged so that nobody can read it is removed with them.
        """
        await self.tidy(partition)
        marks, removed = {mark(track) for track in tracks}, 0
        for name in list(await self._segments.names(partition)):
            try:
                removed += await self._rewrite(name, writer, unwanted, marks, name.kinds, keep_damaged=False)
            except DamagedSegment as damage:
                log.error("%s cannot be read and is removed with an erasure: %s", name, damage.message)
                await self._segments.delete(name)
        return removed

    # -- what is beyond its retention ------------------------------------------------------------------

    async def expire(self, partition: int, writer: int, before_ms: Mapping[str, int], now_ms: int) -> int:
        """Delete what is older than its kind's limit; returns the number of segments touched.

        A segment goes when all of it is older, a kind when all that a segment can have of it is, and single records
        when they have been for a day.
        """
        await self.tidy(partition)
        names, touched = list(await self._segments.names(partition)), 0
        self._thinned = {name: at for name, at in self._thinned.items() if name.partition != partition or name in names}
        for name in names:
            kinds = name.kinds or OTHER
            gone = frozenset(kind for kind in kinds if name.last_ms < before_ms[kind])
            if gone >= set(kinds):
                await self._segments.delete(name)
                touched += 1
                continue
            late = {k: before_ms[k] for k in kinds if k not in gone and name.first_ms < before_ms[k] - SLACK_MS}
            if late and abs(now_ms - self._thinned.get(name, -SLACK_MS)) < SLACK_MS:
                late = {}
            if gone or late:
                touched += await self._thin(name, writer, gone, late, now_ms)
        return touched

    async def _thin(
        self, name: SegmentName, writer: int, gone: frozenset[str], late: Mapping[str, int], now_ms: int
    ) -> bool:
        def unwanted(_position: Position, _index: int, record: Record) -> bool:
            kind = kind_of(record)
            return kind in gone or (kind in late and record[2] < late[kind])

        left = "".join(kind for kind in name.kinds if kind not in gone)
        try:
            removed = await self._rewrite(name, writer, unwanted, None, left)
        except DamagedSegment as damage:
            self._tell(name, damage)
            return False
        if late:
            same = [n for n in await self._segments.names(name.partition) if n.first == name.first]
            self._thinned.update((n, now_ms) for n in same)
        return bool(removed or gone)

    async def _rewrite(
        self,
        name: SegmentName,
        writer: int,
        unwanted: Unwanted,
        marks: Collection[int] | None,
        kinds: str,
        *,
        keep_damaged: bool = True,
    ) -> int:
        """Write a segment anew without some records; blocks that cannot name them (`marks`) are copied as they are."""
        try:
            blocks = await self._segments.index(name)
            if not any(_may_name(block, marks) for block in blocks):
                return 0
            blob = await self._segments.blob(name)
        except LookupError:
            raise Unavailable("archive_unavailable", f"{name} is listed and is not there") from None
        form, removed = SegmentForm(), 0
        for block in blocks:
            packed, left = blob[block.start : block.start + block.length], block.marks
            if _may_name(block, marks):
                try:
                    rows, n = without(unpack_block(packed), unwanted)
                except DamagedSegment as damage:
                    if keep_damaged:
                        raise
                    log.error("a block of %s cannot be read and is removed with an erasure: %s", name, damage.message)
                    rows, n = [], 1
                if n:
                    removed += n
                    packed = await asyncio.to_thread(pack_block, rows)
                    left = _marks(rows)
            form.add(block.first, block.last, packed, left)
            await asyncio.sleep(0)
        if removed or kinds != name.kinds:
            new = replace(self._renamed(name, writer), kinds=kinds)
            await self._segments.put(new, form.finish(), [name])
        return removed

    def _renamed(self, name: SegmentName, writer: int) -> SegmentName:
        if name.writer > writer:
            raise Fenced("fenced", f"{name} was written under epoch {name.writer}, not {writer}")
        return replace(name, writer=writer, revision=name.revision + 1 if name.writer == writer else 0)

    # -- small ones ------------------------------------------------------------------------------------

    async def merge(self, partition: int, writer: int, max_bytes: int, max_ms: int) -> int:
        """Make one segment of some small neighbours; returns of how many, 0 when nothing is to be merged.

        At most `max_bytes` are in memory for it, and at most `max_ms` of time in the result. A segment is not merged
        again before what it is merged with is as large as itself, so that a byte is copied a few times in its life.
        """
        names = [name for name in await self._segments.names(partition) if name not in self._damaged]
        run = self._overlapping(names) or self._run(names, max_bytes, max_ms)
        if not run:
            return 0
        if max(name.writer for name in run) > writer:
            raise Fenced("fenced", f"partition {partition} has segments of a later epoch than {writer}")
        blocks: list[Packed] = []
        overlap = bool(self._overlapping(run))
        found: dict[Position, tuple[int, bytes]] = {}
        for name in run:
            try:
                index, blob = await self._segments.index(name), await self._segments.blob(name)
                parts: list[Packed] = [(b.first, b.last, blob[b.start : b.start + b.length], b.marks) for b in index]
                if overlap:
                    take(found, name, await asyncio.to_thread(_unpacked, parts))
                blocks += parts
            except LookupError:
                raise Unavailable("archive_unavailable", f"{name} is listed and is not there") from None
            except DamagedSegment as damage:
                self._tell(name, damage)
                return 0
        if overlap:
            blocks = await asyncio.to_thread(_packed, [(at, found[at][1]) for at in sorted(found)])
        else:
            try:
                blocks = await asyncio.to_thread(_joined, blocks)
            except DamagedSegment as damage:
                for name in run:
                    self._tell(name, damage)
                return 0
        form = SegmentForm()
        for block in blocks:
            form.add(*block)
        await self._segments.put(_merged_name(run, writer), form.finish(), run)
        return len(run)

    def _overlapping(self, names: list[SegmentName]) -> list[SegmentName]:
        """The first neighbours that hold the same positions: the last words of a fenced writer are among them."""
        for earlier, later in pairwise(names):
            if later.first <= earlier.last:
                return [earlier, later]
        return []

    def _run(self, names: list[SegmentName], max_bytes: int, max_ms: int) -> list[SegmentName]:
        for start in range(len(names) - FAN_IN + 1):
            total = largest = 0
            until = start
            first_ms, last_ms = names[start].first_ms, names[start].last_ms
            for end in range(start, len(names)):
                name, size = names[end], self._segments.size_of(names[end])
                first_ms, last_ms = min(first_ms, name.first_ms), max(last_ms, name.last_ms)
                total, largest = total + size, max(largest, size)
                if total > max_bytes or last_ms - first_ms > max_ms:
                    break
                if end - start + 1 >= FAN_IN and 2 * largest <= total:
                    until = end + 1
            if until > start:
                return names[start:until]
        return []

    def _tell(self, name: SegmentName, damage: DamagedSegment) -> None:
        if name not in self._damaged:
            self._damaged.add(name)
            log.error("%s is left as it is: %s", name, damage.message)


def _may_name(block: Block, marks: Collection[int] | None) -> bool:
    return marks is None or not block.marks.isdisjoint(marks)


def _marks(rows: Iterable[Row]) -> frozenset[int]:
    return frozenset(mark(head.track) for _, payload in rows for head in heads_in(payload))


def _unpacked(blocks: list[Packed]) -> list[Row]:
    return [row for block in blocks for row in unpack_block(block[2])]


def _packed(rows: list[Row]) -> list[Packed]:
    """Entries in blocks of about the usual size."""
    blocks: list[Packed] = []
    block: list[Row] = []
    size = 0
    for row in rows:
        block.append(row)
        size += len(row[1])
        if size >= BLOCK_BYTES or row is rows[-1]:
            blocks.append((block[0][0], block[-1][0], pack_block(block), _marks(block)))
            block, size = [], 0
    return blocks


def _joined(blocks: list[Packed]) -> list[Packed]:
    """The same entries, with neighbouring blocks that are small packed together."""
    joined: list[Packed] = []
    small: list[Row] = []

    def close() -> None:
        joined.extend(_packed(small))
        small.clear()

    for block in blocks:
        if len(block[2]) >= SMALL_BLOCK:
            close()
            joined.append(block)
        else:
            small += unpack_block(block[2])
    close()
    return joined


def _merged_name(run: list[SegmentName], writer: int) -> SegmentName:
    return SegmentName(
        run[0].partition,
        min(name.first for name in run),
        max(name.last for name in run),
        min(name.first_ms for name in run),
        max(name.last_ms for name in run),
        "".join(sorted({kind for name in run for kind in name.kinds})),
        writer,
        max(name.revision for name in run) + 1,
    )
