"""Durable events a second through `/v1/batch`, 100 a request: new messages every time, counted by Kairos itself."""

from __future__ import annotations

import statistics

import orjson

from tests.bench import shop
from tests.bench.competitors import Kairos
from tests.bench.load import drive, seconds
from tests.bench.rows import Row, at_least, measured

PER_REQUEST = 100
IN_FLIGHT = 16
N_ROUNDS = 3
MOST_REQUESTS_A_SECOND = {1: 1_200, 10: 1_200, 100: 400}
"""By visitors a request. Bodies are made beforehand, more than is wanted: one sent twice would be duplicates."""


def rows(kairos: Kairos) -> list[Row]:
    """A request with the events of one visitor (a browser's queue), of ten, and of a hundred (a server's queue)."""
    found = []
    for n_visitors in MOST_REQUESTS_A_SECOND:
        rounds = [_events_a_second(kairos, n_visitors, i) for i in range(N_ROUNDS)]
        name = f"batch: durable events, 100 a request of {n_visitors} visitor{'s' if n_visitors > 1 else ''}"
        found.append(at_least(name, statistics.median(rate for rate, _ in rounds), "1/s", 10_000))
        found.append(measured(f"its p99, {n_visitors} a request", statistics.median(p for _, p in rounds), "ms"))
    return found


def _events_a_second(kairos: Kairos, n_visitors: int, turn: int) -> tuple[float, float]:
    """Events accepted a second, and the p99 of a request in ms."""
    assert kairos.running is not None
    names = shop.visitors(1_000)
    n_bodies = round(MOST_REQUESTS_A_SECOND[n_visitors] * seconds())
    bodies = [body_of(names, f"{n_visitors}-{turn}", i, n_visitors) for i in range(n_bodies)]
    before = kairos.accepted()
    load = drive(f"{kairos.running.url}/v1/batch", bodies, IN_FLIGHT)
    return (kairos.accepted() - before) / (load.n / load.rps), load.p99_ms


def body_of(names: list[str], run: str, number: int, n_visitors: int) -> bytes:
    """100 events in the order in which they happened, of so many visitors."""
    first = number * n_visitors
    rows = []
    for i in range(PER_REQUEST):
        name = names[(first + i % n_visitors) % len(names)]
        properties = {"url": "https://shop.example/shoes", "scroll_px": 100 + i * 9, "scroll_share": (1 + i % 90) / 100}
        rows.append({
            "type": "track", "event": "Scroll Depth", "anonymousId": name, "messageId": f"{run}-{number}-{i}",
            "properties": properties,
        })  # fmt: skip
    return orjson.dumps({"batch": rows})
