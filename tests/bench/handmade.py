"""Competitor (b): the service a good engineer writes by hand. FastAPI, Redis GET and SET, LightGBM; not durable.

Tuned: uvicorn on uvloop and httptools with two workers and no access log, the body validated by pydantic straight from
its bytes (FastAPI's own way parses it twice), orjson out, one LightGBM call for all rows, one session document a
visitor; hiredis changes nothing measurable, the replies are small. It reads the same request and answers with the same
figures as Kairos, but keeps no record of the decision, knows no second identity, and what it acknowledges can be lost.
"""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import lightgbm
import numpy as np
import orjson
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, Field, ValidationError
from redis.asyncio import Redis

from engine.schema import DEVICES, MODEL_FEATURES, NETWORKS, SYSTEMS, offer_code
from tests.bench.shop import OFFERS

STORE, MODEL = "BENCH_STORE", "BENCH_MODEL"
AT: Final = {name: i for i, name in enumerate(MODEL_FEATURES)}
STORED: Final = (
    "scroll_px", "scroll_share", "scroll_px_max", "scroll_share_max", "time_on_page_s", "session_time_s", "n_clicks",
    "n_pages", "n_products_viewed", "cart_value", "n_cart_items", "n_sessions",
)  # fmt: skip
COLUMNS: Final = [AT[name] for name in STORED]
N_ROWS: Final = 1 + len(OFFERS)
NAMES: Final = list(OFFERS)
VALUES: Final = [float(offer["value"]) for offer in OFFERS.values()]
COSTS: Final = [float(offer["cost"]) for offer in OFFERS.values()]
WEIGHTS: Final = {"recency": 0.3, "depth": 0.2, "conversion": 0.5}
TEMPLATE: Final = np.full((N_ROWS, len(MODEL_FEATURES)), np.nan)
TEMPLATE[:, AT["offer_code"]] = [0, *(offer_code(name) for name in NAMES)]
TEMPLATE[1:, AT["offer_value"]] = VALUES
TEMPLATE[1:, AT["offer_cost"]] = COSTS


class Suggestion(BaseModel):
    """One of Tier 1's own."""

    id: str
    score: float | None = None
    content: Any = None


class Asked(BaseModel):
    """The decide request, with the limits that Kairos keeps."""

    placement: Annotated[str, Field(min_length=1, max_length=200)]
    userId: Annotated[str, Field(max_length=200)] | None = None  # noqa: N815 (the contract's names)
    anonymousId: Annotated[str, Field(max_length=200)] | None = None  # noqa: N815
    campaign: str | None = None
    requestId: str | None = None  # noqa: N815
    pageViewId: str | None = None  # noqa: N815
    context: dict[str, Any] = {}
    signals: list[dict[str, Any]] = []
    base: list[Suggestion] = []
    limit: Annotated[int, Field(ge=1, le=100)] = 1
    deadlineMs: Annotated[int, Field(ge=1, le=10_000)] = 150  # noqa: N815
    explain: bool = False


def fresh(now_ms: int) -> dict[str, Any]:
    """A visitor nobody has seen."""
    return {"f": dict.fromkeys(STORED, 0.0), "first_ms": now_ms, "last_ms": now_ms, "served": {}, "last": None}


def rows_for(session: dict[str, Any], context: dict[str, Any], now_ms: int) -> Any:
    """One row for no offer and one for each offer."""
    rows = TEMPLATE.copy()
    features = session["f"]
    rows[:, COLUMNS] = [features[name] for name in STORED]
    rows[:, AT["recency"]] = max(0.0, 1.0 - (now_ms - session["last_ms"]) / 60_000)
    rows[:, AT["depth"]] = min(1.0, features["scroll_px_max"] / 1000)
    rows[:, AT["session_age_s"]] = (now_ms - session["first_ms"]) / 1000
    agent = context.get("userAgent", "")
    phone, apple = "Mobile" in agent, "iPhone" in agent
    rows[:, AT["device_code"]] = DEVICES.index("mobile" if phone else "desktop")
    rows[:, AT["os_code"]] = SYSTEMS.index("ios" if apple else "other")
    network = (context.get("network") or {}).get("effectiveType", "unknown")
    rows[:, AT["network_code"]] = NETWORKS.index(network) if network in NETWORKS else 0
    moment = time.gmtime(now_ms / 1000)
    rows[:, AT["local_hour"]], rows[:, AT["weekday"]] = moment.tm_hour, moment.tm_wday
    rows[1:, AT["offer_seen"]] = [len(session["served"].get(name, ())) for name in NAMES]
    return rows


def choose(chances: list[float]) -> tuple[int, float, float]:
    """Which offer (0 = none), its worth and its uplift: a Gaussian draw for each, the best one wins."""
    p_none, best, found = chances[0], 0.0, (0, 0.0, 0.0)
    for i, p in enumerate(chances[1:]):
        uplift = p - p_none
        worth = uplift * VALUES[i] - p * COSTS[i]
        drawn = random.gauss(worth, math.sqrt(max(p * (1 - p), 1e-12) / 51) * abs(VALUES[i] - COSTS[i]))
        if drawn > best:
            best, found = drawn, (i + 1, worth, uplift)
    return found


def build() -> FastAPI:
    """The application; uvicorn's workers call it."""
    store = Redis.from_url(os.environ[STORE], protocol=2)
    booster = lightgbm.Booster(model_str=Path(os.environ[MODEL]).read_text(encoding="utf-8"))

    @asynccontextmanager
    async def life(_app: FastAPI) -> AsyncIterator[None]:
        await store.ping()
        yield
        await store.aclose()

    app = FastAPI(lifespan=life, openapi_url=None)

    @app.post("/v1/decide")
    async def decide(request: Request) -> Response:
        try:
            asked = Asked.model_validate_json(await request.body())
        except ValidationError as error:
            return Response(error.json(), 400, media_type="application/json")
        name, placement, now_ms = asked.userId or asked.anonymousId, asked.placement, time.time_ns() // 1_000_000
        if name is None or placement != "product_page":
            return Response(b'{"code":"bad_request"}', 400, media_type="application/json")
        key = f"session:{name}"
        kept = await store.get(key)
        session = orjson.loads(kept) if kept else fresh(now_ms)
        rows = rows_for(session, asked.context, now_ms)
        chances = booster.predict(rows, num_threads=1, validate_features=False).tolist()
        chosen, worth, uplift = choose(chances)
        items = []
        if chosen:
            offer = NAMES[chosen - 1]
            session["served"][offer] = [*session["served"].get(offer, ()), now_ms][-20:]
            content = {"headline": OFFERS[offer]["headline"]}
            items.append({"id": offer, "kind": "offer", "content": content, "score": worth, "reason": "BEST"})
        session["last"] = now_ms
        await store.set(key, orjson.dumps(session), ex=90 * 86_400)
        recency, depth = float(rows[0, AT["recency"]]), float(rows[0, AT["depth"]])
        value = 0.3 * recency + 0.2 * depth + 0.5 * chances[0]
        answer = {
            "decisionId": f"{name}-{now_ms}", "placement": placement, "items": items,
            "segments": ["deep"] if session["f"]["scroll_share"] > 0.7 else [],
            "score": {"value": value, "recency": recency, "depth": depth, "conversion": chances[0], "weights": WEIGHTS},
            "risk": {"conversion": chances[0]},
            "next": {"offer": NAMES[chosen - 1] if chosen else None, "uplift": uplift},
        }  # fmt: skip
        return Response(orjson.dumps(answer), media_type="application/json")

    return app
