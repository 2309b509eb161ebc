"""What a shop's traffic needs: cores, nodes, store memory, archive growth, from measured costs of each unit."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Final

SECONDS_A_MONTH: Final = 30 * 24 * 3600
MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class UnitCosts:
    """What one of each costs on one core of the measuring machine; `ONLY=plan make bench` measures them anew.

    CPU is the sum over all processes without `idle_cores`, which they take when nobody asks: here two cores of an AMD
    EPYC on which a Serve deployment that does nothing takes 0.28 ms a request; on slower ones measure them. Bytes are
    as the store has them.
    """

    decision_us: float = 160.0
    """What a decision takes by itself."""
    batch_us: float = 1_230.0
    """What a batch of decisions takes besides, however many are in it: waking up, a write, an fsync."""
    batch_ms: float = 1.3
    """How long a batch is under way, while which the next one gathers."""
    signal_us: float = 20.0
    decision_bytes: float = 1_800.0
    signal_bytes: float = 60.0
    snapshot_bytes: float = 850.0
    live_profile_bytes: float = 4_000.0
    archive_ratio: float = 0.15
    """Bytes in the archive for each byte of the journal, compressed (`ONLY=archive make bench`: .08 to .15)."""
    fixed_bytes: float = 60.0 * MIB
    idle_cores: float = 0.15

    def of_decision(self, rate: float) -> float:
        """CPU µs of a decision where one shard takes `rate` of them a second: in a batch are 1 + rate × its time."""
        return self.decision_us + self.batch_us / (1.0 + rate * self.batch_ms / 1000.0)


@dataclass(frozen=True, slots=True)
class Traffic:
    """What is asked of the system. `peak` is the busiest hour against the average one."""

    visitors_per_month: float
    visits_per_visitor: float = 1.6
    signals_per_visit: float = 25.0
    decisions_per_visit: float = 4.0
    peak: float = 4.0
    profiles_days: float = 90.0
    decisions_days: float = 30.0
    cores_per_node: int = 4
    utilisation: float = 0.6
    n_partitions: int = 64
    tail_bytes_a_partition: float = 8.0 * MIB


@dataclass(frozen=True, slots=True)
class Plan:
    """The answer; bytes in bytes, rates a second."""

    signals_per_s: float
    decisions_per_s: float
    peak_signals_per_s: float
    peak_decisions_per_s: float
    cores: float
    nodes: int
    store_bytes: float
    live_bytes: float
    archive_bytes_a_month: float
    core_s_per_million_decisions: float
    store_bytes_per_million_decisions: float
    archive_bytes_per_million_decisions: float

    def to_dict(self) -> dict[str, float]:
        """For JSON."""
        return asdict(self)


def plan(traffic: Traffic, costs: UnitCosts) -> Plan:
    """Size a deployment.

    Cores are peak rates × CPU a unit ÷ utilisation, a node more than that takes, so that one may fail; there is a shard
    to each two of them, and what it takes together it takes cheaper. The store
    holds the byte-bounded tail of the journal and a snapshot of every profile not yet expired; the archive keeps
    what the tail no longer has, for as long as decisions are kept.
    """
    visits = traffic.visitors_per_month * traffic.visits_per_visitor
    signals, decisions = visits * traffic.signals_per_visit, visits * traffic.decisions_per_visit
    signals_s, decisions_s = signals / SECONDS_A_MONTH, decisions / SECONDS_A_MONTH
    cores, decision_us = _cores(traffic, costs, traffic.peak * signals_s, traffic.peak * decisions_s)
    nodes = math.ceil(cores / traffic.cores_per_node)
    journal_a_month = signals * costs.signal_bytes + decisions * costs.decision_bytes
    tail = min(traffic.n_partitions * traffic.tail_bytes_a_partition, journal_a_month * traffic.decisions_days / 30.0)
    profiles = traffic.visitors_per_month * max(1.0, traffic.profiles_days / 30.0)
    return Plan(
        signals_per_s=signals_s,
        decisions_per_s=decisions_s,
        peak_signals_per_s=signals_s * traffic.peak,
        peak_decisions_per_s=decisions_s * traffic.peak,
        cores=cores,
        nodes=1 if nodes == 1 and cores < traffic.cores_per_node / 2 else nodes + 1,
        store_bytes=costs.fixed_bytes + tail + profiles * costs.snapshot_bytes,
        live_bytes=traffic.peak * visits / SECONDS_A_MONTH * 600.0 * costs.live_profile_bytes,
        archive_bytes_a_month=journal_a_month * costs.archive_ratio,
        core_s_per_million_decisions=decision_us,
        store_bytes_per_million_decisions=costs.decision_bytes * 1e6,
        archive_bytes_per_million_decisions=costs.decision_bytes * 1e6 * costs.archive_ratio,
    )


def _cores(traffic: Traffic, costs: UnitCosts, signals_s: float, decisions_s: float) -> tuple[float, float]:
    """Cores for these rates, and CPU µs of a decision among as many shards as go with so many cores."""
    n_shards = 1
    while True:
        decision_us = costs.of_decision(decisions_s / n_shards)
        busy = (signals_s * costs.signal_us + decisions_s * decision_us) / 1e6
        cores = busy / traffic.utilisation + costs.idle_cores
        if (wanted := int(cores / 2.0)) <= n_shards:
            return cores, decision_us
        n_shards = wanted
