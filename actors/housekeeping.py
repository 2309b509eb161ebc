"""What a shard does between batches: snapshots and what they cover, passivation, trimming, a sweep for the expired."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Final

from actors.snapshot_form import DamagedSnapshot, restored
from actors.stores import Position
from engine.errors import KairosError, Unavailable

if TYPE_CHECKING:
    from actors.partition import Partition
    from actors.shard import SessionShard

log = logging.getLogger("kairos.shard")

ROUNDS_AT_ONCE: Final = 4
LOOK_EVERY_MS: Final = 250
AGAIN_AFTER_MS: Final = 5_000
"""When a round that failed is begun again."""
SHARE: Final = 0.25
"""Of the loop's time, what snapshots may take while requests wait."""
PRESSING: Final = 4
"""So many times the bytes after which a partition is saved, and its requests wait for that."""
SORTED_AT_ONCE: Final = 8
"""Entries of a tail that was taken over; some milliseconds."""
RECEIPT: Final = "receipt:"
"""Snapshots whose names begin like this are receipts of erasures; they name nobody and stay."""


@dataclass(slots=True)
class Round:
    """The tracks of one partition that are to be saved; then everything up to `until` is covered, if it says so."""

    partition: Partition
    names: list[str]
    until: Position | None
    epoch: int
    n_written: int = 0
    """Bytes of the entries that are in these snapshots."""
    waiting: list[asyncio.Future[None]] = field(default_factory=list)
    busy: bool = False


class Housekeeping:
    """Keeps one shard's memory and tail bounded. Verbs: tick (between batches), save_now, sweep, drop, stop.

    Snapshots are taken in `tick`, where memory and journal agree, and written beside the loop. There is one
    round to a partition at a time, so that nothing older is ever written over something newer.
    """

    def __init__(self, shard: SessionShard) -> None:
        self._shard = shard
        self._rounds: dict[int, Round] = {}
        self._urgent: dict[int, Round] = {}
        self._next_look_ms = 0
        self._sorting = True
        """Whether a tail that was taken over may be left to sort."""
        self._rest_until_s = 0.0
        self._every_bytes = shard.settings.snapshot_every_bytes
        if shard.archiver is not None:
            # Only what snapshots cover can leave the tail.
            self._every_bytes = min(self._every_bytes, shard.archiver.settings.tail_bytes // 4)

    # -- in the loop -----------------------------------------------------------------------------------

    def tick(self) -> None:
        """Begin and go on with a bounded amount of work; at a moment when no batch is being evaluated or appended."""
        now_ms, every_ms = self._shard.clock(), self._shard.settings.snapshot_every_ms
        # A clock that was put back makes nothing wait longer than usual: without snapshots the tail only grows.
        if not self._next_look_ms - LOOK_EVERY_MS <= now_ms < self._next_look_ms:
            self._next_look_ms, self._sorting = now_ms + min(LOOK_EVERY_MS, every_ms), True
            for partition in self._shard.partitions.values():
                if partition.index not in self._rounds and self._is_due(partition, now_ms):
                    self._begin(partition, now_ms)
        for index in [i for i in self._urgent if i not in self._rounds]:
            self._rounds[index] = self._urgent.pop(index)
        if self._sorting:
            self._sort_some()
        for round_ in list(self._rounds.values())[:ROUNDS_AT_ONCE]:
            if not round_.busy and not self._rests(round_.partition):
                with self._timed():
                    self._step(round_)

    def _sort_some(self) -> None:
        unsorted = next((p for p in self._shard.partitions.values() if p.ready and p.tail.n_unsorted), None)
        self._sorting = unsorted is not None
        if unsorted is not None and not self._rests(unsorted):
            with self._timed():
                unsorted.tail.sort(SORTED_AT_ONCE)
            asyncio.get_running_loop().call_soon(self._shard.wake)

    def _rests(self, partition: Partition) -> bool:
        """Whether requests that wait come first."""
        if not self._shard.n_waiting or perf_counter() >= self._rest_until_s:
            return False
        return partition.n_written - partition.n_saved < PRESSING * self._every_bytes

    @contextmanager
    def _timed(self) -> Iterator[None]:
        began_s = perf_counter()
        yield
        ended_s = perf_counter()
        self._rest_until_s = ended_s + (ended_s - began_s) * (1.0 / SHARE - 1.0)

    def _is_due(self, partition: Partition, now_ms: int) -> bool:
        every_ms = self._shard.settings.snapshot_every_ms
        if not partition.due_ms:
            # All of a shard's were claimed together; their rounds are spread out.
            partition.due_ms = now_ms + every_ms * (partition.index + 1) // partition.n_partitions
        if partition.tail.n_unsorted or partition.not_before_ms - AGAIN_AFTER_MS <= now_ms < partition.not_before_ms:
            return False
        if partition.n_written - partition.n_saved >= self._every_bytes:
            return True
        return not partition.due_ms - every_ms <= now_ms < partition.due_ms

    def _begin(self, partition: Partition, now_ms: int) -> None:
        settings = self._shard.settings
        partition.due_ms = now_ms + settings.snapshot_every_ms
        self._shard.counts["passivations"] += partition.passivate(now_ms - settings.passivate_after_ms)
        if not partition.dirty and not partition.tail:
            partition.n_saved = partition.n_written
        elif partition.ready:
            names = [*partition.dirty, *(t for t in partition.tail.tracks if t not in partition.dirty)]
            self._rounds[partition.index] = Round(
                partition, names, partition.coverable(), partition.epoch, partition.n_written
            )

    def _step(self, round_: Round) -> None:
        partition, size = round_.partition, self._shard.settings.snapshot_chunk
        if not self._holds(round_):
            self._end(round_, Unavailable("recovering", "the partition is being recovered"))
            return
        chunk = round_.names[:size]
        asleep = [t for t in chunk if t not in partition.used_ms]
        round_.busy = True
        if asleep:
            self._shard.spawn(self._wake(round_, asleep))
        else:
            del round_.names[:size]
            saved, gone = partition.snapshots_of(chunk)
            self._shard.spawn(self._save(round_, chunk, saved, gone, partition.position))

    def _holds(self, round_: Round) -> bool:
        """Whether the partition still is what it was when the round began: ours, in memory, of the same epoch."""
        partition = round_.partition
        current = self._shard.partitions.get(partition.index)
        return current is partition and partition.ready and partition.epoch == round_.epoch

    # -- beside the loop -------------------------------------------------------------------------------

    async def _wake(self, round_: Round, asleep: Sequence[str]) -> None:
        """Bring the sleeping tracks of the next chunk into memory; their snapshots are taken in the next tick."""
        partition = round_.partition
        try:
            found = await self._shard.snapshots.load([(partition.index, t) for t in asleep])
            if self._holds(round_):
                now_ms = self._shard.clock()
                for track_id, snapshot in zip(asleep, found, strict=True):
                    if track_id not in partition.used_ms:
                        self._activate(partition, track_id, snapshot, now_ms)
        except Exception as failure:
            self._end(round_, failure)
        finally:
            round_.busy = False
            self._shard.wake()

    def _activate(self, partition: Partition, track_id: str, snapshot: bytes | None, now_ms: int) -> None:
        try:
            partition.activate(track_id, snapshot, now_ms)
        except DamagedSnapshot as damage:
            self._shard.mending.begin(partition, track_id, damage)
            raise

    async def _save(
        self, round_: Round, chunk: Sequence[str], saved: dict[str, bytes], gone: Sequence[str], at: Position
    ) -> None:
        partition, last = round_.partition, not round_.names
        covered = round_.until if last and round_.until is not None else partition.covered
        try:
            await self._shard.snapshots.save(partition.index, saved, gone, covered, epoch=round_.epoch)
            if self._holds(round_):
                partition.saved(chunk, at)
                partition.covered = covered
            if last:
                if round_.until is not None:
                    partition.n_saved = round_.n_written
                self._end(round_)
                if round_.until is not None and self._shard.archiver is None:
                    await self._trim(partition, round_.until)
        except Exception as failure:
            # Without this chunk nothing is covered: the round is over, the next one begins with all that is dirty.
            self._end(round_, failure)
        finally:
            round_.busy = False
            self._shard.wake()

    async def _trim(self, partition: Partition, covered: Position) -> None:
        tail, journal = self._shard.settings.tail_entries, self._shard.journal
        entries, _ = await journal.size(partition.index)
        if entries > tail * 1.1:
            oldest = await journal.read(partition.index, None, int(entries - tail))
            await journal.trim(partition.index, min(oldest[-1][0], covered))

    def _end(self, round_: Round, failure: Exception | None = None) -> None:
        index = round_.partition.index
        if self._rounds.get(index) is round_:
            del self._rounds[index]
        for future in round_.waiting:
            if future.done():
                continue
            if failure is None:
                future.set_result(None)
            else:
                future.set_exception(Unavailable("not_saved", f"the snapshots could not be written: {failure}"))
        if failure is not None:
            again_ms = self._shard.clock() + min(AGAIN_AFTER_MS, self._shard.settings.snapshot_every_ms)
            round_.partition.not_before_ms = round_.partition.due_ms = again_ms
        if isinstance(failure, KairosError):
            log.warning("snapshots of partition %d wait: %s", index, failure.message)
        elif failure is not None:
            log.error("snapshots of partition %d cannot be made", index, exc_info=failure)

    async def save_now(self, partition: Partition, names: Sequence[str]) -> None:
        """Write the snapshots of these tracks as they are, or delete those of tracks that are gone.

        Raises:
            engine.errors.Unavailable: it could not be done, or the partition has been dropped meanwhile.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        urgent = self._urgent.get(partition.index)
        if urgent is None or urgent.partition is not partition or urgent.epoch != partition.epoch:
            if urgent is not None:
                self._end(urgent, Unavailable("recovering", "the partition is being recovered"))
            urgent = self._urgent[partition.index] = Round(partition, [], None, partition.epoch)
        urgent.names += [name for name in names if name not in urgent.names]
        urgent.waiting.append(future)
        self._shard.wake()
        await future

    async def save_all(self, partition: Partition) -> None:
        """Save everything dirty of a partition whose loop has ended, some at a time; its coverage comes last."""
        if not partition.ready or partition.pending:
            return
        covered = partition.covered if partition.tail else partition.coverable()
        names, size = list(partition.dirty), 8 * self._shard.settings.snapshot_chunk
        for start in range(0, max(1, len(names)), size):
            saved, gone = partition.snapshots_of(names[start : start + size])
            upto = covered if start + size >= len(names) else partition.covered
            await self._shard.snapshots.save(partition.index, saved, gone, upto, epoch=partition.epoch)

    # -- what expired ----------------------------------------------------------------------------------

    async def sweep(self) -> None:
        """For as long as the shard lives, look slowly at every stored track and let go of what is beyond retention."""
        settings = self._shard.settings
        while True:
            for partition in list(self._shard.partitions.values()):
                await asyncio.sleep(settings.sweep_every_ms / 1000.0)
                try:
                    await self._sweep(partition)
                except KairosError as failure:
                    log.warning("partition %d was not swept: %s", partition.index, failure.message)
                except Exception:
                    log.exception("partition %d was not swept", partition.index)
            await asyncio.sleep(settings.sweep_pass_ms / 1000.0)

    async def _sweep(self, partition: Partition) -> None:
        settings, names = self._shard.settings, self._shard.snapshots.tracks(partition.index)
        seen: list[str] = []
        try:
            async for name in names:
                if not name.startswith(RECEIPT):
                    seen.append(name)
                if len(seen) == settings.sweep_chunk:
                    await self._look_at(seen, partition)
                    seen.clear()
                    await asyncio.sleep(settings.sweep_every_ms / 1000.0)
            await self._look_at(seen, partition)
        finally:
            close = getattr(names, "aclose", None)
            if close is not None:
                await close()

    async def _look_at(self, names: Sequence[str], partition: Partition) -> None:
        # What is found to have expired is asked to, through the inbox as everything is.
        shard, now_ms = self._shard, self._shard.clock()
        found = await shard.snapshots.load([(partition.index, name) for name in names])
        for name, snapshot in zip(names, found, strict=True):
            if snapshot is None or name in partition.dirty:
                continue
            try:
                track, _ = restored(snapshot)
            except DamagedSnapshot as damage:
                shard.mending.begin(partition, name, damage)
                continue
            if track.root == name and track.moved_to is None and partition.expired(track, now_ms):
                await shard.ask("expire", {"track": name}, partition.index)
            await asyncio.sleep(0)

    # -- ends ------------------------------------------------------------------------------------------

    def drop(self, index: int) -> None:
        """Forget what was under way for a partition that is dropped."""
        for held in (self._rounds, self._urgent):
            round_ = held.pop(index, None)
            if round_ is not None:
                self._end(round_, Unavailable("recovering", "the partition is being recovered"))

    async def stop(self) -> None:
        """Save what is dirty of every partition."""
        for partition in self._shard.partitions.values():
            with suppress(KairosError):
                await self.save_all(partition)
