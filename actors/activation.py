"""Profiles come into memory: for each batch what it touches, from snapshots and the tail, in one trip a round."""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.call import Call
from actors.operations import unavailable
from actors.snapshot_form import DamagedSnapshot
from engine.errors import KairosError

if TYPE_CHECKING:
    from actors.shard import SessionShard


class Activation:
    """Verb: bring_in."""

    def __init__(self, shard: SessionShard) -> None:
        self._shard = shard

    async def bring_in(self, calls: list[Call]) -> list[Call]:
        """Bring every profile touched by the calls into memory; two or three rounds, each one trip to the store."""
        shard = self._shard
        wanted: dict[tuple[int, str], Call] = {}
        while True:
            if shard.mending.busy:
                calls = shard.mending.refuse(calls)
            wanted.clear()
            for call in calls:
                partition = shard.partitions[call.partition]
                for track_id in partition.missing(call.tracks()):
                    wanted[call.partition, track_id] = call
            if not wanted:
                return calls
            keys = list(wanted)
            epochs = {index: shard.partitions[index].epoch for index, _ in keys}
            try:
                snapshots = await shard.meanwhile(shard.snapshots.load(keys))
            except KairosError as failure:
                for call in calls:
                    call.answer(unavailable("store_unavailable", failure.message))
                return []
            now_ms = shard.clock()
            calls = [call for call in calls if self._still_mine(call, epochs)]
            for (index, track_id), snapshot in zip(keys, snapshots, strict=True):
                held = shard.partitions.get(index)
                if held is None or held.epoch != epochs[index] or track_id in held.used_ms:
                    continue
                try:
                    held.activate(track_id, snapshot, now_ms)
                except DamagedSnapshot as damage:
                    shard.mending.begin(held, track_id, damage)
            shard.counts["activations"] += len(keys)

    def _still_mine(self, call: Call, epochs: dict[int, int]) -> bool:
        partition = self._shard.partitions.get(call.partition)
        if partition is not None and partition.ready and partition.epoch == epochs.get(call.partition, partition.epoch):
            return True
        call.answer(unavailable("recovering", "the partition is being recovered"))
        return False
