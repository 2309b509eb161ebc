"""A small Kairos in one process for tests: shards over given stores, a clock to turn, a way to ask."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from random import Random
from typing import Any

import orjson

from actors.archive import Archive
from actors.archive_settings import ArchiveSettings
from actors.archiver import Archiver
from actors.ending import ended
from actors.ledger import Ledger
from actors.memory import memory_stores
from actors.shard import SessionShard
from actors.shard_settings import ShardSettings
from actors.stores import Stores
from actors.worlds import Worlds
from engine.book import book_version, load_book
from engine.errors import Unavailable
from engine.ids import message_hash, partition_of
from engine.predictor import Predictor
from engine.signals import Signal
from tests.engine.builders import T0

BOOK: dict[str, Any] = {
    "timezone": "UTC",
    "currency": "EUR",
    "campaigns": {
        "cart": {
            "priority": 10,
            "placements": ["product_page"],
            "conversion": {"event": "Order Completed", "within": "5m", "value": "revenue"},
            "segments": {
                "deep": {"all": [{"feature": "scroll_share", "above": 0.7, "leave_below": 0.6}], "hold": "30s"},
            },
            "offers": {
                "free": {
                    "when": {"segment": "deep"},
                    "content": {"headline": "Free {{ cart.items }}"},
                    "value": 30,
                    "cost": 1,
                },
                "capped": {"when": {"os": ["ios"]}, "content": {"headline": "Once"}, "value": 20,
                           "caps": {"per_profile": {"max": 1, "per": "1d"}}},
            },
            "policy": {"kind": "greedy"},
            "tier1": {"mode": "enhance"},
        }
    },
}  # fmt: skip


async def until(condition: Callable[[], Any]) -> None:
    """Wait for something that shards do in their own time, at most ten seconds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - nobody tells when it is so
            await asyncio.sleep(0.001)


class Clock:
    """The time in ms, turned by hand."""

    def __init__(self, now_ms: int = T0) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


async def no_models(version: str) -> Predictor:
    raise LookupError(version)


class Town:
    """Shards over one set of stores; `ask` does what a router does."""

    def __init__(self, stores: Stores | None = None, n_shards: int = 2, n_partitions: int = 8) -> None:
        self.stores = stores or memory_stores()
        self.n_shards, self.n_partitions = n_shards, n_partitions
        self.clock = Clock()
        self.shards: dict[int, SessionShard] = {}
        self.settings = ShardSettings(
            snapshot_every_ms=10**12,
            lease_every_ms=5,
            account_every_ms=50,
            settle_every_ms=50,
            claim_retry_ms=1,
            world_every_ms=5,
            sweep_every_ms=10**8,
            sweep_pass_ms=10**8,
        )
        self.archive: Archive | None = None
        self.archiving = ArchiveSettings()
        self.on_ask: Callable[[str, dict[str, Any]], Awaitable[None]] | None = None
        self.load_model: Callable[[str], Awaitable[Predictor]] = no_models

    async def start(self, book: dict[str, Any] | None = None) -> Town:
        state = await self.stores.table.create(self.n_partitions)
        owners = tuple(p % self.n_shards for p in range(self.n_partitions))
        if state.owners != owners:
            await self.stores.table.compare_and_set(state.version, replace(state, owners=owners))
        if not (await self.stores.versions.world())["book"]:
            await self.publish(book or BOOK)
        for index in range(self.n_shards):
            await self.start_shard(index)
        return self

    async def publish(self, data: dict[str, Any], model: str = "prior-1") -> str:
        book = load_book(data)
        pointer = await self.stores.versions.world()
        version = book_version(book, pointer["rev"] + 1)
        await self.stores.versions.put("book", version, {}, orjson.dumps(data))
        assert await self.stores.versions.publish(pointer["rev"], {"book": version, "model": model})
        return version

    async def start_shard(self, index: int) -> SessionShard:
        shard = SessionShard(
            index,
            journal=self.stores.journal,
            snapshots=self.stores.snapshots,
            table=self.stores.table,
            worlds=Worlds(self.stores.versions, self.load_model),
            mesh=self,
            clock=self.clock,
            dice=Random(index),
            settings=self.settings,
            ledger=Ledger(self.stores.documents),
            archiver=self.archive
            and Archiver(self.stores.journal, self.archive, self.archiving, self.clock, self.stores.scrub),
        )
        self.shards[index] = shard
        await shard.start()
        return shard

    async def kill(self, index: int) -> None:
        """End a shard without a farewell: nothing is saved, nobody is answered."""
        shard = self.shards.pop(index)
        await ended(*shard._tasks)

    async def stop(self) -> None:
        for shard in self.shards.values():
            await shard.stop()
        self.shards.clear()

    async def ask(self, track_id: str, op: str, payload: dict[str, Any], *, timeout_s: float = 5.0) -> dict[str, Any]:
        at = track_id
        for _ in range(6):
            home = partition_of(at, self.n_partitions)
            reply = await self.ask_partition(home, op, payload, timeout_s=timeout_s)
            if "moved" not in reply:
                return reply
            at = reply["moved"]
        raise AssertionError(f"{op} for {track_id} goes in circles")

    def begin(self, track_id: str, op: str, payload: dict[str, Any]) -> None:
        """Nothing is sent at once where there are no streams: the patient way is taken."""

    def begin_together(self, op: str, shared: Any, asked: Any) -> tuple[list[Any], list[int]]:
        return [], list(range(len(asked)))

    async def ask_partition(
        self, partition: int, op: str, payload: dict[str, Any], *, timeout_s: float = 5.0
    ) -> dict[str, Any]:
        if self.on_ask is not None:
            await self.on_ask(op, payload)
        owner = (await self.stores.table.read()).owners[partition]
        shard = self.shards.get(owner)
        if shard is None:
            raise Unavailable("shard_unavailable", f"shard {owner} is down")
        wire = orjson.loads(orjson.dumps(payload))
        return await asyncio.wait_for(shard.ask(op, wire, partition), timeout_s)

    # -- words of the domain ---------------------------------------------------------------------------

    async def observe(self, track: str, *signals: Signal, **more: Any) -> dict[str, Any]:
        rows = [s.to_list() for s in signals]
        return await self.ask(track, "observe", {"track": track, "signals": rows, **more})

    async def decide(self, track: str, **more: Any) -> dict[str, Any]:
        payload = {"track": track, "placement": "product_page", "context": {"os": "ios", "device": "mobile"}, **more}
        return await self.ask(track, "decide", payload)

    async def link(self, anon: str, user: str) -> dict[str, Any]:
        return await self.ask(anon, "link", {"track": anon, "to": user})

    async def profile(self, track: str) -> dict[str, Any]:
        return (await self.ask(track, "profile", {"track": track}))["profile"]


def scroll(share: float, t_ms: int = T0, message_id: str | None = None) -> Signal:
    key = message_id or f"scroll {share} {t_ms}"
    return Signal("scroll", t_ms, message_hash(b"k", key), {"share": share})
