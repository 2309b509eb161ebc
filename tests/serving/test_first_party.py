"""The visitor's id in a cookie of the server: set once, completed by, secure, and never without consent."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from engine.errors import InvalidInput
from serving.settings import Settings, load_settings
from serving.settings_branches import FirstPartyId
from tests.serving.house import House

SHOP = "https://shop.example"
BROWSER = {"origin": SHOP, "sec-fetch-site": "same-site"}
REFUSED = {"consent": {"categoryPreferences": {"analytics": False}}}


def a_house(**first_party: Any) -> House:
    keeping = FirstPartyId(enabled=True, **first_party)
    return House(Settings(first_party=keeping, origins=(SHOP,), trusted_proxies=("127.0.0.1",)))


@pytest.fixture
async def house() -> AsyncIterator[House]:
    made = a_house()
    yield made
    await made.client.aclose()


def cookie(answer: httpx.Response) -> str | None:
    found = re.match(r"kairos_id=([^;]*)", answer.headers.get("set-cookie", ""))
    return found.group(1) if found else None


async def test_a_browser_without_any_id_gets_one_and_is_known_by_it(house: House) -> None:
    first = await house.post("/v1/decide", {"placement": "p"}, headers=BROWSER)
    given = cookie(first)
    assert given is not None
    assert given.startswith("fp_")
    assert len(given) > 30
    assert house.asks.ops() == [(f"anon:{given}", "decide")]
    house.client.cookies.clear()
    second = await house.post("/v1/track", {"event": "x"}, headers={**BROWSER, "cookie": f"a=b; kairos_id={given}"})
    assert second.status_code == 200
    assert "set-cookie" not in second.headers
    assert house.asks.ops()[-1] == (f"anon:{given}", "observe")


async def test_the_cookie_is_one_that_no_script_reads_and_that_lasts(house: House) -> None:
    told = (await house.post("/v1/id", headers=BROWSER)).headers["set-cookie"]
    assert told.split("; ")[1:] == ["Max-Age=34128000", "Path=/", "HttpOnly", "SameSite=Lax"]
    behind = {**BROWSER, "x-forwarded-proto": "https"}
    assert (await house.post("/v1/id", headers=behind)).headers["set-cookie"].endswith("SameSite=Lax; Secure")
    strict = a_house(same_site="Strict", domain=".shop.example", secure="always", max_age_days=1)
    told = (await strict.post("/v1/id", headers=BROWSER)).headers["set-cookie"]
    assert told.split("; ")[1:] == [
        "Max-Age=86400", "Path=/", "HttpOnly", "SameSite=Strict", "Domain=.shop.example", "Secure",
    ]  # fmt: skip


async def test_a_claim_of_tls_by_anybody_else_is_not_believed() -> None:
    house = House(Settings(first_party=FirstPartyId(enabled=True)))
    told = (await house.post("/v1/id", headers={**BROWSER, "x-forwarded-proto": "https"})).headers["set-cookie"]
    assert "Secure" not in told


async def test_a_page_that_begins_by_asking_keeps_its_id_when_its_scripts_forget(house: House) -> None:
    first = await house.post("/v1/id", {}, headers=BROWSER)
    given = first.json()["anonymousId"]
    assert (first.json()["created"], cookie(first)) == (True, given)
    house.client.cookies.clear()
    again = await house.post("/v1/id", {}, headers={**BROWSER, "cookie": f"kairos_id={given}"})
    assert again.json() == {"anonymousId": given, "created": False}
    assert cookie(again) == given


async def test_the_pages_own_id_wins_and_is_remembered(house: House) -> None:
    first = await house.post("/v1/track", {"anonymousId": "my id", "event": "x"}, headers=BROWSER)
    assert cookie(first) == "my%20id"
    house.client.cookies.clear()
    other = {**BROWSER, "cookie": "kairos_id=my%20id"}
    await house.post("/v1/track", {"anonymousId": "another", "event": "x"}, headers=other)
    assert house.asks.ops()[-1] == ("anon:another", "observe")
    await house.post("/v1/identify", {"userId": "u"}, headers=other)
    assert house.asks.ops()[-2:] == [("anon:my id", "link"), ("user:u", "observe")]


async def test_a_batch_of_one_browser_is_of_one_visitor(house: House) -> None:
    rows = [
        {"type": "track", "event": "x"},
        {"type": "track", "event": "y"},
        {"type": "track", "event": "z", "userId": "u"},
    ]
    answer = await house.post("/v1/batch", {"batch": rows}, headers=BROWSER)
    assert answer.json()["accepted"] == 3
    assert {track for track, _ in house.asks.ops()} == {f"anon:{cookie(answer)}", "user:u"}


async def test_a_server_that_calls_gets_no_cookie_and_has_to_name_somebody(house: House) -> None:
    answer = await house.post("/v1/decide", {"placement": "p"})
    assert (answer.status_code, answer.json()["code"]) == (400, "missing_id")
    assert "set-cookie" not in (await house.post("/v1/decide", {"placement": "p", "anonymousId": "a"})).headers


async def test_without_consent_no_id_is_kept_and_one_that_was_goes(house: House) -> None:
    body = {"placement": "p", "anonymousId": "a", "context": REFUSED}
    assert "set-cookie" not in (await house.post("/v1/decide", body, headers=BROWSER)).headers
    gone = await house.post("/v1/id", {"context": REFUSED}, headers={**BROWSER, "cookie": "kairos_id=old"})
    assert gone.json() == {"anonymousId": None, "created": False}
    assert "Max-Age=0" in gone.headers["set-cookie"]


@pytest.mark.parametrize(
    "odd", ["kairos_id=", "kairos_id=%00", "kairos_id=%ff", "xkairos_id=a", "kairos_id=" + "x" * 300]
)
async def test_an_odd_cookie_counts_as_none(house: House, odd: str) -> None:
    answer = await house.post("/v1/id", {}, headers={**BROWSER, "cookie": odd})
    assert answer.json()["created"] is True


async def test_pages_of_named_origins_may_send_their_cookie(house: House) -> None:
    answer = await house.post("/v1/id", {}, headers=BROWSER)
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert answer.headers["access-control-allow-origin"] == SHOP
    preflight = await house.client.options(
        "/v1/decide", headers={"origin": SHOP, "access-control-request-method": "POST"}
    )
    assert preflight.headers["access-control-allow-credentials"] == "true"
    other = await house.post("/v1/id", {}, headers={"origin": "https://evil.example"})
    assert "access-control-allow-credentials" not in other.headers
    anybody = House(Settings(first_party=FirstPartyId(enabled=True), origins=("*",)))
    told = (await anybody.post("/v1/id", {}, headers=BROWSER)).headers
    assert "access-control-allow-credentials" not in told
    off = House(Settings(origins=(SHOP,)))
    answer = await off.post("/v1/id", {}, headers=BROWSER)
    assert (answer.json()["anonymousId"], "set-cookie" in answer.headers) == (None, False)
    assert "access-control-allow-credentials" not in answer.headers


def test_a_cookie_that_browsers_would_not_take_is_a_fault_of_the_settings() -> None:
    with pytest.raises(InvalidInput, match="secure"):
        load_settings(None, {"KAIROS_FIRST_PARTY__SAME_SITE": "None"})
    assert load_settings(None, {"KAIROS_FIRST_PARTY__ENABLED": "true"}).first_party.enabled
