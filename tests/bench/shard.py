"""The Python that a decision and a signal cost a shard: `python -m tests.bench.shard` (stores in memory)."""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import replace
from random import Random
from typing import Any

import orjson
import yaml

from actors.bundle import bundled
from actors.hosting import epoch_ms, spare_the_collector
from actors.memory import memory_stores
from actors.ready_reply import READY, rung_of
from actors.shard import SessionShard
from actors.shard_server import ShardServer
from actors.shard_settings import ShardSettings
from actors.stores import Stores
from actors.stream import Request
from actors.worlds import Worlds
from engine.book import book_version, load_book
from engine.events import parse_event
from engine.ids import partition_of
from serving.context import ContextReader, Hints
from tests.bench import shop
from training.registry import Registry

N_PARTITIONS = 64
BATCH = 16
"""Requests that arrive together, about as at 64 connections and two shards."""
KEY = b"k" * 32


class Asker:
    """The other end of a stream: it takes the replies and counts them."""

    def __init__(self) -> None:
        self.n_wanted = 0
        self.answered = asyncio.Event()
        self.last = b""

    def send(self, correlation: int, payload: bytes) -> None:
        self.last = payload
        self.n_wanted -= 1
        if not self.n_wanted:
            self.answered.set()


async def _publish(stores: Stores) -> None:
    data = yaml.safe_load(shop.BOOK)
    version = book_version(load_book(data), 1)
    await stores.versions.put("book", version, {}, orjson.dumps(data))
    model = await Registry(stores.versions).add(shop.model())
    pointer = await stores.versions.world()
    assert await stores.versions.publish(pointer["rev"], {"book": version, "model": model})


def _decide(name: str, context: dict[str, Any]) -> bytes:
    """The frame that an ingress sends for the reference request."""
    track, now_ms = f"anon:{name}", epoch_ms()
    payload = {
        "track": track, "placement": "product_page", "campaign": None, "request_id": None, "page_view_id": None,
        "context": context, "consent": {"analytics": True, "personalisation": True, "training": True}, "signals": [],
        "signal_rejects": [], "base": [], "limit": 1, "deadline_ms": now_ms + 600_000, "explain": False,
        "received_ms": now_ms, READY: True,
    }  # fmt: skip
    return orjson.dumps(["decide", payload, partition_of(track, N_PARTITIONS)])


def _observe(name: str) -> bytes:
    track = f"anon:{name}"
    rows = [
        parse_event(event, received_ms=epoch_ms(), message_key=KEY, spare_message=1).signal.to_list()
        for event in shop.visit(name)
    ]
    return orjson.dumps(["observe", {"track": track, "signals": rows}, partition_of(track, N_PARTITIONS)])


def _together(names: list[str], context: dict[str, Any], run: int) -> bytes:
    """The frame for a request with one scroll of each of these visitors."""
    parts = []
    for name in names:
        event = {**shop.visit(name, f"o{run}")[1], "properties": {"scroll_px": 100 + run, "scroll_share": 0.5}}
        row = parse_event(event, received_ms=epoch_ms(), message_key=KEY, spare_message=1).signal.to_list()
        track = f"anon:{name}"
        parts.append((partition_of(track, N_PARTITIONS), 0, {"track": track, "signals": [row]}))
    return bundled("observe", [{"context": context, "consent": {}, "backfill": False}], parts)


async def _ask(server: ShardServer, asker: Asker, frames: list[bytes]) -> None:
    asker.answered.clear()
    asker.n_wanted = len(frames)
    server._take([Request(i, frame, asker) for i, frame in enumerate(frames)])  # type: ignore[arg-type]
    await asker.answered.wait()


async def measure(n: int = 2_000, n_rounds: int = 20) -> None:
    stores = memory_stores()
    state = await stores.table.create(N_PARTITIONS)
    await stores.table.compare_and_set(state.version, replace(state, owners=(0,) * N_PARTITIONS))
    await _publish(stores)
    mesh: Any = None  # nobody moves
    shard = SessionShard(
        0, journal=stores.journal, snapshots=stores.snapshots, table=stores.table,
        worlds=Worlds(stores.versions, Registry(stores.versions).load), mesh=mesh, clock=epoch_ms, dice=Random(1),
        settings=ShardSettings(snapshot_every_ms=10**9),
    )  # fmt: skip
    await shard.start()
    server, asker = ShardServer(shard, b"", "127.0.0.1"), Asker()
    names = shop.visitors()
    for at in range(0, len(names), 100):
        await _ask(server, asker, [_observe(name) for name in names[at : at + 100]])
    context = ContextReader().read(shop.CONTEXT, Hints(), epoch_ms())
    frames = [_decide(name, context) for name in names]
    Random(1).shuffle(frames)
    spare_the_collector()
    costs, at = [], 0
    for _ in range(n_rounds):
        began = time.process_time()
        for _ in range(n // BATCH):
            at = (at + BATCH) % (len(frames) - BATCH)
            await _ask(server, asker, frames[at : at + BATCH])
        costs.append((time.process_time() - began) / (n // BATCH * BATCH) * 1e6)
    assert rung_of(asker.last) == "model", asker.last
    _, entry = (await stores.journal.read(partition_of(f"anon:{names[1]}", N_PARTITIONS), None, 10**6))[-1]
    record, n_reply = orjson.loads(entry)[-1], len(asker.last)
    print(f"decide  {statistics.median(costs):6.1f} µs of CPU, at best {min(costs):.1f}")
    batches = [
        _together([names[(i * 100 + k) % len(names)] for k in range(100)], context, i) for i in range(20 * n_rounds)
    ]
    costs = []
    for at in range(0, len(batches), 20):
        began = time.process_time()
        for batch in batches[at : at + 20]:
            await _ask(server, asker, [batch])
        costs.append((time.process_time() - began) / 2000 * 1e6)
    assert asker.last.count(b"accepted") == 100, asker.last
    print(f"observe {statistics.median(costs):6.1f} µs of CPU a visitor, 100 in a frame, at best {min(costs):.1f}")
    print(f"request {len(frames[0])} B, reply {n_reply} B, record {len(orjson.dumps(record))} B")


if __name__ == "__main__":
    import uvloop

    uvloop.run(measure())
