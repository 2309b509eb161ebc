"""A decision always arrives, inside its deadline, with every field of the contract."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import jsonschema
import pytest

from engine.errors import Unavailable
from serving.examples import DECIDE
from serving.openapi import openapi
from tests.serving.house import NOW_MS, House, is_problem

BASE = [{"id": f"b{i}", "score": 1 - i / 10, "content": {"n": i}} for i in range(5)]
ASK: dict[str, Any] = {"anonymousId": "a-1", "placement": "home", "base": BASE, "limit": 3}
FIELDS = {
    "decisionId", "recorded", "profileId", "placement", "items", "segments", "treatment", "score", "risk", "next",
    "model", "holdout", "variants", "degraded",
}  # fmt: skip


def fits_the_contract(body: dict[str, Any]) -> bool:
    described = openapi()
    schema = {"$ref": "#/components/schemas/Decision", "components": described["components"]}
    jsonschema.Draft202012Validator(schema).validate(body)
    return body.keys() >= FIELDS


async def test_a_decision_has_every_field_of_the_contract(house: House) -> None:
    response = await house.post("/v1/decide", DECIDE)
    body = response.json()
    assert response.status_code == 200
    assert fits_the_contract(body)
    assert body["degraded"] is None
    assert body["signals"] == {"accepted": 1, "duplicates": 0, "rejected": []}


async def test_the_shard_is_asked_with_everything_normalised(house: House) -> None:
    context = {"timezone": "Europe/Berlin", "network": {"wifi": True}}
    await house.post("/v1/decide", {**ASK, "userId": "u", "context": context, "requestId": 7, "deadlineMs": 90})
    track, op, payload = house.asks.log[0]
    assert (track, op, payload["request_id"]) == ("user:u", "decide", "7")
    assert (payload["deadline_ms"], payload["received_ms"]) == (NOW_MS + 90, NOW_MS)
    assert (payload["context"]["local_hour"], payload["context"]["network"]) == (14, "wifi")
    assert payload["base"][0] == {"id": "b0", "score": 1.0, "content": {"n": 0}}


async def test_an_unknown_placement_is_404(house: House) -> None:
    assert is_problem(await house.post("/v1/decide", {**ASK, "placement": "nowhere"}), 404, "unknown_placement")


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (Unavailable("shard_unavailable", "gone"), "SHARD_UNAVAILABLE"),
        (Unavailable("deadline_exceeded", "late"), "DEADLINE"), (Unavailable("overloaded", "full"), "OVERLOADED"),
        (Unavailable("store_unavailable", "gone"), "SHARD_UNAVAILABLE"), (RuntimeError("bug"), "SHARD_UNAVAILABLE"),
    ],
)  # fmt: skip
async def test_without_a_shard_tier_1_answers(house: House, failure: Exception, reason: str) -> None:
    house.asks.fail["decide"] = failure
    response = await house.post("/v1/decide", {**ASK, "explain": True})
    body = response.json()
    assert response.status_code == 200
    assert fits_the_contract(body)
    assert [item["id"] for item in body["items"]] == ["b0", "b1", "b2"]
    assert (body["recorded"], body["decisionId"]) == (False, None)
    assert body["degraded"] == {"rung": "tier1", "reason": reason}
    assert "signals" not in body


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ({"unavailable": {"code": "recovering", "message": "wait"}}, "SHARD_UNAVAILABLE"),
        ({"unavailable": {"code": "overloaded", "message": "full"}}, "OVERLOADED"),
        ({"unavailable": {"code": "archive_full", "message": "full"}}, "ARCHIVE_FULL"),
        ({"error": {"code": "internal", "message": "bug", "status": 500}}, "SHARD_UNAVAILABLE"),
        ({"nonsense": 1}, "SHARD_UNAVAILABLE"),
    ],
)  # fmt: skip
async def test_a_shard_that_cannot_is_answered_for(house: House, reply: dict[str, Any], reason: str) -> None:
    house.asks.replies["decide"] = reply
    response = await house.post("/v1/decide", ASK)
    assert (response.status_code, response.json()["degraded"]["reason"]) == (200, reason)


async def test_signals_that_were_lost_are_told(house: House) -> None:
    house.asks.fail["decide"] = Unavailable("shard_unavailable", "gone")
    signals = [{"event": "Clicked"}, {"event": ""}, {"event": "Hover"}]
    told = (await house.post("/v1/decide", {**ASK, "signals": signals})).json()["signals"]
    assert told["accepted"] == 0
    codes = [(r["index"], r["code"]) for r in told["rejected"]]
    assert codes == [(0, "shard_unavailable"), (1, "bad_event_name"), (2, "shard_unavailable")]


async def test_rejected_signals_keep_their_places_beside_the_accepted(house: House) -> None:
    signals = [{"event": ""}, {"event": "Clicked", "messageId": "m"}, 5, {"event": "Clicked", "messageId": "m"}]
    told = (await house.post("/v1/decide", {**ASK, "signals": signals})).json()["signals"]
    assert (told["accepted"], told["duplicates"], [r["index"] for r in told["rejected"]]) == (1, 1, [0, 2])


async def test_signals_belong_to_the_visitor_of_the_request(house: House) -> None:
    await house.post("/v1/decide", {**ASK, "signals": [{"event": "Clicked", "userId": "somebody else"}]})
    assert house.asks.ops() == [("anon:a-1", "decide")]
    assert len(house.asks.payload("decide")["signals"]) == 1


async def test_the_deadline_is_kept_and_the_late_decision_superseded(house: House) -> None:
    house.asks.hold = asyncio.Event()
    body = (await house.post("/v1/decide", {**ASK, "deadlineMs": 5})).json()
    assert body["degraded"] == {"rung": "tier1", "reason": "DEADLINE"}
    house.asks.hold.set()
    await asyncio.wait_for(house.asks.superseded.wait(), 5)
    decision_id = next(iter(house.asks.decisions))
    partition = decision_id.split("_")[1]
    track, op, payload = house.asks.log[-1]
    assert (track, op, payload["decision_id"]) == (f"partition {partition}", "supersede", decision_id)


async def test_a_caller_who_goes_away_leaves_a_superseded_decision(house: House) -> None:
    house.asks.hold = asyncio.Event()
    asked = asyncio.ensure_future(house.post("/v1/decide", {**ASK, "deadlineMs": 10_000}))
    await asyncio.wait_for(house.asks.asked.wait(), 5)
    asked.cancel()
    await asyncio.wait([asked])
    house.asks.hold.set()
    await asyncio.wait_for(house.asks.superseded.wait(), 5)


async def test_a_decision_in_time_is_not_superseded(house: House) -> None:
    await house.post("/v1/decide", ASK)
    assert house.asks.ops() == [("anon:a-1", "decide")]


async def test_server_timing_and_a_new_trace(house: House) -> None:
    headers = (await house.post("/v1/decide", ASK)).headers
    assert re.fullmatch(r"ingress;dur=\d+\.\d+, shard;dur=\d+\.\d+", headers["server-timing"])
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-00", headers["traceparent"])


async def test_a_trace_goes_on_with_a_span_of_ours(house: House) -> None:
    given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    told = (await house.post("/v1/decide", ASK, headers={"traceparent": given})).headers["traceparent"]
    assert told[:35] == given[:35]
    assert told[-2:] == "01"
    assert told[36:52] != given[36:52]


@pytest.mark.parametrize("given", ["", "00-x", "ff-" + "1" * 32 + "-" + "1" * 16 + "-01", "00-" + "0" * 32 + "-1-01"])
async def test_a_broken_trace_is_replaced(house: House, given: str) -> None:
    told = (await house.post("/v1/decide", ASK, headers={"traceparent": given})).headers["traceparent"]
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-00", told)


async def test_a_backend_calling_for_a_visitor_is_no_bot(house: House) -> None:
    await house.post("/v1/decide", ASK, headers={"user-agent": "python-requests/2.32"})
    assert house.asks.payload("decide")["context"]["bot"] is False
    crawler = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
    await house.post("/v1/decide", ASK, headers={"user-agent": crawler})
    assert house.asks.payload("decide")["context"]["bot"] is True


async def test_an_item_suggested_twice_is_shown_once(house: House) -> None:
    body = (await house.post("/v1/decide", {**ASK, "base": [*BASE[:1], *BASE[:2]]})).json()
    assert [item["id"] for item in body["items"]] == ["b0", "b1"]


async def test_decisions_are_counted_by_rung(house: House) -> None:
    await house.post("/v1/decide", ASK)
    house.asks.fail["decide"] = Unavailable("overloaded", "full")
    await house.post("/v1/decide", ASK)
    text = (await house.get("/metrics")).text
    assert 'kairos_decisions_total{rung="model"} 1.0' in text
    assert 'kairos_decisions_total{rung="tier1"} 1.0' in text


async def test_a_reward_is_recorded_repeated_and_refused(house: House) -> None:
    decision_id = (await house.post("/v1/decide", ASK)).json()["decisionId"]
    path = f"/v1/decisions/{decision_id}/reward"
    first = await house.post(path, {"value": 1, "type": "conversion"})
    again = await house.post(path, {"value": 1.0, "type": "conversion"})
    other = await house.post(path, {"value": 0.5, "type": "conversion"})
    assert (first.status_code, first.json()) == (200, {"status": "recorded"})
    assert (again.status_code, again.json()) == (200, {"status": "repeated"})
    assert is_problem(other, 409, "reward_conflict")


async def test_a_decision_is_read_and_replayed(house: House) -> None:
    decision_id = (await house.post("/v1/decide", ASK)).json()["decisionId"]
    plain = (await house.get(f"/v1/decisions/{decision_id}")).json()
    replayed = (await house.get(f"/v1/decisions/{decision_id}?replay=true")).json()
    assert plain["decisionId"] == decision_id
    assert "identical" not in plain
    assert replayed["identical"] is True


async def test_an_unknown_decision_is_404_and_an_expired_one_410(house: House) -> None:
    assert is_problem(await house.get("/v1/decisions/d_1_1_1_0"), 404, "unknown_decision")


async def test_a_signal_that_only_the_shard_refuses_is_told_at_its_place_in_the_request(house: House) -> None:
    decided = house.asks._decide("anon:a-1", {"placement": "home", "base": [], "limit": 1, "signals": []})
    told = {"accepted": 0, "duplicates": 0, "rejected": [{"index": 0, "code": "too_late", "message": "no"}]}
    house.asks.replies["decide"] = {"decision": {**decided["decision"], "signals": told}, "status": 200}
    body = (await house.post("/v1/decide", {**ASK, "signals": [{"event": ""}, {"event": "Clicked"}]})).json()
    assert [(r["index"], r["code"]) for r in body["signals"]["rejected"]] == [(0, "bad_event_name"), (1, "too_late")]
