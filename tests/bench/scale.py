"""Decisions a second with 1, 2, 4, 16 shards and with 8, 64, 512 partitions, on the same machine."""

from __future__ import annotations

import statistics

from tests.bench import shop
from tests.bench.competitors import Kairos
from tests.bench.load import drive, seconds
from tests.bench.rows import Row, at_least, measured, ratio
from training.fit import Model

SHARDS = ((1, 64), (2, 64), (4, 64), (16, 64))
PARTITIONS = ((2, 8), (2, 512))
N_WINDOWS = 3


def rows() -> list[Row]:
    """One start each; the median of three windows at c=64."""
    model = shop.model()
    rates = {(shards, n): _rate(model, shards, n) for shards, n in (*SHARDS, *PARTITIONS)}
    found = [measured(f"decide c=64 with {s} shards, {n} partitions", rates[s, n][0], "1/s") for s, n in sorted(rates)]
    found += [measured(f"its p99 with {s} shards, {n} partitions", rates[s, n][1], "ms") for s, n in sorted(rates)]
    return [
        *found,
        at_least("rate with 4 shards / with 2", ratio(rates[4, 64][0], rates[2, 64][0]), "x", 0.85),
        at_least("rate with 64 partitions / with 8", ratio(rates[2, 64][0], rates[2, 8][0]), "x", 0.85),
    ]


def _rate(model: Model, n_shards: int, n_partitions: int) -> tuple[float, float]:
    bodies = shop.decide_bodies(shop.visitors())
    with Kairos(model, "--shards", str(n_shards), KAIROS_N_PARTITIONS=str(n_partitions)) as kairos:
        kairos.warm()
        loads = [drive(kairos.url, bodies, 64, max(1.0, seconds() / 2)) for _ in range(N_WINDOWS)]
    return statistics.median(one.rps for one in loads), statistics.median(one.p99_ms for one in loads)
