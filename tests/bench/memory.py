"""Memory of 100,000 profiles of 20 events: live in a shard, and passive as snapshots in Valkey.

`python -m tests.bench.memory N` is the shard, in a process of its own so that its resident memory is the profiles'.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import orjson
import psutil

from actors.embedded import EmbeddedStore
from actors.memory import MemoryJournal, memory_stores
from actors.shard import SessionShard
from actors.shard_settings import ShardSettings
from actors.stores import APPENDED, AppendResult, Entry
from actors.valkey_client import connect, snapshots_key
from actors.worlds import Worlds
from engine.ids import anon_track, message_hash, partition_of
from engine.signals import Signal
from tests.actors.town import BOOK, Town, no_models
from tests.bench.rows import Row, at_most, measured
from tests.serving.running import ROOT

N_PROFILES = 100_000
N_PARTITIONS = 64
CHUNK = 256
FLUSH = 200


class Forgetful(MemoryJournal):
    """A journal that takes everything and holds nothing: its memory is not the profiles'."""

    async def append(self, entries: Sequence[Entry]) -> list[AppendResult]:
        return [APPENDED] * len(entries)


def rows() -> list[Row]:
    """Run the shard in a process of its own and read its figures."""
    n = int(os.environ.get("BENCH_PROFILES", N_PROFILES))
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.memory", str(n)], cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    if done.returncode:
        raise RuntimeError(f"the memory benchmark failed: {done.stderr[-800:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    kib = 1024.0
    return [
        at_most(f"memory of a live profile ({n:,} of 20 events)", found["live"] / kib, "KiB", 4),
        at_most("memory of a passive snapshot in Valkey", found["passive"] / kib, "KiB", 1.5),
        measured("bytes of a snapshot as written", found["snapshot"] / kib, "KiB"),
        measured("time for an event, backfilled, in the shard alone", found["event_us"], "µs"),
    ]


def visit_of(name: str, start_ms: int) -> list[Signal]:
    """20 events of a visit: two pages, scrolls, pings, two products, a cart."""
    url = "https://shop.example/shoes"
    steps: list[tuple[str, dict[str, Any]]] = [("page", {"url": url, "height_px": 3200})]
    steps += [("scroll", {"px": 300.0 * i, "share": 0.09 * i}) for i in range(1, 6)]
    steps += [("heartbeat", {"time_s": 10.0 * i}) for i in range(1, 4)]
    steps += [("product_viewed", {"items": [{"id": "p1", "price": 79.0, "quantity": 1}], "currency": "EUR"})]
    steps += [("hover", {"ms": 800.0, "target": "size"}), ("click", {"target": "size"})]
    steps += [("page", {"url": url + "/2", "height_px": 2400})]
    steps += [("scroll", {"px": 400.0 * i, "share": 0.16 * i}) for i in range(1, 4)]
    steps += [("product_viewed", {"items": [{"id": "p2", "price": 49.0, "quantity": 1}], "currency": "EUR"})]
    steps += [("product_added", {"items": [{"id": "p2", "price": 49.0, "quantity": 1}], "currency": "EUR"})]
    steps += [("cart_viewed", {}), ("click", {"target": "back"})]
    assert len(steps) == 20
    return [
        Signal(kind, start_ms + 4_000 * i, message_hash(b"k", f"{name}-{i}"), fields)
        for i, (kind, fields) in enumerate(steps)
    ]


async def _shard(n: int) -> dict[str, float]:
    stores = memory_stores(Forgetful())
    town = Town(stores, n_shards=1, n_partitions=N_PARTITIONS)
    await stores.table.create(N_PARTITIONS)
    state = await stores.table.read()
    await stores.table.compare_and_set(state.version, replace(state, owners=(0,) * N_PARTITIONS))
    await town.publish(BOOK)
    shard = SessionShard(
        0, journal=stores.journal, snapshots=stores.snapshots, table=stores.table,
        worlds=Worlds(stores.versions, no_models), mesh=town, clock=lambda: time.time_ns() // 1_000_000,
        dice=Random(1),
        settings=ShardSettings(snapshot_every_ms=10**15, snapshot_every_bytes=10**15, passivate_after_ms=10**15),
    )  # fmt: skip
    await shard.start()
    await _observe(shard, 0, 512)
    gc.collect()
    own = psutil.Process()
    before = own.memory_info().rss
    began = time.perf_counter()
    await _observe(shard, 512, n)
    event_us = (time.perf_counter() - began) / (n - 512) / 20 * 1e6
    gc.collect()
    live = (own.memory_info().rss - before) / (n - 512)
    held = sum(len(p.live) for p in shard.partitions.values())
    assert held == n, f"{held} of {n} profiles are live"
    passive, snapshot = await _passive(shard)
    return {"live": live, "passive": passive, "snapshot": snapshot, "event_us": event_us}


async def _observe(shard: SessionShard, first: int, last: int) -> None:
    start_ms = time.time_ns() // 1_000_000 - 3_600_000
    for at in range(first, last, CHUNK):
        asks = []
        for i in range(at, min(at + CHUNK, last)):
            track = anon_track(f"8f14e45f-ceea-467f-a0e6-{i:012d}")
            signals = [s.to_list() for s in visit_of(track, start_ms + i % 1000)]
            # Over JSON, as on the wire: no text is shared between profiles.
            payload = orjson.loads(orjson.dumps({"track": track, "signals": signals, "backfill": True}))
            asks.append(shard.ask("observe", payload, partition_of(track, N_PARTITIONS)))
        for reply in await asyncio.gather(*asks):
            assert reply["results"] == ["accepted"] * 20


async def _passive(shard: SessionShard) -> tuple[float, float]:
    """Bytes a profile in a real Valkey by MEMORY USAGE, and bytes as written."""
    with tempfile.TemporaryDirectory(prefix="kairos-bench-") as directory:
        store = EmbeddedStore(Path(directory))
        await store.start()
        client = connect(store.url)
        n, written = 0, 0
        try:
            for partition in shard.partitions.values():
                names = list(partition.live)
                for at in range(0, len(names), FLUSH):
                    saved, _ = partition.snapshots_of(names[at : at + FLUSH])
                    n, written = n + len(saved), written + sum(map(len, saved.values()))
                    await client.hset(snapshots_key(partition.index), mapping=saved)
            held = 0
            for partition in shard.partitions.values():
                held += int(await client.memory_usage(snapshots_key(partition.index), samples=0) or 0)
        finally:
            await client.aclose()
            await store.stop()
    return held / n, written / n


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_shard(int(sys.argv[1])))))
