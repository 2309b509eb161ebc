"""A shard follows what is published: the world in force, and which partitions are its own."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from actors.operations import Reply
from engine.errors import KairosError

if TYPE_CHECKING:
    from actors.shard import SessionShard

log = logging.getLogger("kairos.shard")


class Following:
    """Verbs: run, refresh, refreshed."""

    def __init__(self, shard: SessionShard) -> None:
        self._shard = shard

    async def run(self) -> None:
        """Follow the world and the table, neither held up by trouble with the other."""
        shard = self._shard
        while not shard.stopping:
            await asyncio.sleep(shard.settings.world_every_ms / 1000.0)
            for what, step in (("world", self.refresh), ("partition table", shard.ownership.follow)):
                try:
                    await step()
                except KairosError as failure:
                    log.warning("shard %d cannot follow the published %s: %s", shard.index, what, failure.message)
                except Exception:
                    log.exception("shard %d cannot follow the published %s", shard.index, what)

    async def refresh(self) -> None:
        """Take what is published now."""
        shard = self._shard
        if await shard.worlds.refresh() and shard.worlds.current is not None:
            shard.exchange.currency = shard.worlds.current.book.currency
            shard.exchange.rates = dict(shard.settings.rates)

    async def refreshed(self) -> Reply:
        """Take it at once, and tell what is in force now."""
        await self.refresh()
        worlds = self._shard.worlds
        world = worlds.current
        return {
            "book": world.book.version if world else None,
            "model": world.model_version if world else None,
            "rollout": world.rollout.label if world and world.rollout else None,
            "refused": f"shard {self._shard.index}: {worlds.refused}" if worlds.refused else None,
        }
