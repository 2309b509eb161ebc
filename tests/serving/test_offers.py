"""Offers over HTTP with real shards in this process: redemption tokens, previews, forced offers, the catalogue."""

from __future__ import annotations

import copy
import random
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from engine.tokens import Redemption, read_redemption, redemption_token
from serving.app import build_app
from serving.keys import KeyRing, new_key
from serving.offer_keys import OfferKeys
from serving.settings import Settings
from tests.actors.town import BOOK, Town
from tests.serving.house import FakeWorlds, is_problem

pytestmark = pytest.mark.timeout(60)


def book(**offer: Any) -> dict[str, Any]:
    data = copy.deepcopy(BOOK)
    first = {"content": {"text": "hello"}, "value": 30, "cost": 1, "redemption": {"valid": "7d"}, **offer}
    data["campaigns"]["cart"]["offers"] = {"gift": first}
    return data


class Shards:
    """A town as the ingress asks it."""

    def __init__(self, town: Town) -> None:
        self.ask, self.ask_partition = town.ask, town.ask_partition

    def begin(self, track_id: str, op: str, payload: dict[str, Any]) -> None:
        return None

    def begin_together(self, op: str, shared: Any, asked: Any) -> tuple[list[Any], list[int]]:
        return [], list(range(len(asked)))


class Shop:
    """A shop's backend against a Kairos of one process."""

    def __init__(self, town: Town, keys: OfferKeys, ring: KeyRing) -> None:
        self.town, self.keys = town, keys
        app = build_app(
            Shards(town), FakeWorlds(), Settings(), ring, clock=town.clock, message_key=b"k" * 32,
            dice=random.Random(7), offer_keys=keys,
        )  # fmt: skip
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1:8000")

    async def post(self, path: str, key: str | None = None, **body: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return await self.client.post(path, json=body, headers=headers)

    async def decide(self, who: str = "a", **more: Any) -> dict[str, Any]:
        reply = await self.post("/v1/decide", anonymousId=who, placement="product_page", **more)
        assert reply.status_code == 200, reply.text
        return dict(reply.json())

    async def verify(self, token: str, **more: Any) -> dict[str, Any]:
        reply = await self.post("/v1/redemptions/verify", token=token, **more)
        assert reply.status_code == 200, reply.text
        return dict(reply.json())


ADMIN, ADMIN_RECORD = new_key(["admin"])
DECIDE, DECIDE_RECORD = new_key(["decide"])


async def shop_of(data: dict[str, Any], ring: KeyRing | None = None) -> Shop:
    town = await Town().start(data)
    return Shop(town, await OfferKeys.read(town.stores.table), ring or KeyRing())


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    made = await shop_of(book())
    yield made
    await made.town.stop()


async def test_an_item_carries_a_token_that_is_redeemed_once(shop: Shop) -> None:
    decision = await shop.decide(requestId="r1")
    (item,) = decision["items"]
    first = await shop.verify(item["token"])
    assert (first["valid"], first["redeemed"], first["offer"]) == (True, False, "gift")
    assert (first["decisionId"], first["expiresMs"]) == (decision["decisionId"], shop.town.clock() + 7 * 86_400_000)
    assert (await shop.verify(item["token"], redeem=True))["redeemed"] is True
    again = await shop.verify(item["token"], redeem=True)
    assert (again["valid"], again["reason"]) == (False, "REDEEMED")
    # The same request is answered with the same token, and so is a look at the decision.
    assert (await shop.decide(requestId="r1"))["items"] == decision["items"]
    looked = await shop.client.get(f"/v1/decisions/{decision['decisionId']}?replay=true")
    assert looked.json()["items"] == decision["items"]
    assert looked.json()["identical"] is True


async def test_offer_redeemed_with_the_token_counts_once_whatever_its_message_id(shop: Shop) -> None:
    (item,) = (await shop.decide())["items"]
    for n in range(3):
        reply = await shop.post(
            "/v1/track", anonymousId="a", event="Offer Redeemed", messageId=f"m{n}", properties={"token": item["token"]}
        )
        assert reply.json()["accepted"] == 1
    assert (await shop.verify(item["token"]))["reason"] == "REDEEMED"
    live = [p.live for shard in shop.town.shards.values() for p in shard.partitions.values()]
    (track,) = (tracks["anon:a"] for tracks in live if "anon:a" in tracks)
    assert [row[1:3] for row in track.offer_times] == [[1, "gift"]]


async def test_a_token_that_ended_or_was_made_by_somebody_else_is_not_valid(shop: Shop) -> None:
    (item,) = (await shop.decide())["items"]
    forged = redemption_token(Redemption("d_1_1_1_0", "cart", "gift", None, 10**15), b"x" * 32)
    assert await shop.verify(forged) == {"valid": False, "reason": "FORGED"}
    changed = item["token"].replace(".", ".A", 1)
    assert await shop.verify(changed) == {"valid": False, "reason": "FORGED"}
    shop.town.clock.now_ms += 8 * 86_400_000
    assert (await shop.verify(item["token"]))["reason"] == "EXPIRED"


async def test_a_superseded_decision_cannot_be_redeemed(shop: Shop) -> None:
    decision = await shop.decide()
    await shop.town.ask("anon:a", "supersede", {"track": "anon:a", "decision_id": decision["decisionId"]})
    assert (await shop.verify(decision["items"][0]["token"], redeem=True))["reason"] == "SUPERSEDED"


async def test_the_checkout_can_check_offline_as_the_manual_says(shop: Shop) -> None:
    import base64
    import hashlib
    import hmac
    import json

    (item,) = (await shop.decide())["items"]
    told = (await shop.client.get("/v1/redemptions/key")).json()["key"]
    # What follows is the recipe of the README, in the words of any language.
    kind, payload, mac = item["token"].split(".")
    key = base64.urlsafe_b64decode(told + "=" * (-len(told) % 4))
    wanted = hmac.new(key, f"{kind}.{payload}".encode(), hashlib.sha256).digest()[:16]
    assert hmac.compare_digest(base64.urlsafe_b64encode(wanted).decode().rstrip("="), mac)
    decision, campaign, offer, amount, expires_ms = json.loads(
        base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
    )
    assert (campaign, offer, amount) == ("cart", "gift", None)
    assert expires_ms > shop.town.clock()
    assert read_redemption(item["token"], key) == Redemption(decision, campaign, offer, amount, expires_ms)


async def test_staged_offers_show_with_a_preview_token_alone_and_leave_no_trace() -> None:
    shop = await shop_of(book(stage="staged", caps={"per_profile": {"max": 1, "per": "1d"}}))
    assert (await shop.decide())["items"] == []
    preview = (await shop.post("/v1/campaigns/preview", seconds=60)).json()["preview"]
    for _ in range(2):
        decision = await shop.decide(preview=preview)
        assert [item["id"] for item in decision["items"]] == ["gift"]
        assert (decision["qa"], "token" in decision["items"][0]) == ("preview", False)
    assert 'kairos_decisions_total{rung="model"} 1.0' in (await shop.client.get("/metrics")).text
    profile = (await shop.client.get("/v1/profiles/anon:a")).json()
    assert profile["features"]["n_offers_seen"] == 0
    shop.town.clock.now_ms += 61_000
    refused = await shop.post("/v1/decide", anonymousId="a", placement="product_page", preview=preview)
    assert is_problem(refused, 400, "bad_preview")
    forged = await shop.post("/v1/decide", anonymousId="a", placement="product_page", preview="kp1.WzEsMl0.AAAA")
    assert is_problem(forged, 400, "bad_preview")
    await shop.town.stop()


async def test_qa_forces_an_offer_with_the_admin_key_alone_and_counts_nowhere() -> None:
    data = book(when={"os": ["tv_os"]}, budget={"max": 5, "per": "1d"})
    data["campaigns"]["cart"]["offers"]["gift"]["when"] = {"segment": "deep"}
    data["campaigns"]["cart"]["holdout"] = {"share": 0.5}
    shop = await shop_of(data, KeyRing([ADMIN_RECORD, DECIDE_RECORD]))
    body = {"anonymousId": "q", "placement": "product_page", "qa": {"offer": "gift", "segments": ["deep"]}}
    assert is_problem(await shop.post("/v1/decide", DECIDE, **body), 403, "missing_scope")
    for n in range(8):
        told = (await shop.post("/v1/decide", ADMIN, **{**body, "anonymousId": f"q{n}"})).json()
        assert [(i["id"], i["reason"], i["propensity"]) for i in told["items"]] == [("gift", "FORCED", 1.0)]
        assert (told["qa"], told["holdout"], told["segments"]) == ("qa", False, ["deep"])
    held = [b for s in shop.town.shards.values() for b in s.treasury.leases.balances.values()]
    assert sum(b.spent for b in held) == 0
    tracks = [t for s in shop.town.shards.values() for p in s.partitions.values() for t in p.live.values()]
    assert all(not t.served and not t.assignments and not t.memberships for t in tracks)
    bad = await shop.post("/v1/decide", ADMIN, **{**body, "qa": {"offer": "nothing"}})
    assert is_problem(bad, 400, "bad_qa")
    assert "gift" in bad.json()["message"]
    await shop.town.stop()


@pytest.mark.parametrize("body", [{}, {"token": 7}, {"token": ""}, {"token": "kr1.x.y", "redeem": "yes"}])
async def test_a_request_without_a_token_is_refused(shop: Shop, body: dict[str, Any]) -> None:
    reply = await shop.client.post("/v1/redemptions/verify", json=body)
    assert is_problem(reply, 400, "bad_redeem" if "redeem" in body else "bad_token")
