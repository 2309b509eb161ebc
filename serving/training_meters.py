"""How the trainer stands, as Prometheus gauges; told by its document in the store, whichever ingress is asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, generate_latest


def training_text(told: Mapping[str, Any] | None, now_ms: int) -> bytes:
    """The gauges in Prometheus' text format; nothing where there never was a trainer."""
    if told is None:
        return b""
    registry = CollectorRegistry()

    def gauge(name: str, text: str, value: object) -> None:
        if isinstance(value, int | float):
            Gauge(f"kairos_training_{name}", text, registry=registry).set(value)

    gauge("rows", "Matured examples in the window", told.get("rows"))
    gauge("new_rows", "Examples matured since the last look", told.get("new_rows"))
    gauge("drift", "1 while a drift alarm waits for a training", told.get("drift"))
    gauge("drift_alarms", "Drift alarms that trainings have answered since the trainer began", told.get("alarms"))
    gauge("under_way", "1 while a training runs", told.get("run") is not None)
    gauge("beat_age_seconds", "Since the trainer last told how it stands", (now_ms - told["beat_ms"]) / 1000)
    gauge("rss_bytes", "Resident memory of the trainer's process", told.get("rss_bytes"))
    runs = Gauge("kairos_training_runs", "Trainings by how they ended", ["state"], registry=registry)
    for state, n in told.get("runs", {}).items():
        runs.labels(state).set(n)
    return generate_latest(registry)
