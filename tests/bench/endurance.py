"""Memory and disk under full load over time, snapshots, trimming and archive at work (`FULL=1` or `ONLY=endurance`)."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import psutil

from actors.valkey_client import connect
from tests.bench import shop
from tests.bench.competitors import Kairos, cpu_s, subtract
from tests.bench.load import Load, drive
from tests.bench.rows import Row, at_most, measured, ratio

N_VISITORS: Final = 20_000
N_SAMPLES: Final = 10
N_PARTITIONS: Final = 64
STEADY_SHARE: Final = 0.25
"""By this share of the time the tails are to be at their bound, so that what grows afterwards is a leak."""
BYTES_A_SECOND: Final = 1.2e6
"""What full load writes at least; a run of other length than half an hour gets tails that it fills as early."""
FULL_TAIL: Final = 8 * 2**20


@dataclass(frozen=True, slots=True)
class Sample:
    """What is held at one moment, in bytes."""

    at_min: float
    rps: float
    p99_ms: float
    store: float
    log: float
    archive: float
    shards: float
    ingress: float
    shard_us: float
    """CPU of the shards a decision, snapshots and archiving included; what else runs here changes it little."""
    cpu_us: float
    """CPU of everything a decision."""


def rows() -> list[Row]:
    """Decisions at c=64 for `BENCH_MINUTES` (30); what is held at ten moments, and how it grew."""
    minutes = float(os.environ.get("BENCH_MINUTES", "30"))
    tail = min(FULL_TAIL, round(minutes * 60 * STEADY_SHARE * BYTES_A_SECOND / N_PARTITIONS))
    bodies = shop.decide_bodies(shop.visitors(N_VISITORS))
    samples: list[Sample] = []
    n_failed = 0
    with Kairos(
        shop.model(),
        KAIROS_ARCHIVE__TAIL_BYTES=str(tail),
        KAIROS_ARCHIVE__SEGMENT_BYTES=str(tail),
        KAIROS_ARCHIVE__HARD_BYTES=str(8 * tail),
    ) as kairos:
        began = time.monotonic()
        for _ in range(N_SAMPLES):
            parts = kairos.parts()
            before = cpu_s(parts)
            load = drive(kairos.url, bodies, 64, minutes * 60 / N_SAMPLES)
            used = subtract(cpu_s(parts), before)
            n_failed += load.n_failed
            samples.append(_sample(kairos, (time.monotonic() - began) / 60, load, used))
    found = [measured("bound of a partition's tail", tail / 2**20, "MiB"), *(r for s in samples for r in _table(s))]
    begin, last = samples[0], samples[-1]
    # Memory comes and goes with snapshots and trimming: what must not grow is how high it goes.
    before, after = samples[: len(samples) // 2], samples[len(samples) // 2 :]
    return [
        *found,
        at_most("store memory, peak of the second half / of the first", ratio(_peak(after), _peak(before)), "x", 1.15),
        measured("shards' memory at the end / at the beginning", ratio(last.shards, begin.shards), "x"),
        measured("rate at the end / at the beginning", ratio(last.rps, begin.rps), "x"),
        measured("shards' CPU a decision at the end / at the beginning", ratio(last.shard_us, begin.shard_us), "x"),
        at_most("requests that failed", float(n_failed), "", 0),
    ]


def _peak(samples: list[Sample]) -> float:
    return max(one.store for one in samples)


def _table(one: Sample) -> list[Row]:
    at, mib = f"after {one.at_min:.1f} min: ", 2**20
    return [
        measured(f"{at}rate", one.rps, "1/s"),
        measured(f"{at}p99", one.p99_ms, "ms"),
        measured(f"{at}store memory", one.store / mib, "MiB"),
        measured(f"{at}store log on disk", one.log / mib, "MiB"),
        measured(f"{at}archive on disk", one.archive / mib, "MiB"),
        measured(f"{at}shards' memory", one.shards / mib, "MiB"),
        measured(f"{at}ingress memory", one.ingress / mib, "MiB"),
        measured(f"{at}shards' CPU a decision", one.shard_us, "µs"),
        measured(f"{at}CPU of all a decision", one.cpu_us, "µs"),
    ]


def _sample(kairos: Kairos, at_min: float, load: Load, used: dict[str, float]) -> Sample:
    held, log = asyncio.run(_store_bytes(kairos.store))
    parts = kairos.parts()
    archive = sum(path.stat().st_size for path in (kairos.directory / "data" / "archive").rglob("*.kseg"))
    return Sample(
        at_min, load.rps, load.p99_ms, held, log, float(archive),
        _own(parts.get("shards", [])), _own(parts.get("ingress", [])),
        used.get("shards", 0.0) / max(1, load.n) * 1e6, sum(used.values()) / max(1, load.n) * 1e6,
    )  # fmt: skip


def _own(processes: list[psutil.Process]) -> float:
    """Memory that would be free without these processes."""
    held = 0.0
    for process in processes:
        with suppress(psutil.Error):
            held += process.memory_full_info().uss
    return held


async def _store_bytes(store: str) -> tuple[float, float]:
    client = connect(store)
    try:
        memory, log = await client.info("memory"), await client.info("persistence")
    finally:
        await client.aclose()
    return float(memory["used_memory"]), float(log.get("aof_current_size", 0))
