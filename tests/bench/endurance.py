"""The store's memory under full load over time, snapshots and trimming at work (`FULL=1` or `ONLY=endurance`)."""

from __future__ import annotations

import asyncio
import os
import time

from actors.valkey_client import connect
from tests.bench import shop
from tests.bench.competitors import Kairos
from tests.bench.load import drive
from tests.bench.rows import Row, measured, ratio

N_VISITORS = 20_000
N_SAMPLES = 10


def rows() -> list[Row]:
    """Decisions at c=64 for `BENCH_MINUTES`; the memory at ten moments, and the last half's growth."""
    minutes = float(os.environ.get("BENCH_MINUTES", "30"))
    bodies = shop.decide_bodies(shop.visitors(N_VISITORS))
    found: list[Row] = []
    held: list[float] = []
    with Kairos(shop.model()) as kairos:
        began = time.monotonic()
        for _ in range(N_SAMPLES):
            load = drive(kairos.url, bodies, 64, minutes * 60 / N_SAMPLES)
            at_min = (time.monotonic() - began) / 60
            used, on_disk = asyncio.run(_store_bytes(kairos.store))
            held.append(used)
            found += [
                measured(f"after {at_min:.1f} min: rate", load.rps, "1/s"),
                measured(f"after {at_min:.1f} min: store memory", used / 2**20, "MiB"),
                measured(f"after {at_min:.1f} min: store log on disk", on_disk / 2**20, "MiB"),
            ]
    return [*found, measured("store memory at the end / half-way", ratio(held[-1], held[len(held) // 2 - 1]), "x")]


async def _store_bytes(store: str) -> tuple[float, float]:
    client = connect(store)
    try:
        memory, log = await client.info("memory"), await client.info("persistence")
    finally:
        await client.aclose()
    return float(memory["used_memory"]), float(log.get("aof_current_size", 0))
