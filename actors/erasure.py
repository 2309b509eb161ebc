"""Erasure: state, snapshots and journal records of a profile, with a receipt that says what was removed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import orjson

from actors.operations import Later, Reply, Scene, error, locate
from engine.errors import KairosError
from engine.ids import message_hash, partition_of
from engine.record import ERASED, FORMAT

if TYPE_CHECKING:
    from actors.partition import Partition
    from actors.shard import Call, SessionShard

CHUNK: Final = 500
RETRY_S: Final = 0.2


class Erasure:
    """Removes profiles of one shard's partitions.

    The tracks are gone from memory with the batch that journals their erasure; then their snapshots go, then
    every journal record that names them (an entry is replaced by one without them, so that other tracks'
    decisions stay readable), the erasing records last. The receipt names no identity.
    """

    def __init__(self, shard: SessionShard) -> None:
        self._shard = shard

    def evaluate(self, scene: Scene, call: Call) -> Reply | Later:
        """`erase` a profile by its root, or `forget` one track's tombstone and records at its home."""
        partition, track_id = scene.partition, call.payload["track"]
        if call.op == "forget":
            if track_id in partition.live:
                partition.write([ERASED, track_id, scene.now_ms])
            return self._forget_later(partition, [track_id])
        found = locate(partition, track_id)
        if isinstance(found, dict):
            return found
        receipt = f"e_{partition.index}_{message_hash(scene.key, 'erased ' + found.root):016x}"
        if found.root not in partition.live:
            return self._receipt_later(partition, receipt)
        names = [t.id for t in found.tracks]
        for name in names:
            partition.write([ERASED, name, scene.now_ms])
        return self._erase_later(partition, receipt, names, scene.now_ms)

    def resume(self, partition: Partition) -> None:
        """Finish what a crash interrupted: erasing records still in the tail."""
        names = [t for t, records in partition.tail.items() if records and records[-1][1][0] == ERASED]
        if names:
            self._shard.spawn(self._clean(partition, names))

    def _erase_later(self, partition: Partition, receipt: str, names: list[str], now_ms: int) -> Later:
        async def begin() -> Reply:
            pending = {"id": receipt, "status": "pending", "n_tracks": len(names), "at_ms": now_ms}
            await self._put(partition, receipt, pending)
            self._shard.spawn(self._erase(partition, receipt, names, pending))
            return {"receipt": pending}

        return begin

    async def _erase(self, partition: Partition, receipt: str, names: list[str], pending: dict[str, Any]) -> None:
        n_records = await self._clean(partition, names)
        for name in names:
            home = partition_of(name, partition.n_partitions)
            if home != partition.index:
                n_records += await self._forget_at(home, name)
        await self._put(partition, receipt, {**pending, "status": "done", "n_records": n_records})

    async def _forget_at(self, home: int, name: str) -> int:
        while True:
            try:
                reply = await self._shard.mesh.ask_partition(home, "forget", {"track": name}, timeout_s=30.0)
                if "n_records" in reply:
                    return int(reply["n_records"])
            except KairosError:
                pass
            await asyncio.sleep(RETRY_S)

    def _forget_later(self, partition: Partition, names: list[str]) -> Later:
        async def forget() -> Reply:
            return {"n_records": await self._clean(partition, names)}

        return forget

    def _receipt_later(self, partition: Partition, receipt: str) -> Later:
        async def look() -> Reply:
            (held,) = await self._shard.snapshots.load([(partition.index, "receipt:" + receipt)])
            if held is None:
                return error("unknown_profile", "nothing is known of this identity", 404)
            return {"receipt": orjson.loads(held)}

        return look

    async def _put(self, partition: Partition, receipt: str, held: dict[str, Any]) -> None:
        await self._shard.snapshots.save(
            partition.index, {"receipt:" + receipt: orjson.dumps(held)}, [], partition.covered, epoch=partition.epoch
        )

    async def _clean(self, partition: Partition, names: list[str]) -> int:
        """Delete the snapshots and redact the journal; returns the number of records removed."""
        shard, wanted = self._shard, set(names)
        await shard.snapshots.save(partition.index, {}, names, partition.covered, epoch=partition.epoch)
        removed = 0
        after: tuple[int, int] | None = None
        while rows := await shard.journal.read(partition.index, after, CHUNK):
            for position, payload in rows:
                records = orjson.loads(payload)[1:]
                kept = [None if r is not None and r[1] in wanted else r for r in records]
                n = sum(1 for a, b in zip(records, kept, strict=True) if a is not b)
                if n:
                    removed += n
                    rest = orjson.dumps([FORMAT, *kept]) if any(kept) else None
                    await shard.journal.redact(partition.index, position, rest)
            after = rows[-1][0]
        return removed
