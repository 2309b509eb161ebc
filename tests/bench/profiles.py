"""Decisions a second for the same visitors while few, 10⁵, 10⁶ (`FULL=1`) profiles are known, most passive."""

from __future__ import annotations

import asyncio
import statistics
import time
import zlib

import orjson
from redis.asyncio import Redis

from actors.snapshot_form import unpack
from actors.valkey_client import connect, snapshots_key
from engine.ids import anon_track, partition_of
from tests.bench import shop
from tests.bench.competitors import Kairos
from tests.bench.load import drive, full, seconds
from tests.bench.rows import Row, at_least, measured, ratio

N_PARTITIONS = 64
N_WINDOWS = 3
FLUSH = 5_000
SETTLE_WITHIN_S = 60.0


def rows() -> list[Row]:
    """One Kairos, to which sleeping profiles are added between the windows, as snapshots straight into its store.

    At the end they are taken away again and the first figure is measured once more: what time alone does to the rate
    (the visitors' histories grow with every decision) is not held against the number of profiles.
    """
    sizes = [100_000, 1_000_000] if full() else [100_000]
    rates: dict[int, float] = {}
    loaded: dict[int, tuple[float, float]] = {}
    with Kairos(shop.model()) as kairos:
        kairos.warm()
        first, n = _rate(kairos), shop.N_WARM
        for size in sizes:
            began = time.monotonic()
            asyncio.run(add_sleeping(kairos.store, n, size))
            loaded[size] = (size - n) / (time.monotonic() - began), asyncio.run(_memory(kairos.store))
            rates[size], n = _rate(kairos), size
        asleep = shop.decide_bodies(shop.visitors(min(n, 60_000), shop.N_WARM))
        woken = drive(kairos.url, asleep, 64, seconds())
        asyncio.run(remove_sleeping(kairos.store, n))
        last = _rate(kairos)
    found = [
        measured(f"decide c=64 with {shop.N_WARM:,} known profiles, before", first, "1/s"),
        *(measured(f"decide c=64 with {size:,} known profiles", rate, "1/s") for size, rate in rates.items()),
        measured(f"decide c=64 with {shop.N_WARM:,} known profiles, after", last, "1/s"),
    ]
    for size, (speed, held) in loaded.items():
        found.append(measured(f"profiles added to the store until {size:,}", speed, "1/s"))
        found.append(measured(f"store memory with {size:,} known profiles", held / 2**20, "MiB"))
    few = (first + last) / 2
    for size, rate in rates.items():
        found.append(at_least(f"rate with {size:,} known / with {shop.N_WARM:,}", ratio(rate, few), "x", 0.85))
    if woken.n < len(asleep):
        found.append(measured("decide c=64 where every visitor is woken from a snapshot", woken.rps, "1/s"))
    return found


def _rate(kairos: Kairos) -> float:
    bodies = shop.decide_bodies(shop.visitors())
    return statistics.median(drive(kairos.url, bodies, 64).rps for _ in range(N_WINDOWS))


async def _memory(store: str) -> float:
    client = connect(store)
    try:
        return float((await client.info("memory"))["used_memory"])
    finally:
        await client.aclose()


async def add_sleeping(store: str, first: int, last: int) -> None:
    """Copies of a warm visitor's snapshot under the ids of others whom no shard has in memory yet."""
    client = connect(store, timeout_s=60.0)
    try:
        sample = anon_track(shop.visitors(1)[0])
        give_up_s = time.monotonic() + 30.0
        # The shard saves it in its own rhythm.
        while not (kept := await client.hget(snapshots_key(partition_of(sample, N_PARTITIONS)), sample)):
            if time.monotonic() > give_up_s:
                raise RuntimeError("no snapshot of a warm visitor within 30 s")
            await asyncio.sleep(0.2)
        # What `pack` makes, without going through objects a million times.
        form = orjson.dumps([0, 0, unpack(kept)[2]])
        for at in range(first, last, FLUSH):
            rows: dict[int, dict[str, bytes]] = {}
            for name in shop.visitors(min(at + FLUSH, last), at):
                track = anon_track(name)
                copy = zlib.compress(form.replace(sample.encode(), track.encode()), 1)
                rows.setdefault(partition_of(track, N_PARTITIONS), {})[track] = copy
            pipeline = client.pipeline(transaction=False)
            for partition, snapshots in rows.items():
                pipeline.hset(snapshots_key(partition), mapping=snapshots)
            await pipeline.execute()
        await _settled(client)
    finally:
        await client.aclose()


async def remove_sleeping(store: str, last: int) -> None:
    """Forget those that `add_sleeping` added; what a shard has in memory of them it drops in its own time."""
    client = connect(store, timeout_s=60.0)
    try:
        for at in range(shop.N_WARM, last, FLUSH):
            tracks: dict[int, list[str]] = {}
            for name in shop.visitors(min(at + FLUSH, last), at):
                track = anon_track(name)
                tracks.setdefault(partition_of(track, N_PARTITIONS), []).append(track)
            pipeline = client.pipeline(transaction=False)
            for partition, names in tracks.items():
                pipeline.hdel(snapshots_key(partition), *names)
            await pipeline.execute()
        await _settled(client)
    finally:
        await client.aclose()


async def _settled(client: Redis) -> None:
    """Wait until the server does not rewrite its log."""
    give_up_s = time.monotonic() + SETTLE_WITHIN_S
    while time.monotonic() < give_up_s:
        facts = await client.info("persistence")
        if not facts.get("aof_rewrite_in_progress") and not facts.get("aof_rewrite_scheduled"):
            return
        await asyncio.sleep(0.2)
