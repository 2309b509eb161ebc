"""What one, ten and fifty offers cost a decision: in this process, and over HTTP; each figure beside what is linear."""

from __future__ import annotations

import statistics
import time
from typing import Any, Final

import httpx
import orjson
import yaml

from engine.book import compile_book, load_book
from engine.decide import decide
from engine.dice import SeededDice
from engine.inputs import Request, read_inputs
from engine.track import Track
from engine.world import World
from tests.bench import shop
from tests.bench.competitors import Kairos
from tests.bench.load import drive, seconds
from tests.bench.rows import Row, at_most, measured, ratio
from tests.engine.builders import T0, signal

COUNTS: Final = (1, 10, 50)
N_CALLS: Final = 600
N_ROUNDS: Final = 5
N_HTTP_ROUNDS: Final = 3


def book(n: int) -> dict[str, Any]:
    """The reference campaign with so many offers, of which every fifth has a condition on who may see it."""
    offers: dict[str, Any] = {}
    for i in range(n):
        offers[f"offer_{i}"] = {
            "content": {"headline": f"Offer {i} on your {{{{ cart.items }}}} items"}, "value": 20 + i % 7,
            "cost": round(0.5 * (i % 9), 2),
        }  # fmt: skip
        if i % 5 == 4:
            offers[f"offer_{i}"]["when"] = {"os": ["ios", "android"], "device": "mobile"}
    data: dict[str, Any] = yaml.safe_load(shop.BOOK)
    data["campaigns"]["bench"]["offers"] = offers
    return data


def rows() -> list[Row]:
    """Medians over rounds; the reach is linear growth from one offer."""
    model = shop.model()
    found: list[Row] = []
    for limit in (1, 3):
        took = {n: _in_process(n, limit, model.predictor()) for n in COUNTS}
        found += [measured(f"decide, limit {limit}, {n} offers", us, "µs") for n, us in took.items()]
        found += _growth(f"decide, limit {limit}", took)
    with Kairos(model) as kairos:
        kairos.warm()
        seen = [(n, _over_http(n, kairos)) for _ in range(N_HTTP_ROUNDS) for n in COUNTS]
    # In turns, since neighbours in time share the machine's mood.
    over = {n: statistics.median(ms for of, ms in seen if of == n) for n in COUNTS}
    found += [measured(f"HTTP c=1, {n} offers: p50", ms, "ms") for n, ms in over.items()]
    return [*found, *_growth("HTTP c=1", over)]


def _growth(name: str, took: dict[int, float]) -> list[Row]:
    one = took[COUNTS[0]]
    return [at_most(f"{name}: {n} offers / one", ratio(took[n], one), "x", n) for n in COUNTS[1:]]


def _in_process(n: int, limit: int, predictor: Any) -> float:
    world = World(compile_book(load_book(book(n)), "bench"), predictor)
    track = Track.fresh("anon:bench")
    for kind, fields in (("page", {"url": "/a", "height_px": 3000.0}), ("scroll", {"px": 900.0, "share": 0.3})):
        track.observe(signal(kind, T0, **fields), T0)
    track.observe(signal("product_added", T0, items=[{"id": "p1", "price": 79.0, "quantity": 1}]), T0)
    context = {"os": "ios", "device": "mobile", "network": "4g", "local_hour": 12, "weekday": 2}
    inputs = read_inputs(track, Request("product_page", limit=limit), context, {}, T0)
    clock, medians = time.perf_counter_ns, []
    for _ in range(N_ROUNDS):
        began = clock()
        for seed in range(N_CALLS):
            decide(inputs, world, now_ms=T0, rng=SeededDice(seed))
        medians.append((clock() - began) / N_CALLS / 1000.0)
    return statistics.median(medians)


def _over_http(n: int, kairos: Kairos) -> float:
    with httpx.Client(base_url=kairos.url.rsplit("/v1", 1)[0], timeout=10.0, trust_env=False) as client:
        answer = client.put("/v1/campaigns", content=orjson.dumps(book(n)))
        answer.raise_for_status()
    bodies = shop.decide_bodies(shop.visitors())
    return drive(kairos.url, bodies, 1, seconds() / 2).p50_ms
