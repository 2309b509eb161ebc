"""Which partitions a shard serves: claimed as the table says, again after a doubt, left when they are another's."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from actors.partition import Partition
from actors.stores import TableState
from engine.errors import Fenced, KairosError

if TYPE_CHECKING:
    from actors.shard import SessionShard

log = logging.getLogger("kairos.shard")


class Ownership:
    """Follows the partition table for one life of one shard. Verbs: start, follow, reset.

    A later life that has announced itself under the same index makes this one leave everything: else two of the
    same name would fence each other for ever.
    """

    def __init__(self, shard: SessionShard) -> None:
        self._shard = shard

    async def start(self) -> None:
        """Claim what the table gives this shard."""
        await self._claim(self._mine(await self._shard.table.read()))

    async def follow(self) -> None:
        """Read the table; leave what is no longer ours, claim what is new."""
        shard = self._shard
        mine = self._mine(await shard.table.read())
        for index in shard.partitions.keys() - set(mine):
            self._leave(index)
        await self._claim(index for index in mine if index not in shard.partitions)

    def _mine(self, state: TableState) -> list[int]:
        shard = self._shard
        if state.incarnations.get(shard.index, 0) > shard.incarnation:
            return []
        return [p for p, owner in enumerate(state.owners) if owner == shard.index]

    def _leave(self, index: int) -> None:
        shard = self._shard
        if shard.partitions.pop(index, None) is not None:
            shard.housekeeping.drop(index)
            shard.links.leave(index)

    def reset(self, index: int) -> None:
        """Drop a partition whose journal may differ from memory, and claim it again under a new epoch."""
        shard = self._shard
        partition = shard.partitions.get(index)
        if partition is None:
            return
        shard.counts["resets"] += 1
        partition.ready = False
        partition.forget_all()
        shard.housekeeping.drop(index)
        self._recover(partition)

    def _recover(self, partition: Partition) -> None:
        if not partition.claiming:
            partition.claiming = True
            self._shard.spawn(self._reclaim(partition))

    async def _reclaim(self, partition: Partition) -> None:
        shard, index = self._shard, partition.index
        try:
            while not shard.stopping and shard.partitions.get(index) is partition:
                try:
                    if index not in self._mine(await shard.table.read()):
                        if shard.partitions.get(index) is partition:
                            self._leave(index)
                        return
                    await self._take(partition, await shard.table.next_epoch())
                    return
                except Fenced:
                    continue
                except Exception as failure:
                    log.warning("partition %d is not recovered yet: %s", index, failure)
                    await asyncio.sleep(shard.settings.claim_retry_ms / 1000.0)
        finally:
            partition.claiming = False

    async def _claim(self, indexes: Iterable[int]) -> None:
        shard = self._shard
        wanted = [Partition(i, shard.n_partitions, expire_after_ms=shard.settings.expire_after_ms) for i in indexes]
        if not wanted:
            return
        epoch = await shard.table.next_epoch()
        shard.partitions.update((partition.index, partition) for partition in wanted)

        async def one(partition: Partition) -> None:
            try:
                await self._take(partition, epoch)
            except KairosError:
                self._recover(partition)

        await asyncio.gather(*(one(partition) for partition in wanted))

    async def _take(self, partition: Partition, epoch: int) -> None:
        shard = self._shard
        if shard.partitions.get(partition.index) is not partition:
            return
        await partition.claim(epoch, shard.journal, shard.snapshots)
        if shard.partitions.get(partition.index) is partition:
            shard.links.resume(partition)
            shard.erasure.resume(partition)
