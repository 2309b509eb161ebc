"""Decisions a second with 1, 2, 4, 16 shards and with 8, 64, 512 partitions, on the same machine."""

from __future__ import annotations

import statistics

from tests.bench import shop
from tests.bench.competitors import Kairos
from tests.bench.load import Load, drive, median, seconds
from tests.bench.rows import Row, at_least, measured, ratio
from training.fit import Model

WITH = (2, 64)
"""Shards and partitions that all others are measured beside."""
OTHERS = ((1, 64), (4, 64), (16, 64), (2, 8), (2, 512))
N_PAIRS = 4


def rows() -> list[Row]:
    """Each beside two shards of 64 partitions, both running, in turns: the machine's mood changes within a minute."""
    model = shop.model()
    loads: dict[tuple[int, int], list[Load]] = {WITH: []}
    ratios: dict[tuple[int, int], float | None] = {}
    with _started(model, *WITH) as usual:
        usual.warm()
        for other in OTHERS:
            with _started(model, *other) as one:
                one.warm()
                pairs = [(_load(usual), _load(one)) for _ in range(N_PAIRS)]
            loads[WITH] += [first for first, _ in pairs]
            loads[other] = [second for _, second in pairs]
            found = [r for first, second in pairs if (r := ratio(second.rps, first.rps))]
            ratios[other] = statistics.median(found) if found else None
    few = ratios[2, 8]
    return [
        *(
            measured(f"decide c=64 with {s} shards, {n} partitions", median(loads[s, n], "rps"), "1/s")
            for s, n in sorted(loads)
        ),
        *(
            measured(f"its p99 with {s} shards, {n} partitions", median(loads[s, n], "p99_ms"), "ms")
            for s, n in sorted(loads)
        ),
        at_least("rate with 4 shards / with 2", ratios[4, 64], "x", 0.85),
        at_least("rate with 64 partitions / with 8", None if few is None else 1.0 / few, "x", 0.85),
    ]


def _started(model: Model, n_shards: int, n_partitions: int) -> Kairos:
    return Kairos(model, "--shards", str(n_shards), KAIROS_N_PARTITIONS=str(n_partitions))


def _load(kairos: Kairos) -> Load:
    return drive(kairos.url, shop.decide_bodies(shop.visitors()), 64, max(1.0, seconds() / 4))
