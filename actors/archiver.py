"""Keeps the store's tail of the journal bounded: what snapshots cover goes into segments, then from the store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from actors.archive import Archive
from actors.archive_settings import ArchiveSettings
from actors.scrubbing import Scrubbing
from actors.segment import Row
from actors.segment_records import Unwanted, heads_in
from actors.segment_upkeep import SegmentUpkeep
from actors.segments import Segments
from actors.stores import Journal, Position, Scrub
from engine.errors import Fenced, KairosError

log = logging.getLogger("kairos.archiver")

READ_CHUNK: Final = 500
ENTRY_OVERHEAD: Final = 64
"""What an entry takes in the store beyond its payload, near enough to choose how many to move."""
GROWTH: Final = 2
"""Times its payload an entry may take in the store, to be sure that a tail is not looked at too late."""
AT_ONCE: Final = 4
"""Partitions of a shard that are moved at the same time: beside a busy loop a step mostly waits for its turn."""
EMPTY: Final = 4
"""Bytes of an entry that holds no record."""


class Tail(Protocol):
    """What the archiver asks of a partition of its shard."""

    @property
    def index(self) -> int: ...

    @property
    def epoch(self) -> int: ...

    @property
    def ready(self) -> bool: ...

    @property
    def position(self) -> Position: ...

    @property
    def n_written(self) -> int:
        """Bytes of the entries it has built so far; grows while it is held."""
        ...

    @property
    def covered(self) -> Position:
        """Up to where snapshots in the store cover the journal."""
        ...


@dataclass(slots=True)
class _Seen:
    """What was found of a partition at the last turn."""

    epoch: int = 0
    position: Position = (0, 0)
    covered: Position = (0, 0)
    next_look_ms: int = 0
    n_bytes: int = 0
    n_written: int = 0
    failure: str = ""


class Archiver:
    """Verbs: turn (one partition, one step), run (all of a shard, for ever), full, redact.

    A step reads entries from the journal, makes a segment of them, durably, and only then trims them; the next one
    begins by trimming what is archived already. So a crash anywhere leaves each entry in the journal, in the archive,
    or, the same, in both.
    """

    def __init__(
        self,
        journal: Journal,
        archive: Archive,
        settings: ArchiveSettings,
        clock: Callable[[], int],
        scrub: Scrub | None = None,
    ) -> None:
        self._journal, self.settings, self._clock = journal, settings, clock
        self.segments = Segments(archive)
        self.upkeep = SegmentUpkeep(self.segments)
        self.scrubbing = Scrubbing(scrub, settings.scrub_every_ms, clock)
        self._seen: dict[int, _Seen] = {}
        self._locks: dict[int, asyncio.Lock] = {}
        self.counts: dict[str, int] = {
            "segments": 0, "archived": 0, "expired_segments": 0, "merged_segments": 0, "archive_failures": 0,
        }  # fmt: skip

    def lock(self, partition: int) -> asyncio.Lock:
        """Held while entries are on their way; an erasure takes it, so that none of its records is under way."""
        return self._locks.setdefault(partition, asyncio.Lock())

    def full(self, partition: int) -> str | None:
        """Why nothing more may be acknowledged; None while there is room."""
        seen = self._seen.get(partition)
        if seen is None or seen.n_bytes <= self.settings.hard_bytes:
            return None
        why = seen.failure or "snapshots do not yet cover what could be archived"
        return f"{seen.n_bytes} bytes of the journal wait to be archived: {why}"

    async def redact(self, tail: Tail, tracks: Collection[str], unwanted: Unwanted) -> int:
        """Remove records of these tracks from the archive for good, the lock being held; returns how many.

        Raises:
            engine.errors.Fenced: another shard owns the partition by now. Unavailable: it is to be tried again.
        """
        await self._fence(tail)
        return await self.upkeep.redact(tail.index, tail.epoch, tracks, unwanted)

    async def run(self, tails: Callable[[], Iterable[Tail]]) -> None:
        """Take turns until cancelled; what fails is tried again."""
        while True:
            mine = list(tails())
            for gone in set(self._seen) - {tail.index for tail in mine}:
                del self._seen[gone]
            left = iter(mine)
            await asyncio.gather(*(self._take_turns(left) for _ in range(AT_ONCE)))
            try:
                await self.scrubbing.step(self.lock)
            except KairosError as failure:
                log.warning("what was redacted stays in the store's files for now: %s", failure.message)
            except Exception:
                log.exception("what was redacted stays in the store's files for now")
            await asyncio.sleep(self.settings.every_ms / 1000.0)

    async def _take_turns(self, left: Iterator[Tail]) -> None:
        for tail in left:
            await self._turns(tail)

    async def _turns(self, tail: Tail) -> None:
        try:
            while await self.turn(tail):
                pass
        except Fenced:
            self._seen.pop(tail.index, None)
        except KairosError as failure:
            self.counts["archive_failures"] += 1
            log.warning("the tail of partition %d waits: %s", tail.index, failure.message)
        except Exception:
            self.counts["archive_failures"] += 1
            log.exception("the tail of partition %d waits", tail.index)

    async def turn(self, tail: Tail) -> bool:
        """One step for a partition that its shard owns; True if there may be more to move at once.

        Raises:
            engine.errors.Fenced: another shard owns the partition by now.
            engine.errors.Unavailable: archive or store did not take part; nothing is lost, nothing is double.
        """
        seen, now_ms = self._seen.setdefault(tail.index, _Seen()), self._clock()
        # A clock that was put back makes nothing wait longer than usual.
        due = not seen.next_look_ms - self.settings.look_ms <= now_ms < seen.next_look_ms
        same = (seen.epoch, seen.position, seen.covered) == (tail.epoch, tail.position, tail.covered)
        if not tail.ready or ((same or self._far_below(tail, seen)) and not due and not seen.failure):
            return False
        async with self.lock(tail.index):
            try:
                more = await self._step(tail, seen, due, now_ms)
            except KairosError as failure:
                seen.failure = failure.message
                raise
            seen.failure = ""
        if not more:
            seen.position, seen.covered = tail.position, tail.covered
        return more

    def _far_below(self, tail: Tail, seen: _Seen) -> bool:
        """Whether the tail is below what a step would move any of, whatever was written since its size was asked."""
        settings = self.settings
        grown = GROWTH * max(0, tail.n_written - seen.n_written)
        moved_from = settings.tail_bytes + min(settings.segment_bytes, settings.tail_bytes // 2)
        return seen.epoch == tail.epoch and seen.n_bytes + grown < min(moved_from, settings.hard_bytes // 2)

    async def _step(self, tail: Tail, seen: _Seen, due: bool, now_ms: int) -> bool:
        index, settings = tail.index, self.settings
        seen.n_written = tail.n_written
        _, seen.n_bytes = await self._journal.size(index)
        if seen.epoch != tail.epoch:
            await self.upkeep.tidy(index)
            await self.scrubbing.claimed(index)
            seen.epoch = tail.epoch
            await self._trim(tail, await self.segments.last(index))
        excess = seen.n_bytes - settings.tail_bytes
        rows: list[Row] = []
        if excess > 0 and excess >= min(settings.segment_bytes, settings.tail_bytes // 2):
            wanted = min(excess, settings.segment_bytes)
            rows = await self._oldest(tail, wanted)
            if seen.n_bytes < settings.hard_bytes // 2 and sum(len(p) + ENTRY_OVERHEAD for _, p in rows) < wanted // 2:
                rows = []  # snapshots cover little of it as yet: many small segments are worse than waiting
        elif due:
            rows = await self._aged(tail, settings.tail_age_ms, now_ms)
        if rows:
            await self._fence(tail)
            await self.segments.add(index, tail.epoch, rows, now_ms)
            self.counts["segments"] += 1
            self.counts["archived"] += len(rows)
            await self._trim(tail, rows[-1][0])
            _, seen.n_bytes = await self._journal.size(index)
        elif due:
            return await self._keep_up(tail, seen, now_ms)
        return bool(rows)

    async def _keep_up(self, tail: Tail, seen: _Seen, now_ms: int) -> bool:
        """What is beyond its retention goes, then small segments are merged, a few at a step."""
        index, settings = tail.index, self.settings
        await self._fence(tail)
        self.counts["expired_segments"] += await self.upkeep.expire(
            index, tail.epoch, settings.before_ms(now_ms), now_ms
        )
        merged = await self.upkeep.merge(index, tail.epoch, settings.merged_bytes, settings.merged_ms)
        self.counts["merged_segments"] += merged
        if not merged:
            seen.next_look_ms = now_ms + settings.look_ms
        return bool(merged)

    async def _oldest(self, tail: Tail, n_bytes: int) -> list[Row]:
        """The oldest covered entries, of about so many bytes."""
        rows: list[Row] = []
        after = await self.segments.last(tail.index)
        while n_bytes > 0 and (chunk := await self._covered_after(tail, after)):
            for row in chunk:
                rows.append(row)
                n_bytes -= len(row[1]) + ENTRY_OVERHEAD
                if n_bytes <= 0:
                    break
            after = chunk[-1][0]
        return rows

    async def _aged(self, tail: Tail, age_ms: int, now_ms: int) -> list[Row]:
        """Once an entry is of that age, the oldest covered ones up to three quarters of it: few segments, not many."""
        rows: list[Row] = []
        after, n_bytes = await self.segments.last(tail.index), 0
        before_ms = now_ms - age_ms
        while n_bytes < self.settings.segment_bytes and (chunk := await self._covered_after(tail, after)):
            for row in chunk:
                if not is_before(row[1], before_ms):
                    return rows if any(len(payload) > EMPTY for _, payload in rows) else []
                if len(row[1]) > EMPTY:
                    before_ms = now_ms - age_ms * 3 // 4
                rows.append(row)
                n_bytes += len(row[1])
            after = chunk[-1][0]
        return rows if any(len(payload) > EMPTY for _, payload in rows) else []

    async def _covered_after(self, tail: Tail, after: Position | None) -> list[Row]:
        rows = await self._journal.read(tail.index, after, READ_CHUNK)
        return [row for row in rows if row[0] <= tail.covered]

    async def _trim(self, tail: Tail, archived: Position | None) -> None:
        if archived is not None:
            await self._fence(tail)
            await self._journal.trim(tail.index, (archived[0], archived[1] + 1))

    async def _fence(self, tail: Tail) -> None:
        last = await self._journal.last(tail.index)
        if last is not None and last[0] > tail.epoch:
            raise Fenced("fenced", f"partition {tail.index} is held under epoch {last[0]}, not {tail.epoch}")


def is_before(payload: bytes, before_ms: int) -> bool:
    """Whether an entry was received before a time; one that holds nothing dated is as old as what stands before it."""
    return all(head.received_ms < before_ms for head in heads_in(payload))
