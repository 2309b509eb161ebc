"""Decisions a second for the same 1,000 visitors while 10³, 10⁵, 10⁶ (`FULL=1`) profiles are known, most passive."""

from __future__ import annotations

import asyncio
import os
import statistics
import time

import orjson

from actors.valkey_client import connect, snapshots_key
from engine.ids import anon_track, partition_of
from tests.bench import shop
from tests.bench.competitors import Kairos
from tests.bench.load import drive, seconds
from tests.bench.rows import Row, at_least, measured, ratio

N_PARTITIONS = 64
N_WINDOWS = 3
FLUSH = 5_000
SETTLE_WITHIN_S = 60.0


def rows() -> list[Row]:
    """One Kairos, to which sleeping profiles are added between the windows, as snapshots straight into its store."""
    sizes = [100_000, 1_000_000] if os.environ.get("FULL") == "1" else [100_000]
    with Kairos(shop.model()) as kairos:
        kairos.warm()
        few = _rate(kairos)
        found = [measured("decide c=64 with 1,000 known profiles", few, "1/s")]
        n = shop.N_WARM
        for size in sizes:
            asyncio.run(add_sleeping(kairos.store, n, size))
            rate, n = _rate(kairos), size
            found.append(measured(f"decide c=64 with {size:,} known profiles", rate, "1/s"))
            found.append(at_least(f"rate with {size:,} known / with 1,000", ratio(rate, few), "x", 0.85))
        asleep = shop.decide_bodies(shop.visitors(min(n, 60_000), shop.N_WARM))
        woken = drive(kairos.url, asleep, 64, seconds())
    if woken.n < len(asleep):
        found.append(measured("decide c=64 where every visitor is woken from a snapshot", woken.rps, "1/s"))
    return found


def _rate(kairos: Kairos) -> float:
    bodies = shop.decide_bodies(shop.visitors())
    return statistics.median(drive(kairos.url, bodies, 64).rps for _ in range(N_WINDOWS))


async def add_sleeping(store: str, first: int, last: int) -> None:
    """Copies of a warm visitor's snapshot under the ids of others whom no shard has in memory yet."""
    client = connect(store, timeout_s=60.0)
    try:
        sample = anon_track(shop.visitors(1)[0])
        give_up_s = time.monotonic() + 30.0
        # It is passed over until the shard's own rhythm has saved it.
        while not (kept := await client.hget(snapshots_key(partition_of(sample, N_PARTITIONS)), sample)):
            if time.monotonic() > give_up_s:
                raise RuntimeError("no snapshot of a warm visitor within 30 s")
            await asyncio.sleep(0.2)
        _, _, state = orjson.loads(kept)
        form = orjson.dumps([0, 0, state])
        for at in range(first, last, FLUSH):
            rows: dict[int, dict[str, bytes]] = {}
            for name in shop.visitors(min(at + FLUSH, last), at):
                track = anon_track(name)
                copy = form.replace(sample.encode(), track.encode())
                rows.setdefault(partition_of(track, N_PARTITIONS), {})[track] = copy
            pipeline = client.pipeline(transaction=False)
            for partition, snapshots in rows.items():
                pipeline.hset(snapshots_key(partition), mapping=snapshots)
            await pipeline.execute()
        give_up_s = time.monotonic() + SETTLE_WITHIN_S
        while time.monotonic() < give_up_s:
            facts = await client.info("persistence")
            if not facts.get("aof_rewrite_in_progress") and not facts.get("aof_rewrite_scheduled"):
                return
            await asyncio.sleep(0.2)
    finally:
        await client.aclose()
