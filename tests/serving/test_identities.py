"""Identities over HTTP before real shards: linked, refused and reported, undone, and never in clear."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from hashlib import sha256

import pytest

from serving.settings import Settings
from serving.settings_branches import Identity
from tests.actors.town import Town
from tests.serving.whole import Whole

ADA = sha256(b"ada@example.org").hexdigest()


@pytest.fixture
async def whole() -> AsyncIterator[Whole]:
    town = Town()
    town.settings = replace(town.settings, max_users_per_device=2)
    await town.start()
    yield Whole(town, Settings(identity=Identity(email=True, devices=True, max_users_per_device=2)))
    await town.stop()


async def test_one_person_by_device_address_and_user_is_one_profile(whole: Whole) -> None:
    await whole.post("/v1/track", {"deviceId": "phone", "event": "Product Viewed", "properties": {"product_id": "p"}})
    await whole.post("/v1/identify", {"anonymousId": "a", "deviceId": "phone", "traits": {"email": " ADA@example.org"}})
    await whole.post("/v1/identify", {"userId": "u", "hashedEmail": ADA})
    shown = (await whole.get("/v1/profiles/device:phone")).json()
    assert shown["identities"] == ["anon:a", "device:phone", f"email:{ADA}", "user:u"]
    assert shown["root"] == "user:u"
    assert shown["traits"] == {"email_sha256": ADA}
    decided = (await whole.post("/v1/decide", {"email": "Ada@Example.org", "placement": "product_page"})).json()
    assert decided["profileId"] == shown["profileId"]
    scored = (await whole.post("/v1/score", {"deviceId": "phone"})).json()
    assert scored["profileId"] == shown["profileId"]


async def test_an_address_is_in_no_journal_snapshot_answer_or_log(
    whole: Whole, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    address = "ada@example.org"
    answers = [
        await whole.post("/v1/identify", {"userId": "u", "traits": {"email": address, "E-Mail": address}}),
        await whole.post("/v1/group", {"userId": "u", "groupId": "g", "traits": {"email": address}}),
        await whole.post("/v1/identify", {"anonymousId": "a", "email": address}),
        await whole.post("/v1/identify", {"anonymousId": "a", "email": "Ada@ example.org"}),
        await whole.post(
            "/v1/decide",
            {"email": address, "placement": "product_page", "explain": True,
             "signals": [{"type": "identify", "traits": {"email": address}}, {"event": "x", "email": "broken@"}]},
        ),
        await whole.get(f"/v1/profiles/email:{ADA}"),
        await whole.get(f"/v1/profiles/email:{ADA}/export"),
        await whole.post("/v1/identities/unlink", {"userId": "u", "email": address}),
        await whole.post("/v1/track", {"userId": "u", "event": "Told A Friend", "properties": {"to": [address]}}),
        await whole.post("/v1/page", {"userId": "u", "properties": {"url": "/", "mail": address}}),
    ]  # fmt: skip
    assert [answer.status_code for answer in answers] == [200, 200, 200, 400, 200, 200, 200, 200, 200, 200]
    kept = await whole.everything() + "".join(answer.text for answer in answers) + caplog.text
    assert ADA in kept
    assert "ada@" not in kept.lower()
    assert "broken@" not in kept


async def test_an_id_that_is_an_address_is_kept_by_its_digest_and_found_by_the_address(whole: Whole) -> None:
    address = "Ada@Example.org"
    answers = [
        await whole.post("/v1/identify", {"userId": address, "anonymousId": "a", "traits": {"plan": "gold"}}),
        await whole.post("/v1/track", {"userId": " ada@example.org", "event": "Clicked"}),
        await whole.post("/v1/alias", {"userId": address, "previousId": "ada+old@example.org"}),
        await whole.post(
            "/v1/decide", {"userId": address, "placement": "product_page", "signals": [{"event": "Clicked"}]}
        ),
        await whole.post("/v1/score", {"userId": address}),
        await whole.get(f"/v1/profiles/user:{address}"),
        await whole.get(f"/v1/profiles/user:{address}/export"),
    ]
    assert [answer.status_code for answer in answers] == [200] * 7
    assert len({answer.json()["profileId"] for answer in answers[3:6]}) == 1
    shown = answers[5].json()
    assert (shown["root"], "anon:a" in shown["identities"]) == (f"user:{ADA}", True)
    assert shown["features"]["n_clicks"] == 2
    assert "@" not in await whole.everything() + "".join(answer.text for answer in answers)
    unlinked = await whole.post("/v1/identities/unlink", {"userId": address, "anonymousId": "a"})
    assert unlinked.json() == {"unlinked": True}
    assert (await whole.client.delete(f"/v1/profiles/user:{address}")).status_code == 202


async def test_an_id_is_kept_as_it_comes_where_addresses_are_no_identities() -> None:
    town = await Town().start()
    whole = Whole(town, Settings())
    await whole.post("/v1/track", {"userId": "ada@example.org", "event": "Clicked"})
    assert (await whole.get("/v1/profiles/user:ada@example.org")).json()["root"] == "user:ada@example.org"
    await town.stop()


async def test_a_second_user_of_a_device_is_taken_and_the_refused_link_is_reported(whole: Whole) -> None:
    await whole.post("/v1/identify", {"userId": "u1", "deviceId": "till"})
    for user, code in (("u2", "linked_elsewhere"), ("u3", "shared_device")):
        answer = (await whole.post("/v1/identify", {"userId": user, "deviceId": "till", "traits": {"n": user}})).json()
        assert (answer["accepted"], [r["code"] for r in answer["refusedLinks"]]) == (1, [code])
        assert (await whole.get(f"/v1/profiles/user:{user}")).json()["identities"] == [f"user:{user}"]
    again = (await whole.post("/v1/identify", {"userId": "u1", "deviceId": "till"})).json()
    assert "refusedLinks" not in again
    assert 'kairos_links_refused_total{code="shared_device"} 1.0' in (await whole.get("/metrics")).text


async def test_an_alias_between_two_known_users_is_refused(whole: Whole) -> None:
    await whole.post("/v1/identify", {"userId": "old"})
    await whole.post("/v1/identify", {"userId": "new"})
    answer = await whole.post("/v1/alias", {"userId": "new", "previousId": "old"})
    assert (answer.status_code, answer.json()["code"]) == (400, "merge_refused")
    assert (await whole.get("/v1/profiles/user:new")).json()["identities"] == ["user:new"]
    await whole.post("/v1/track", {"anonymousId": "visitor", "event": "x"})
    answer = await whole.post("/v1/alias", {"userId": "new", "previousId": "visitor"})
    assert answer.json()["accepted"] == 1
    answer = await whole.post("/v1/alias", {"userId": "old", "previousId": "visitor"})
    assert answer.json()["code"] == "linked_elsewhere"


async def test_any_identity_may_be_unlinked_by_its_own_name(whole: Whole) -> None:
    await whole.post("/v1/identify", {"userId": "u", "deviceId": "d", "email": "ada@example.org", "anonymousId": "a"})
    for body in ({"deviceId": "d"}, {"hashedEmail": ADA}, {"anonymousId": "a"}):
        assert (await whole.post("/v1/identities/unlink", {"userId": "u", **body})).json() == {"unlinked": True}
    assert (await whole.get("/v1/profiles/user:u")).json()["identities"] == ["user:u"]
    for body in ({"userId": "u"}, {"deviceId": "d"}, {"userId": "u", "deviceId": "d", "anonymousId": "a"}):
        assert (await whole.post("/v1/identities/unlink", body)).json()["code"] == "missing_id"


async def test_without_the_setting_devices_and_addresses_are_only_what_they_were() -> None:
    town = await Town().start()
    whole = Whole(town)
    await whole.post("/v1/identify", {"userId": "u", "deviceId": "d", "traits": {"email": "ada@example.org"}})
    shown = (await whole.get("/v1/profiles/user:u")).json()
    assert (shown["identities"], shown["traits"]) == (["user:u"], {"email": "ada@example.org"})
    refused = await whole.post("/v1/decide", {"deviceId": "d", "placement": "product_page"})
    assert refused.json()["code"] == "missing_id"
    await town.stop()


async def test_a_batch_keeps_the_order_of_what_its_links_join(whole: Whole) -> None:
    batch = [
        {"type": "track", "deviceId": "d", "event": "Clicked"},
        {"type": "identify", "anonymousId": "a", "deviceId": "d", "email": "ada@example.org"},
        {"type": "identify", "userId": "u", "email": "ada@example.org"},
        {"type": "track", "anonymousId": "a", "event": "Clicked"},
    ]
    answer = (await whole.post("/v1/batch", {"batch": batch})).json()
    assert (answer["accepted"], answer["rejected"]) == (4, [])
    shown = (await whole.get("/v1/profiles/user:u")).json()
    assert len(shown["identities"]) == 4
    assert shown["n_signals"] == 4
