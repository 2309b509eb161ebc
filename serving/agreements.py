"""How far the two tiers agree, by campaign and mode, as this ingress has answered since it started."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Summary

MAX_CAMPAIGNS: Final = 64
"""Campaigns counted by name; those beyond count as `other`."""


@dataclass(slots=True)
class _Tally:
    n: int = 0
    total: float = 0.0
    n_same: int = 0
    n_diverged: int = 0


class Agreements:
    """Counts the `tier1` part of answers. Agreement is the average overlap of the orders, 0–1."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._tallies: dict[tuple[str, str], _Tally] = {}
        self._summary = Summary(
            "kairos_tier1_agreement", "Agreement of what Tier 2 shows, or would show, with Tier 1's order, 0–1",
            ["campaign", "mode"], registry=registry,
        )  # fmt: skip
        self._diverged = Counter(
            "kairos_tier1_diverged", "Answers that fell back to Tier 1 by the divergence limit", ["campaign"],
            registry=registry,
        )  # fmt: skip

    def count(self, decision: Mapping[str, Any]) -> None:
        """Count one answer that has a `tier1` part."""
        told = decision["tier1"]
        agreement = told.get("agreement")
        if agreement is None:
            return
        campaign, mode = str(decision.get("campaign")), str(told.get("mode"))
        if (campaign, mode) not in self._tallies and len(self._tallies) >= MAX_CAMPAIGNS:
            campaign = "other"
        tally = self._tallies.setdefault((campaign, mode), _Tally())
        tally.n += 1
        tally.total += agreement
        tally.n_same += agreement == 1.0
        self._summary.labels(campaign, mode).observe(agreement)
        if decision.get("reason") == "DIVERGED":
            tally.n_diverged += 1
            self._diverged.labels(campaign).inc()

    def told(self) -> list[dict[str, Any]]:
        """For JSON: the mean, and the shares of answers in the very same order and of those that fell back."""
        return [
            {
                "campaign": campaign, "mode": mode, "decisions": t.n, "agreement": t.total / t.n,
                "same": t.n_same / t.n, "fellBack": t.n_diverged / t.n,
            }
            for (campaign, mode), t in sorted(self._tallies.items())
        ]  # fmt: skip
