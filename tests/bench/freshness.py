"""From the acknowledgement of a signal to the first decision that shows it, at half load, by class of signal."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench import shop
from tests.bench.competitors import Kairos
from tests.bench.load import drive, read, seconds, start, write_bodies
from tests.bench.rows import Row, at_most, measured

REACH_MS = 50.0
GIVE_UP_S = 2.0
CONNECTIONS = 16
N_AT_LEAST = 60

Steps = tuple[list[dict[str, Any]], dict[str, Any], Callable[[dict[str, Any], dict[str, Any]], bool]]


def rows(kairos: Kairos) -> list[Row]:
    """Half of what wrk has just reached runs beside it, paced by a pause of each connection."""
    bodies = shop.decide_bodies(shop.visitors())
    full = drive(kairos.url, bodies, 64)
    lasting_s = max(6.0, 3 * seconds())
    pause_ms = max(1, round(CONNECTIONS / (full.rps / 2) * 1000 - full.p50_ms / 4))
    with tempfile.TemporaryDirectory(prefix="kairos-bench-") as directory:
        file = write_bodies(Path(directory), bodies)
        with start(kairos.url, file, CONNECTIONS, lasting_s + 1.0, pause_ms) as load:
            seen = _look(kairos, lasting_s)
            beside = read(load)
    found = [
        measured("freshness: full load", full.rps, "1/s"),
        measured("freshness: load beside it", beside.rps, "1/s"),
    ]
    for kind, (took, n_lost, limit_ms) in seen.items():
        took.sort()
        p50, p99 = (took[min(len(took) - 1, int(len(took) * share))] if took else None for share in (0.5, 0.99))
        lost = f", {n_lost} never" if n_lost else ""
        found.append(measured(f"freshness {kind}: p50 ({len(took)} signals{lost})", p50, "ms"))
        found.append(at_most(f"freshness {kind}: p99 (seed: {limit_ms} ms)", None if n_lost else p99, "ms", REACH_MS))
    return found


def _look(kairos: Kairos, lasting_s: float) -> dict[str, tuple[list[float], int, int]]:
    seen: dict[str, tuple[list[float], int, int]] = {}
    for kind, limit_ms, steps in (
        ("behavioural", 300, _behavioural), ("contextual", 200, _contextual), ("predictive", 400, _predictive),
    ):  # fmt: skip
        took: list[float] = []
        n, n_lost, end_s = 0, 0, time.monotonic() + lasting_s / 3
        while time.monotonic() < end_s or n < N_AT_LEAST:
            lasted = _one(kairos, f"fresh-{kind}-{n}", steps(n))
            n += 1
            if lasted is None:
                n_lost += 1
            else:
                took.append(lasted)
            if n_lost > 3:
                break
        seen[kind] = (took, n_lost, limit_ms)
    return seen


def _one(kairos: Kairos, name: str, steps: Steps) -> float | None:
    """Milliseconds from the acknowledgement to the end of the first answer that shows it; None if none does."""
    running = kairos.running
    assert running is not None
    signals, context, shows = steps
    before = running.decide(anonymousId=name, context=shop.CONTEXT)
    for i, signal in enumerate(signals):
        kairos.observe([{"anonymousId": name, "messageId": f"{name}-{i}", **signal}])
    acknowledged = time.perf_counter()
    while time.perf_counter() - acknowledged < GIVE_UP_S:
        after = running.decide(anonymousId=name, context={**shop.CONTEXT, **context})
        if shows(before, after):
            return (time.perf_counter() - acknowledged) * 1000
    return None


def _behavioural(n: int) -> Steps:
    """A scroll changes the depth in the score."""
    scroll = {"type": "track", "event": "Scroll Depth", "properties": {"url": "/p", "scroll_px": 300 + n % 600}}
    return [scroll], {}, lambda before, after: after["score"]["depth"] > before["score"]["depth"]


def _contextual(_n: int) -> Steps:
    """A slower network changes the treatment; it comes with the request for a decision itself."""
    slow = {"network": {"effectiveType": "2g"}}
    return [], slow, lambda before, after: after["treatment"]["media"] != before["treatment"]["media"]


def _predictive(_n: int) -> Steps:
    """Something in the cart changes the probability of a conversion."""
    properties = {"product_id": "p1", "price": 79.0, "quantity": 2, "currency": "EUR"}
    add = {"type": "track", "event": "Product Added", "properties": properties}
    return [add], {}, lambda before, after: after["risk"]["conversion"] != before["risk"]["conversion"]
