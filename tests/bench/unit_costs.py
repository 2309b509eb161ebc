"""What one decision and one signal cost in CPU and bytes, at two sizes: the rows that `kairos plan --costs` reads.

The smaller size gives the costs; what the plan says of the larger one is held against what that one took.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from redis import Redis

from actors.valkey_client import journal_key, snapshots_key
from serving.plan import SECONDS_A_MONTH, Traffic, UnitCosts, plan
from tests.bench import shop
from tests.bench.batch import PER_REQUEST, body_of
from tests.bench.competitors import Kairos, cpu_s, subtract
from tests.bench.load import drive, seconds
from tests.bench.rows import Row, at_most, measured

N_PARTITIONS: Final = 64
SIZES: Final = (8, 64)
"""Connections that ask for decisions."""


@dataclass(frozen=True, slots=True)
class Use:
    """What a load took: of each thing how many, how many CPU seconds in all, and bytes of journal."""

    n: float
    cpu_s: float
    journal_bytes: float
    lasted_s: float


def rows(kairos: Kairos) -> list[Row]:
    """The unit costs, and how far the plan's cores for the larger size are off."""
    small, large = (_decide(kairos, connections) for connections in SIZES)
    signals = _signals(kairos)
    costs = UnitCosts(
        decision_us=small.cpu_s / small.n * 1e6,
        signal_us=signals.cpu_s / signals.n * 1e6,
        decision_bytes=small.journal_bytes / small.n,
        signal_bytes=signals.journal_bytes / signals.n,
        snapshot_bytes=_snapshot_bytes(kairos),
    )
    found = [
        measured(f"unit cost: {name}", getattr(costs, name), unit)
        for name, unit in (
            ("decision_us", "µs"),
            ("signal_us", "µs"),
            ("decision_bytes", "B"),
            ("signal_bytes", "B"),
            ("snapshot_bytes", "B"),
        )
    ]
    for connections, use in zip(SIZES, (small, large), strict=True):
        off = _off(use, replace(costs, idle_cores=0.0))
        found.append(at_most(f"plan against c={connections}: cores off by", off["cores"], "share", 0.25))
        found.append(at_most(f"plan against c={connections}: journal off by", off["bytes"], "share", 0.25))
    return found


def _off(use: Use, costs: UnitCosts) -> dict[str, float]:
    """How far the plan for traffic like this is from what it took, as a share of that."""
    a_month = use.n / use.lasted_s * SECONDS_A_MONTH
    traffic = Traffic(a_month, 1.0, signals_per_visit=0.0, decisions_per_visit=1.0, peak=1.0, utilisation=1.0)
    told = plan(traffic, costs)
    cores, a_million = use.cpu_s / use.lasted_s, use.journal_bytes / use.n * 1e6
    return {
        "cores": abs(told.cores - cores) / cores,
        "bytes": abs(told.store_bytes_per_million_decisions - a_million) / a_million,
    }


def _decide(kairos: Kairos, connections: int) -> Use:
    assert kairos.running is not None
    parts, before, held = kairos.parts(), cpu_s(kairos.parts()), _journal_bytes(kairos)
    load = drive(f"{kairos.running.url}/v1/decide", shop.decide_bodies(shop.visitors()), connections, 2 * seconds())
    used = sum(subtract(cpu_s(parts), before).values())
    return Use(load.n, used, _journal_bytes(kairos) - held, load.n / load.rps)


def _signals(kairos: Kairos) -> Use:
    assert kairos.running is not None
    names = shop.visitors()
    bodies = [body_of(names, "cost", i, 10) for i in range(round(300 * seconds()))]
    parts, before, held = kairos.parts(), cpu_s(kairos.parts()), _journal_bytes(kairos)
    load = drive(f"{kairos.running.url}/v1/batch", bodies, 8)
    used = sum(subtract(cpu_s(parts), before).values())
    return Use(load.n * PER_REQUEST, used, _journal_bytes(kairos) - held, load.n / load.rps)


def _journal_bytes(kairos: Kairos) -> float:
    with Redis.from_url(kairos.store) as store:
        return float(sum(store.memory_usage(journal_key(p), samples=0) or 0 for p in range(N_PARTITIONS)))


def _snapshot_bytes(kairos: Kairos) -> float:
    with Redis.from_url(kairos.store) as store:
        keys = [snapshots_key(p) for p in range(N_PARTITIONS)]
        held = sum(store.memory_usage(key, samples=0) or 0 for key in keys)
        return held / max(1, sum(int(store.hlen(key)) for key in keys))
