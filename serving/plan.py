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

    CPU is the sum over all processes at 30 % of the most that the machine can do, without `idle_cores`, which they take
    when nobody asks; group commit makes a decision cheaper the busier it is. Bytes are as the store has them.
    """

    decision_us: float = 700.0
    signal_us: float = 33.0
    decision_bytes: float = 1_570.0
    signal_bytes: float = 104.0
    snapshot_bytes: float = 625.0
    live_profile_bytes: float = 4_120.0
    archive_ratio: float = 0.15
    """Bytes in the archive for each byte of the journal, compressed (`ONLY=archive make bench`: .10 to .15)."""
    fixed_bytes: float = 60.0 * MIB
    idle_cores: float = 0.15


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

    Cores are peak rates × CPU a unit ÷ utilisation, a node more than that takes, so that one may fail. The store
    holds the byte-bounded tail of the journal and a snapshot of every profile not yet expired; the archive keeps
    what the tail no longer has, for as long as decisions are kept.
    """
    visits = traffic.visitors_per_month * traffic.visits_per_visitor
    signals, decisions = visits * traffic.signals_per_visit, visits * traffic.decisions_per_visit
    signals_s, decisions_s = signals / SECONDS_A_MONTH, decisions / SECONDS_A_MONTH
    busy = traffic.peak * (signals_s * costs.signal_us + decisions_s * costs.decision_us) / 1e6
    cores = busy / traffic.utilisation + costs.idle_cores
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
        core_s_per_million_decisions=costs.decision_us,
        store_bytes_per_million_decisions=costs.decision_bytes * 1e6,
        archive_bytes_per_million_decisions=costs.decision_bytes * 1e6 * costs.archive_ratio,
    )
