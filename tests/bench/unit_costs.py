"""What one decision and one signal cost in CPU and bytes: the rows that `kairos plan --costs` reads.

The costs come from two loads, of a tenth of what the machine can do and of all of it: group commit makes a decision
cheaper the busier it is. What the plan says of two loads in between is held against what those took.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
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
CONNECTIONS: Final = 32
QUIET: Final = 0.1
CHECKED_AT: Final = (0.2, 0.6)
"""Rates of decisions, as shares of the most."""


@dataclass(frozen=True, slots=True)
class Use:
    """What a load took: of each thing how many, how many CPU seconds in all, and bytes of journal."""

    n: float
    cpu_s: float
    journal_bytes: float
    lasted_s: float
    p50_ms: float

    @property
    def rate(self) -> float:
        """How many a second."""
        return self.n / self.lasted_s

    def unit_us(self, idle_cores: float) -> float:
        """CPU of one, without what is taken when nobody asks."""
        return (self.cpu_s - idle_cores * self.lasted_s) / self.n * 1e6


def rows(kairos: Kairos) -> list[Row]:
    """The unit costs, and how far the plan's cores are off for less and for more traffic."""
    most = drive(_url(kairos), shop.decide_bodies(shop.visitors()), 64, seconds())
    idle_cores = _idle_cores(kairos)
    quiet, busy = _decide(kairos, QUIET * most.rps), _decide(kairos, None)
    used = {share: _decide(kairos, share * most.rps) for share in CHECKED_AT}
    signals = _signals(kairos)
    costs = UnitCosts(
        **_of_decisions(quiet, busy, idle_cores),
        signal_us=signals.unit_us(idle_cores),
        decision_bytes=quiet.journal_bytes / quiet.n,
        signal_bytes=signals.journal_bytes / signals.n,
        snapshot_bytes=_snapshot_bytes(kairos),
        idle_cores=idle_cores,
    )
    units = {"decision_us": "µs", "batch_us": "µs", "batch_ms": "ms", "signal_us": "µs", "idle_cores": "cores"}
    names = (*units, "decision_bytes", "signal_bytes", "snapshot_bytes")
    found = [measured(f"unit cost: {name}", getattr(costs, name), units.get(name, "B")) for name in names]
    for share in CHECKED_AT:
        off, rate = _off(used[share], costs), used[share].rate
        found.append(at_most(f"plan against {rate:,.0f} decisions/s: cores off by", off["cores"], "share", 0.25))
        found.append(at_most(f"plan against {rate:,.0f} decisions/s: journal off by", off["bytes"], "share", 0.25))
    return found


def _of_decisions(quiet: Use, busy: Use, idle_cores: float) -> dict[str, float]:
    """What fits both loads (`UnitCosts.of_decision`), a batch being under way for as long as a lone decision takes."""
    batch_ms = quiet.p50_ms
    alone, together = (1.0 / (1.0 + use.rate * batch_ms / 1000.0) for use in (quiet, busy))
    batch_us = (quiet.unit_us(idle_cores) - busy.unit_us(idle_cores)) / (alone - together)
    decision_us = busy.unit_us(idle_cores) - batch_us * together
    return {"decision_us": decision_us, "batch_us": batch_us, "batch_ms": batch_ms}


def _off(use: Use, costs: UnitCosts) -> dict[str, float]:
    """How far the plan for traffic like this is from what it took, as a share of that."""
    a_month = use.rate * SECONDS_A_MONTH
    traffic = Traffic(a_month, 1.0, signals_per_visit=0.0, decisions_per_visit=1.0, peak=1.0, utilisation=1.0)
    told = plan(traffic, costs)
    cores, a_million = use.cpu_s / use.lasted_s, use.journal_bytes / use.n * 1e6
    return {
        "cores": abs(told.cores - cores) / cores,
        "bytes": abs(told.store_bytes_per_million_decisions - a_million) / a_million,
    }


def _url(kairos: Kairos) -> str:
    assert kairos.running is not None
    return f"{kairos.running.url}/v1/decide"


def _idle_cores(kairos: Kairos) -> float:
    parts, began_s = kairos.parts(), time.monotonic()
    before = cpu_s(parts)
    time.sleep(2 * seconds())
    return sum(subtract(cpu_s(parts), before).values()) / (time.monotonic() - began_s)


def _decide(kairos: Kairos, rate: float | None) -> Use:
    """Decisions at somewhat less than this rate, each connection pausing between two; as many as can be for None."""
    parts, before, held = kairos.parts(), cpu_s(kairos.parts()), _journal_bytes(kairos)
    pause_ms = 0 if rate is None else max(1, round(CONNECTIONS / rate * 1000))
    n_connections = 2 * CONNECTIONS if rate is None else CONNECTIONS
    load = drive(_url(kairos), shop.decide_bodies(shop.visitors()), n_connections, 2 * seconds(), delay_ms=pause_ms)
    used = sum(subtract(cpu_s(parts), before).values())
    return Use(load.n, used, _journal_bytes(kairos) - held, load.n / load.rps, load.p50_ms)


def _signals(kairos: Kairos) -> Use:
    assert kairos.running is not None
    names = shop.visitors()
    bodies = [body_of(names, "cost", i, 10) for i in range(round(300 * seconds()))]
    parts, before, held = kairos.parts(), cpu_s(kairos.parts()), _journal_bytes(kairos)
    load = drive(f"{kairos.running.url}/v1/batch", bodies, 8)
    used = sum(subtract(cpu_s(parts), before).values())
    return Use(load.n * PER_REQUEST, used, _journal_bytes(kairos) - held, load.n / load.rps, load.p50_ms)


def _journal_bytes(kairos: Kairos) -> float:
    with Redis.from_url(kairos.store) as store:
        return float(sum(store.memory_usage(journal_key(p), samples=0) or 0 for p in range(N_PARTITIONS)))


def _snapshot_bytes(kairos: Kairos) -> float:
    with Redis.from_url(kairos.store) as store:
        keys = [snapshots_key(p) for p in range(N_PARTITIONS)]
        held = sum(store.memory_usage(key, samples=0) or 0 for key in keys)
        return held / max(1, sum(int(store.hlen(key)) for key in keys))
