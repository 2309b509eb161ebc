"""Keeps the store's tail of the journal bounded: what snapshots cover goes into segments, then from the store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol

import orjson

from actors.archive import Archive
from actors.segment import Row
from actors.segment_name import DECISIONS, OTHER, SIGNALS
from actors.segments import Segments
from actors.stores import Journal, Position, Scrub
from engine.errors import Fenced, KairosError

log = logging.getLogger("kairos.archiver")

MIB: Final = 1024 * 1024
DAY_MS: Final = 24 * 3600 * 1000
READ_CHUNK: Final = 500
ENTRY_OVERHEAD: Final = 64
"""What an entry takes in the store beyond its payload, near enough to choose how many to move."""


@dataclass(frozen=True, slots=True)
class ArchiveSettings:
    """Limits of a partition's tail in the store, and how long each kind of record is kept; times in ms."""

    tail_bytes: int = 8 * MIB
    hard_bytes: int = 32 * MIB
    """Beyond this nothing more is acknowledged until the archive has taken something."""
    segment_bytes: int = 8 * MIB
    """What is moved at once, before compression."""
    tail_age_ms: int = DAY_MS
    """Older entries are moved whatever the tail's size."""
    every_ms: int = 1_000
    look_ms: int = 600_000
    """How often age and retention are looked at."""
    scrub_every_ms: int = 60_000
    """How long redacted bytes wait at most for others to be scrubbed from the store's files with them."""
    signals_ms: int = 30 * DAY_MS
    decisions_ms: int = 30 * DAY_MS
    profiles_ms: int = 90 * DAY_MS

    def before_ms(self, now_ms: int) -> dict[str, int]:
        """For each kind of record, the time before which it is beyond retention."""
        kept = {SIGNALS: self.signals_ms, DECISIONS: self.decisions_ms}
        return {**{k: now_ms - v for k, v in kept.items()}, OTHER: now_ms - max(self.profiles_ms, *kept.values())}


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
    failure: str = ""


class Archiver:
    """Verbs: turn (one partition, one step), run (all of a shard, for ever), full, scrub.

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
        self._journal, self.settings, self._clock, self._scrub = journal, settings, clock, scrub
        self._unclean: set[int] = set()
        self._next_scrub_ms = 0
        self.segments = Segments(archive)
        self._seen: dict[int, _Seen] = {}
        self._locks: dict[int, asyncio.Lock] = {}
        self.counts: dict[str, int] = {"segments": 0, "archived": 0, "expired_segments": 0, "archive_failures": 0}

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

    def scrub_soon(self, partition: int) -> None:
        """What was redacted is to leave the store's memory and log, together with what is redacted in the meantime."""
        if self._scrub is not None:
            self._unclean.add(partition)

    async def scrub(self) -> None:
        """Scrub what waits for it, if it is time.

        Raises:
            engine.errors.Unavailable: the store did not do it now; it waits on.
        """
        now_ms = self._clock()
        if self._scrub is None or not self._unclean or now_ms < self._next_scrub_ms:
            return
        self._next_scrub_ms = now_ms + self.settings.scrub_every_ms
        unclean = set(self._unclean)
        for partition in sorted(unclean):
            async with self.lock(partition):
                await self._scrub.scrub(partition)
        await self._scrub.rewrite()
        self._unclean -= unclean

    async def run(self, tails: Callable[[], Iterable[Tail]]) -> None:
        """Take turns until cancelled; what fails is tried again."""
        while True:
            mine = list(tails())
            for gone in set(self._seen) - {tail.index for tail in mine}:
                del self._seen[gone]
            for tail in mine:
                await self._turns(tail)
            try:
                await self.scrub()
            except KairosError as failure:
                log.warning("what was redacted stays in the store's files for now: %s", failure.message)
            await asyncio.sleep(self.settings.every_ms / 1000.0)

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
        due = now_ms >= seen.next_look_ms
        same = (seen.epoch, seen.position, seen.covered) == (tail.epoch, tail.position, tail.covered)
        if not tail.ready or (same and not due and not seen.failure):
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

    async def _step(self, tail: Tail, seen: _Seen, due: bool, now_ms: int) -> bool:
        index, settings = tail.index, self.settings
        _, seen.n_bytes = await self._journal.size(index)
        if seen.epoch != tail.epoch:
            await self.segments.claim(index)
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
            rows = await self._aged(tail, now_ms - settings.tail_age_ms)
        if rows:
            await self._fence(tail)
            await self.segments.add(index, tail.epoch, rows, now_ms)
            self.counts["segments"] += 1
            self.counts["archived"] += len(rows)
            await self._trim(tail, rows[-1][0])
            _, seen.n_bytes = await self._journal.size(index)
        elif due:
            self.counts["expired_segments"] += await self.segments.expire(index, settings.before_ms(now_ms))
            seen.next_look_ms = now_ms + settings.look_ms
        return bool(rows)

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

    async def _aged(self, tail: Tail, before_ms: int) -> list[Row]:
        """The oldest covered entries from before a time."""
        rows: list[Row] = []
        after, n_bytes = await self.segments.last(tail.index), 0
        while n_bytes < self.settings.segment_bytes and (chunk := await self._covered_after(tail, after)):
            for row in chunk:
                if not is_before(row[1], before_ms):
                    return rows if any(len(payload) > 4 for _, payload in rows) else []
                rows.append(row)
                n_bytes += len(row[1])
            after = chunk[-1][0]
        return rows if any(len(payload) > 4 for _, payload in rows) else []

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
    times = [record[2] for record in orjson.loads(payload)[1:] if record is not None]
    return not times or max(times) < before_ms
