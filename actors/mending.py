"""A stored profile that cannot be read any more is built anew from its journal, beside the loop, one at a time."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from actors.call import Call
from actors.operations import unavailable
from actors.partition import Partition
from actors.snapshot_form import DamagedSnapshot, packed
from engine.track import Track

if TYPE_CHECKING:
    from actors.shard import SessionShard

log = logging.getLogger("kairos.shard")

PAUSE_S: Final = 5.0
"""After an attempt that failed."""


class Mending:
    """Verbs: begin, refuse. Others are served meanwhile; who asks for the profile itself is told to come again.

    What is built holds all that the journal still has: with an archive the time that its retention covers.
    """

    def __init__(self, shard: SessionShard) -> None:
        self._shard = shard
        self._lock = asyncio.Lock()
        self.busy: set[tuple[int, str]] = set()

    def begin(self, partition: Partition, track_id: str, damage: DamagedSnapshot) -> None:
        """Build a track anew, unless that is being done."""
        key = partition.index, track_id
        if key not in self.busy:
            self.busy.add(key)
            self._shard.counts["damaged_snapshots"] += 1
            log.error("a profile of partition %d cannot be read and is built anew: %s", key[0], damage.message)
            self._shard.spawn(self._mend(partition, track_id, partition.epoch))

    def refuse(self, calls: list[Call]) -> list[Call]:
        """Answer the calls that need a track which is being mended; returns the others."""
        left = []
        for call in calls:
            wanted = self._shard.partitions[call.partition].missing(call.tracks())
            if any((call.partition, track_id) in self.busy for track_id in wanted):
                call.answer(unavailable("snapshot_damaged", "the profile cannot be read and is being built anew"))
            else:
                left.append(call)
        return left

    async def _mend(self, partition: Partition, track_id: str, epoch: int) -> None:
        try:
            async with self._lock:
                if self._shard.partitions.get(partition.index) is partition and partition.epoch == epoch:
                    await self._rebuild(partition, track_id)
        except Exception as failure:
            log.warning("a damaged profile in partition %d is not built yet: %s", partition.index, failure)
            await asyncio.sleep(PAUSE_S)
        finally:
            # Whoever touches it next finds it whole, or begins again.
            self.busy.discard((partition.index, track_id))

    async def _rebuild(self, partition: Partition, track_id: str) -> None:
        # Nothing is written for a track that is not in memory: all there is of it is before this position.
        epoch, position = partition.epoch, partition.position
        track: Track | None = None
        n_records = 0
        for place, record in await self._shard.history.placed_records_of(partition.index, {track_id}):
            track, n_records = partition.folded(track, record, place), n_records + 1
            if n_records % 100 == 0:
                await asyncio.sleep(0)
        saved, gone = packed({track_id: track}, position)
        await self._shard.snapshots.save(partition.index, saved, gone, partition.covered, epoch=epoch)
        log.error("the profile in partition %d was built anew from %d records", partition.index, n_records)
