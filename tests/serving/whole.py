"""HTTP before real shards in one process: the application over a `Town`."""

from __future__ import annotations

import random
from typing import Any

import httpx
import orjson

from serving.app import build_app
from serving.keys import KeyRing
from serving.settings import Settings
from serving.tier1 import Tier1
from tests.actors.town import Town
from tests.serving.house import FakeWorlds


class TownAsks:
    """Asks the shards of a town, always the patient way."""

    def __init__(self, town: Town) -> None:
        self.town = town

    def begin(self, track_id: str, op: str, payload: dict[str, Any]) -> None:
        return None

    def begin_together(self, op: str, shared: Any, asked: Any) -> tuple[list[Any], list[int]]:
        return [], list(range(len(asked)))

    async def ask(self, track_id: str, op: str, payload: dict[str, Any], *, timeout_s: float) -> dict[str, Any]:
        return await self.town.ask(track_id, op, payload, timeout_s=timeout_s)

    async def ask_partition(
        self, partition: int, op: str, payload: dict[str, Any], *, timeout_s: float
    ) -> dict[str, Any]:
        return await self.town.ask_partition(partition, op, payload, timeout_s=timeout_s)


class Whole:
    """Verbs: post, get, everything (kept, as text)."""

    def __init__(self, town: Town, settings: Settings | None = None, tier1: Tier1 | None = None) -> None:
        self.town = town
        self.settings = (settings or Settings()).model_copy(update={"n_partitions": town.n_partitions})
        app = build_app(
            TownAsks(town), FakeWorlds(), self.settings, KeyRing(),
            clock=town.clock, message_key=b"k" * 32, dice=random.Random(7), tier1=tier1,
        )  # fmt: skip
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1:8000")

    async def post(self, path: str, json: Any, **more: Any) -> httpx.Response:
        return await self.client.post(path, json=json, **more)

    async def get(self, path: str, **more: Any) -> httpx.Response:
        return await self.client.get(path, **more)

    async def everything(self) -> str:
        """Journals as they are stored, and every profile as it would be."""
        live = [t for shard in self.town.shards.values() for p in shard.partitions.values() for t in p.live.values()]
        kept = [orjson.dumps(track.snapshot()).decode() for track in live]
        for partition in range(self.town.n_partitions):
            kept += [p.decode() for _, p in await self.town.stores.journal.read(partition, None, 10_000)]
        return "\n".join(kept)
