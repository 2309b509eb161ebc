"""What the ingress counts, for Prometheus; every label comes from a closed or bounded set."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from serving.durations import Durations

MAX_CODES: Final = 64
_SECONDS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.25, 0.4, 1.0, 5.0)


class Meters:
    """Counters and histograms of one ingress, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        events = Counter("kairos_events", "Events by result", ["result"], registry=self.registry)
        self._accepted, self._duplicates = events.labels("accepted"), events.labels("duplicate")
        self._not_durable = events.labels("not_durable")
        self._rejected = Counter("kairos_events_rejected", "Events rejected, by code", ["code"], registry=self.registry)
        self._decisions = Counter("kairos_decisions", "Decisions by rung", ["rung"], registry=self.registry)
        self._superseded = Counter(
            "kairos_decisions_superseded", "Decisions overtaken by their deadline", registry=self.registry
        )
        self._links_refused = Counter(
            "kairos_links_refused", "Links between identities refused, by code", ["code"], registry=self.registry
        )
        self._tier1 = Counter("kairos_tier1_requests", "Suggestions, by result", ["result"], registry=self.registry)
        self._tier1_seconds = Histogram(
            "kairos_tier1_seconds", "Time a decision waited for suggestions", buckets=_SECONDS, registry=self.registry
        )
        durations = Durations(
            "kairos_request_seconds", "Time in the ingress and what it asked, by route and class of status", _SECONDS
        )
        self.registry.register(durations)
        self.request = durations.observe
        self._codes: dict[str, Counter] = {}
        self._rungs = {rung: self._decisions.labels(rung) for rung in ("model", "precomputed", "rules", "tier1")}
        self._n_decided = dict.fromkeys(self._rungs, 0)

    def events(self, accepted: int, duplicates: int, not_durable: int) -> None:
        """Count the results of one request."""
        if accepted:
            self._accepted.inc(accepted)
        if duplicates:
            self._duplicates.inc(duplicates)
        if not_durable:
            self._not_durable.inc(not_durable)

    def rejected(self, code: str) -> None:
        """Count a rejected event; codes beyond the first 64 count as `other`."""
        counter = self._codes.get(code)
        if counter is None:
            code = code if len(self._codes) < MAX_CODES else "other"
            counter = self._codes.setdefault(code, self._rejected.labels(code))
        counter.inc()

    def decision(self, rung: str) -> None:
        """Count a decision by the rung that made it."""
        if rung in self._n_decided:
            self._n_decided[rung] += 1

    def link_refused(self, code: str) -> None:
        """Count a link between identities that was refused; `code` is one of a closed set."""
        self._links_refused.labels(code).inc()

    def tier1(self, result: str, seconds: float) -> None:
        """Count what became of asking Tier 1; `result` is one of a closed set."""
        self._tier1.labels(result).inc()
        self._tier1_seconds.observe(seconds)

    def superseded(self) -> None:
        """Count a decision that came after its deadline."""
        self._superseded.inc()

    def text(self) -> bytes:
        """Everything, in Prometheus' text format."""
        for rung, counter in self._rungs.items():
            # Handed over only now: the counter's lock and boxed number cost more than the sum.
            counter.inc(self._n_decided[rung])
            self._n_decided[rung] = 0
        return generate_latest(self.registry)
