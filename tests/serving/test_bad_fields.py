"""Bad fields, ids, paths and methods are told what is wrong with them: never a 5xx."""

from __future__ import annotations

from typing import Any

import pytest

from tests.serving.house import NOW_MS, House, a_track, is_problem


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("1970", "1970-01-01T00:00:00Z"), ("2100", "2100-01-01T00:00:00Z"), ("epoch seconds", NOW_MS // 1000),
        ("zero", 0), ("negative", -5), ("huge", 10**18), ("words", "yesterday"), ("boolean", True),
        ("object", {}), ("empty", ""), ("month 13", "2024-13-01"), ("a day and more ahead", NOW_MS + 86_400_001),
        ("1999", "1999-12-31T23:59:59.999Z"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)  # fmt: skip
@pytest.mark.parametrize("field", ["timestamp", "sentAt"])
async def test_a_time_beyond_the_bounds_is_rejected(house: House, name: str, value: Any, field: str) -> None:
    response = await house.post("/v1/track", a_track(**{field: value}))
    assert is_problem(response, 400, "bad_timestamp")
    assert field in response.json()["message"]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"anonymousId": None}, "missing_id"), ({"anonymousId": ""}, "bad_anonymous_id"),
        ({"anonymousId": "a\x00b"}, "bad_anonymous_id"), ({"anonymousId": "a\nb"}, "bad_anonymous_id"),
        ({"anonymousId": "x" * 257}, "bad_anonymous_id"), ({"anonymousId": 1.5}, "bad_anonymous_id"),
        ({"anonymousId": True}, "bad_anonymous_id"), ({"anonymousId": []}, "bad_anonymous_id"),
        ({"userId": {}}, "bad_user_id"), ({"userId": "", "anonymousId": None}, "bad_user_id"),
        ({"userId": 1e300}, "bad_user_id"),
        ({"messageId": ""}, "bad_message_id"), ({"messageId": ["m"]}, "bad_message_id"),
        ({"event": None}, "bad_event_name"), ({"event": ""}, "bad_event_name"), ({"event": 7}, "bad_event_name"),
        ({"event": "a\x00"}, "bad_event_name"), ({"event": "e" * 257}, "bad_event_name"),
        ({"type": "page"}, "bad_type"), ({"type": 5}, "bad_type"), ({"context": []}, "bad_context"),
        ({"context": "x"}, "bad_context"), ({"properties": []}, "bad_properties"),
        ({"properties": "x"}, "bad_properties"),
    ],
)  # fmt: skip
async def test_a_wrong_common_field_is_rejected(house: House, fields: dict[str, Any], code: str) -> None:
    response = await house.post("/v1/track", a_track(**fields))
    assert is_problem(response, 400, code)
    assert response.json()["rejected"] == [{"index": 0, "code": code, "message": response.json()["message"]}]
    assert response.json()["success"] is False


@pytest.mark.parametrize(
    ("event", "properties"),
    [
        ("Scroll Depth", {"scroll_px": -1}), ("Scroll Depth", {"scroll_px": "10"}),
        ("Scroll Depth", {"scroll_px": 1e300}), ("Scroll Depth", {"scroll_share": 1.01}),
        ("scroll", {"percent_scrolled": 101}), ("scroll", {"percent_scrolled": True}),
        ("Heartbeat", {"time_on_page_s": -0.1}), ("user_engagement", {"engagement_time_msec": []}),
        ("Hover", {"hover_ms": -5}), ("Hover", {"target": 5}), ("Clicked", {"target": {}}),
        ("Product Viewed", {"product_id": ""}), ("Product Viewed", {"product_id": "p", "price": -1}),
        ("Product Added", {"product_id": "p", "quantity": 0}), ("add_to_cart", {"items": {}}),
        ("add_to_cart", {"items": [3]}), ("add_to_cart", {"items": [{"item_id": "p", "price": "9"}]}),
        ("Cart Viewed", {"currency": "EURO"}), ("purchase", {"value": -3}), ("purchase", {"currency": 978}),
        ("Order Completed", {"revenue": "12"}), ("Order Completed", {"order_id": {}}),
        ("Checkout Started", {"step": 0}), ("Offer Viewed", {"decision_id": 1.5}), ("Page Viewed", {"url": 5}),
        ("Order Completed", {"products": [{"product_id": "p"}] * 201}),
    ],
)  # fmt: skip
async def test_a_wrong_property_is_named_with_found_and_expected(
    house: House, event: str, properties: dict[str, Any]
) -> None:
    response = await house.post("/v1/track", a_track(event, properties=properties))
    assert is_problem(response, 400, "bad_property")
    message = response.json()["message"]
    assert message.startswith("properties")
    assert any(name in message for name in properties)
    assert "found" in message
    assert "expected" in message


async def test_unknown_events_and_properties_are_taken_and_ignored(house: House) -> None:
    response = await house.post("/v1/track", a_track("Level Up", properties={"scroll_px": "many", "x": [1, {}]}))
    assert response.json()["accepted"] == 1
    assert house.asks.payload("observe")["signals"][0][0] == "custom"


async def test_unicode_is_kept(house: House) -> None:
    await house.post("/v1/track", {"userId": "Ünïcødé 🦊 名前", "event": "Größe", "properties": {}})
    assert house.asks.log[0][0] == "user:Ünïcødé 🦊 名前"


async def test_null_bytes_in_text_harm_nothing(house: House) -> None:
    response = await house.post("/v1/page", {"anonymousId": "a", "properties": {"title": "a\x00b"}})
    assert response.status_code == 200


async def test_an_empty_user_id_beside_an_anonymous_id_is_none_as_rudderstack_sends_it(house: House) -> None:
    response = await house.post("/v1/track", {"userId": "", "anonymousId": "r-1", "event": "x"})
    assert response.json()["accepted"] == 1
    assert house.asks.log[0][0] == "anon:r-1"


async def test_a_whole_number_is_an_id(house: House) -> None:
    await house.post("/v1/track", {"userId": 42, "event": "x"})
    assert house.asks.log[0][0] == "user:42"


@pytest.mark.parametrize("fields", [{"groupId": None}, {"groupId": ""}, {"groupId": []}])
async def test_a_group_needs_an_id(house: House, fields: dict[str, Any]) -> None:
    assert is_problem(await house.post("/v1/group", {"userId": "u", **fields}), 400, "bad_group_id")


@pytest.mark.parametrize("body", [{"userId": "u"}, {"anonymousId": "a", "previousId": "b"}])
async def test_an_alias_needs_both_ids(house: House, body: dict[str, Any]) -> None:
    assert is_problem(await house.post("/v1/alias", body), 400, "missing_id")


async def test_traits_that_are_no_object_are_rejected(house: House) -> None:
    assert is_problem(await house.post("/v1/identify", {"userId": "u", "traits": [1]}), 400, "bad_traits")


async def test_all_rejected_is_400_with_every_index(house: House) -> None:
    response = await house.post("/v1/batch", {"batch": [None, {"type": "track"}, {"type": "hop", "userId": "u"}]})
    assert is_problem(response, 400, "all_rejected")
    rejected = [(r["index"], r["code"]) for r in response.json()["rejected"]]
    assert rejected == [(0, "bad_event"), (1, "missing_id"), (2, "bad_type")]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"placement": None}, "missing_placement"), ({"placement": ""}, "bad_placement"),
        ({"placement": 1.5}, "bad_placement"), ({"placement": []}, "bad_placement"),
        ({"anonymousId": None}, "missing_id"), ({"campaign": {}}, "bad_campaign"),
        ({"requestId": "\x01"}, "bad_request_id"), ({"pageViewId": []}, "bad_page_view_id"),
        ({"context": "x"}, "bad_context"), ({"explain": "yes"}, "bad_explain"), ({"limit": 0}, "bad_limit"),
        ({"limit": 101}, "bad_limit"), ({"limit": "3"}, "bad_limit"), ({"limit": True}, "bad_limit"),
        ({"limit": 1.5}, "bad_limit"), ({"deadlineMs": 0}, "bad_deadline"), ({"deadlineMs": 10_001}, "bad_deadline"),
        ({"deadlineMs": "soon"}, "bad_deadline"), ({"base": {}}, "bad_base"), ({"base": [1]}, "bad_base"),
        ({"base": [{}]}, "bad_base"), ({"base": [{"id": []}]}, "bad_base"),
        ({"base": [{"id": "b", "score": "high"}]}, "bad_base"), ({"base": [{"id": "b"}] * 501}, "bad_base"),
    ],
)  # fmt: skip
async def test_a_wrong_decide_is_400(house: House, fields: dict[str, Any], code: str) -> None:
    response = await house.post("/v1/decide", {"anonymousId": "a", "placement": "home", **fields})
    assert is_problem(response, 400, code)
    assert house.asks.log == []


async def test_a_signal_of_40_kb_with_a_decision_is_rejected_alone(house: House) -> None:
    signals = [a_track(), a_track(properties={"x": "y" * 40_960}), a_track()]
    response = await house.post("/v1/decide", {"anonymousId": "a", "placement": "home", "signals": signals})
    told = response.json()["signals"]
    assert (response.status_code, told["accepted"]) == (200, 2)
    assert [(r["index"], r["code"]) for r in told["rejected"]] == [(1, "too_large")]


@pytest.mark.parametrize("signals", ["x", 5, {}, [None], [{}], [{"event": "scroll", "properties": {"scroll_px": -1}}]])
async def test_bad_signals_never_fail_a_decision(house: House, signals: Any) -> None:
    response = await house.post("/v1/decide", {"anonymousId": "a", "placement": "home", "signals": signals})
    assert response.status_code == 200
    told = response.json()["signals"]
    assert (told["accepted"], [r["index"] for r in told["rejected"]]) == (0, [0])


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "bad_value"), ({"value": 1.1, "type": "conversion"}, "bad_value"),
        ({"value": -0.1, "type": "conversion"}, "bad_value"), ({"value": True, "type": "conversion"}, "bad_value"),
        ({"value": "1", "type": "conversion"}, "bad_value"), ({"value": 1}, "bad_reward_type"),
        ({"value": 1, "type": ""}, "bad_reward_type"), ({"value": 1, "type": 5}, "bad_reward_type"),
    ],
)  # fmt: skip
async def test_a_wrong_reward_is_400(house: House, body: Any, code: str) -> None:
    assert is_problem(await house.post("/v1/decisions/d_1_1_1_0/reward", body), 400, code)


@pytest.mark.parametrize("given", ["nonsense", "d_1_1_1", "d_1_1_1_x", "d_01_1_1_1", "d_1_1_1_0%00"])
async def test_a_wrong_decision_id_is_400(house: House, given: str) -> None:
    assert is_problem(await house.get(f"/v1/decisions/{given}"), 400, "bad_decision_id")


async def test_a_decision_of_a_partition_that_is_not_is_404(house: House) -> None:
    assert is_problem(await house.get("/v1/decisions/d_64_1_1_0"), 404, "unknown_decision")


@pytest.mark.parametrize("given", ["nonsense", "p_!!!", "user:", "anon:a%00b", "p_"])
async def test_a_wrong_profile_id_is_400(house: House, given: str) -> None:
    assert is_problem(await house.get(f"/v1/profiles/{given}"), 400, "bad_profile_id")


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/nothing", "/v1/track/", "/v1/trains", "/v1/live", "/v1/rollouts/"])
async def test_an_unknown_path_is_404(house: House, path: str) -> None:
    assert is_problem(await house.get(path), 404, "unknown_path")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/decide"), ("PUT", "/v1/batch"), ("POST", "/healthz"), ("PATCH", "/v1/campaigns"),
     ("DELETE", "/v1/decisions/d_1_1_1_0"), ("OPTIONS", "/v1/track")],
)  # fmt: skip
async def test_a_wrong_method_is_405_and_says_which_is_right(house: House, method: str, path: str) -> None:
    response = await house.client.request(method, path)
    assert is_problem(response, 405, "wrong_method")
    assert response.headers["allow"]


async def test_a_shard_that_answers_nonsense_is_503_and_not_an_error_of_ours(house: House) -> None:
    house.asks.replies["observe"] = {"results": []}
    assert is_problem(await house.post("/v1/track", a_track()), 503, "not_durable")
