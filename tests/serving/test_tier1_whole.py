"""Tier 1 before real shards: what was fetched is recorded, replays to the same, and every failure is told."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from serving.cli.tier1 import lines
from serving.settings_branches import Tier1Asked
from serving.tier1 import Tier1
from serving.tier1_source import Source
from tests.actors.town import BOOK, Town
from tests.serving.tier1_server import recommending
from tests.serving.whole import Whole

ASKED = {"anonymousId": "v", "placement": "product_page", "deadlineMs": 10_000, "context": {"os": {"name": "iOS"}}}
VIEWED = {"anonymousId": "v", "event": "Product Viewed", "properties": {"product_id": "r2"}}


@asynccontextmanager
async def standing(
    town: Town, behave: str = "well", body: bytes = b'["r0","r1","r2"]', **tier1: Any
) -> AsyncIterator[Whole]:
    """Kairos with a recommender that does as told."""
    book = copy.deepcopy(BOOK)
    book["campaigns"]["cart"]["tier1"] = tier1
    await town.start(book)
    async with recommending() as recommender:
        recommender.behave, recommender.body = behave, body
        asked = Tier1(Tier1Asked(failures=3))
        asked.use({"product_page": (Source(recommender.url, "cart", 2.0, 0.0),)})
        whole = Whole(town, tier1=asked)
        try:
            yield whole
        finally:
            await whole.client.aclose()
            await asked.close()


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    town = Town()
    yield town
    await town.stop()


async def test_fetched_suggestions_are_blended_recorded_and_replay_to_the_same(town: Town) -> None:
    async with standing(town, body=b'["r0","r1","r2","r3"]', mode="enhance", weight=0.9) as whole:
        await whole.post("/v1/track", VIEWED)
        found = (await whole.post("/v1/decide", ASKED)).json()
        assert [item["id"] for item in found["items"]] == ["capped", "r2", "r0", "r1", "r3"]
        assert found["degraded"] is None
        assert found["tier1"]["source"] == "fetched"
        assert 0 < found["tier1"]["agreement"] < 1
        record = (await whole.get(f"/v1/decisions/{found['decisionId']}?replay=true")).json()
        assert (record["identical"], record["tier1"]) == (True, found["tier1"])


@pytest.mark.parametrize(("behaviour", "told"), [("err", "TIER1_ERROR"), ("garbage", "TIER1_INVALID")])
async def test_without_tier_1_the_decision_is_tier_2s_and_says_why(town: Town, behaviour: str, told: str) -> None:
    async with standing(town, behaviour, mode="enhance") as whole:
        found = (await whole.post("/v1/decide", ASKED | {"requestId": "r"})).json()
        assert ([item["id"] for item in found["items"]], found["recorded"]) == (["capped"], True)
        assert found["degraded"] == {"rung": "model", "reason": told}
        assert found["tier1"]["source"] == told
        again = (await whole.post("/v1/decide", ASKED | {"requestId": "r"})).json()
        assert again == found
        record = (await whole.get(f"/v1/decisions/{found['decisionId']}?replay=true")).json()
        assert (record["identical"], record["degraded"]) == (True, found["degraded"])


async def test_an_apprentice_serves_tier_1_and_its_agreement_is_told(town: Town) -> None:
    async with standing(town, mode="apprentice") as whole:
        await whole.post("/v1/track", VIEWED)
        found = (await whole.post("/v1/decide", ASKED)).json()
        assert [item["id"] for item in found["items"]] == ["r0", "r1", "r2"]
        assert found["reason"] == "APPRENTICE"
        assert found["tier1"]["would"] == ["capped", "r0", "r2", "r1"]
        told = (await whole.get("/v1/tier1")).json()
        shown = "\n".join(lines(told))
        assert f"cart (apprentice): agreement {found['tier1']['agreement']:.3f} over 1 decisions" in shown
        assert "breaker closed" in shown
        assert "fetched 1" in shown
        capped = (await whole.get("/v1/profiles/anon:v")).json()
        assert capped["features"]["n_offers_seen"] == 0


async def test_beyond_the_limit_of_divergence_tier_1_is_served_and_counted(town: Town) -> None:
    async with standing(town, mode="override", divergence=0.1) as whole:
        await whole.post("/v1/track", VIEWED)
        found = (await whole.post("/v1/decide", ASKED | {"explain": True})).json()
        assert (found["reason"], [i["id"] for i in found["items"]]) == ("DIVERGED", ["r0", "r1", "r2"])
        assert "further from Tier 1" in found["explain"]["text"]
        assert (await whole.get("/v1/tier1")).json()["agreement"][0]["fellBack"] == 1.0
        assert 'kairos_tier1_diverged_total{campaign="cart"} 1.0' in (await whole.get("/metrics")).text


def test_an_ingress_that_has_asked_nobody_says_so() -> None:
    assert next(lines({"sources": [], "agreement": []})).startswith("nothing yet")
