"""Events over HTTP: to the right track, in order, counted once."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from engine.errors import Unavailable
from engine.record import SIGNALS
from serving.examples import ALIAS, BATCH, GROUP, IDENTIFY, PAGE, SCREEN, TRACK
from tests.actors.town import Town
from tests.serving.house import NOW_MS, House, a_track, in_batch, is_problem
from tests.serving.whole import Whole

NO_ANALYTICS = {"consent": {"categoryPreferences": {"analytics": False}}}
EXAMPLES = {"track": TRACK, "identify": IDENTIFY, "page": PAGE, "screen": SCREEN, "group": GROUP, "alias": ALIAS}


@pytest.mark.parametrize("type_", EXAMPLES)
async def test_an_event_is_accepted_and_then_a_duplicate(house: House, type_: str) -> None:
    first = await house.post(f"/v1/{type_}", EXAMPLES[type_])
    again = await house.post(f"/v1/{type_}", EXAMPLES[type_])
    assert first.json() == {"success": True, "accepted": 1, "duplicates": 0, "rejected": []}
    assert (again.status_code, again.json()["duplicates"]) == (200, 1)


async def test_events_without_a_message_id_are_all_different(house: House) -> None:
    assert (await house.post("/v1/batch", in_batch(a_track(), a_track(), a_track()))).json()["accepted"] == 3


async def test_a_message_id_counts_by_track(house: House) -> None:
    batch = in_batch(a_track(messageId="m"), a_track(messageId="m"), {"userId": "u", "event": "x", "messageId": "m"})
    body = (await house.post("/v1/batch", batch)).json()
    assert (body["accepted"], body["duplicates"]) == (2, 1)


async def test_a_batch_is_grouped_by_track_and_keeps_its_order(house: House) -> None:
    rows = [{"anonymousId": f"a-{i % 3}", "event": f"e{i}"} for i in range(12)]
    await house.post("/v1/batch", in_batch(*rows))
    asked = {track: [row[3]["name"] for row in p["signals"]] for track, _, p in house.asks.log}
    assert asked == {f"anon:a-{k}": [f"e{i}" for i in range(12) if i % 3 == k] for k in range(3)}


async def test_results_go_back_to_their_places(house: House) -> None:
    await house.post("/v1/track", {"userId": "b", "event": "x", "messageId": "old"})
    batch = in_batch(
        {"userId": "a", "event": "x"}, {"userId": "b", "event": "x", "messageId": "old"},
        {"event": "nobody"}, {"userId": "c", "event": "x"},
    )  # fmt: skip
    body = (await house.post("/v1/batch", batch)).json()
    assert (body["accepted"], body["duplicates"], [r["index"] for r in body["rejected"]]) == (2, 1, [2])


async def test_an_identify_with_both_ids_links_before_it_is_observed(house: House) -> None:
    await house.post("/v1/identify", IDENTIFY)
    assert house.asks.ops() == [("anon:a-1", "link"), ("user:ada", "observe")]
    assert house.asks.log[0][2]["to"] == "user:ada"


async def test_an_identify_with_one_id_links_nothing(house: House) -> None:
    await house.post("/v1/identify", {"anonymousId": "a", "traits": {"plan": "plus"}})
    assert house.asks.ops() == [("anon:a", "observe")]


async def test_an_alias_links_the_previous_id(house: House) -> None:
    await house.post("/v1/alias", ALIAS)
    assert house.asks.ops()[:2] == [("user:a-0", "known"), ("anon:a-0", "link")]


async def test_a_track_with_both_ids_goes_to_the_user_and_links_nothing(house: House) -> None:
    await house.post("/v1/track", {"userId": "u", "anonymousId": "a", "event": "x"})
    assert house.asks.ops() == [("user:u", "observe")]


async def test_tracks_that_a_batch_links_stay_in_the_order_of_the_batch(house: House) -> None:
    batch = {
        "batch": [
            {"type": "track", "anonymousId": "a", "event": "before"},
            {"type": "identify", "anonymousId": "a", "userId": "u"},
            {"type": "track", "userId": "u", "event": "after"},
            {"type": "track", "anonymousId": "a", "event": "later"},
        ]
    }
    assert (await house.post("/v1/batch", batch)).json()["accepted"] == 4
    assert house.asks.ops() == [
        ("anon:a", "observe"), ("anon:a", "link"), ("user:u", "observe"), ("anon:a", "observe"),
    ]  # fmt: skip


async def test_an_event_whose_link_is_refused_is_rejected_with_the_shards_reason(house: House) -> None:
    house.asks.replies["link"] = {"error": {"code": "linked_elsewhere", "message": "no", "status": 409}}
    assert is_problem(await house.post("/v1/identify", IDENTIFY), 400, "linked_elsewhere")
    assert ("user:ada", "observe") not in house.asks.ops()


@pytest.mark.parametrize("failure", [Unavailable("shard_unavailable", "gone"), RuntimeError("bug")])
async def test_what_could_not_be_made_durable_is_503_with_retry_after(house: House, failure: Exception) -> None:
    house.asks.fail["observe"] = failure
    response = await house.post("/v1/track", a_track())
    assert is_problem(response, 503, "not_durable")
    assert int(response.headers["retry-after"]) > 0


async def test_a_full_archive_is_named_as_the_reason(house: House) -> None:
    house.asks.replies["observe"] = {"unavailable": {"code": "archive_full", "message": "no space left"}}
    response = await house.post("/v1/track", a_track())
    assert is_problem(response, 503, "not_durable")
    assert response.json()["reason"] == "archive_full"


async def test_one_lost_part_makes_the_whole_batch_503_and_still_counts_the_rest(house: House) -> None:
    house.asks.unreachable.add("user:lost")
    batch = in_batch({"userId": "kept", "event": "x"}, {"userId": "lost", "event": "x"}, {"event": "nobody"})
    response = await house.post("/v1/batch", batch)
    assert is_problem(response, 503, "not_durable")
    body = response.json()
    assert (body["success"], body["accepted"], [r["index"] for r in body["rejected"]]) == (False, 1, [2])


async def test_after_a_failed_link_the_rest_of_the_visitor_waits_for_the_retry(house: House) -> None:
    house.asks.fail["link"] = Unavailable("shard_unavailable", "gone")
    batch = {"batch": [{"type": "identify", **IDENTIFY}, {"type": "track", "userId": "ada", "event": "x"}]}
    assert (await house.post("/v1/batch", batch)).status_code == 503
    assert house.asks.ops() == [("anon:a-1", "link")]


async def test_batch_context_and_sent_at_are_merged_into_the_events(house: House) -> None:
    shared = {"locale": "de-DE", "timezone": "Europe/Berlin"}
    batch = in_batch(
        a_track(timestamp=NOW_MS - 60_000), a_track(context={"locale": "fr-FR"}),
        context=shared, sentAt=NOW_MS - 5_000,
    )  # fmt: skip
    await house.post("/v1/batch", batch)
    (_, _, first), (_, _, second) = house.asks.log
    assert first["signals"][0][1] == NOW_MS - 55_000
    assert (first["context"]["locale"], second["context"]["locale"]) == ("de-DE", "fr-FR")
    assert second["context"]["timezone"] == "Europe/Berlin"


async def test_backfill_is_passed_on(house: House) -> None:
    await house.post("/v1/batch?backfill=true", BATCH)
    assert house.asks.payload("observe")["backfill"] is True
    await house.post("/v1/batch", BATCH)
    assert house.asks.payload("observe")["backfill"] is False


async def test_consent_and_gpc_travel_with_the_signals(house: House) -> None:
    refused = {"consent": {"categoryPreferences": {"training": False}}}
    await house.post("/v1/track", a_track(context=refused))
    assert house.asks.payload("observe")["consent"] == {"analytics": True, "personalisation": True, "training": False}
    await house.post("/v1/track", a_track(), headers={"sec-gpc": "1"})
    assert house.asks.payload("observe")["consent"] == {"analytics": True, "personalisation": False, "training": False}


async def test_ten_thousand_worthless_events_are_judged_one_by_one(house: House) -> None:
    response = await house.client.post("/v1/batch", content=orjson.dumps({"batch": [0] * 10_000}))
    assert len(response.json()["rejected"]) == 10_000


async def test_results_are_counted_for_prometheus(house: House) -> None:
    message = a_track(messageId="m")
    await house.post("/v1/batch", in_batch(message, message, {"event": "nobody"}))
    text = (await house.get("/metrics")).text
    assert 'kairos_events_total{result="accepted"} 1.0' in text
    assert 'kairos_events_total{result="duplicate"} 1.0' in text
    assert 'kairos_events_rejected_total{code="missing_id"} 1.0' in text
    assert 'kairos_request_seconds_count{route="POST /v1/batch",status="2xx"} 1.0' in text


async def test_codes_beyond_the_bound_are_counted_together(house: House) -> None:
    for i in range(80):
        answer: dict[str, Any] = {"results": [{"code": f"code_{i}", "message": "no"}]}
        house.asks.replies["observe"] = answer
        await house.post("/v1/track", a_track())
    text = (await house.get("/metrics")).text
    assert text.count("kairos_events_rejected_total{") == 65
    assert 'kairos_events_rejected_total{code="other"} 16.0' in text


async def test_what_nothing_understands_is_kept_with_its_signal_and_handed_out() -> None:
    town = await Town().start()
    whole = Whole(town)
    await whole.post("/v1/track", a_track("Level Up", properties={"boss": {"name": "Ganon"}}))
    await whole.post("/v1/track", a_track("Product Viewed", properties={"product_id": "p", "shade": "teal"}))
    await whole.post("/v1/track", a_track("Clicked", properties={"lost": "x"}, context=NO_ANALYTICS))
    records = (await whole.get("/v1/profiles/anon:a-1/export")).json()["records"]
    await town.stop()
    kept = {signal[0]: signal[3] for record in records if record[0] == SIGNALS for signal in record[4]}
    assert kept == {
        "custom": {"name": "Level Up", "properties": {"boss": {"name": "Ganon"}}},
        "product_viewed": {"items": [{"id": "p", "quantity": 1}], "properties": {"shade": "teal"}},
    }
