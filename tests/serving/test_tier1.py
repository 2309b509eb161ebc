"""Tier 1 asked over real HTTP: well, slow, broken, talking nonsense; the decision arrives all the same and says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from actors.memory import memory_stores
from engine.book import load_book
from engine.errors import InvalidInput
from serving.breaker import Breaker
from serving.settings import Settings, load_settings
from serving.settings_branches import Tier1Asked
from serving.tier1 import Tier1
from serving.tier1_following import take_sources
from serving.tier1_source import NoSuggestions, Source, read_suggestions, sources_of
from tests.serving.house import House
from tests.serving.tier1_server import Recommender, recommending

BODY = {"anonymousId": "v 1", "placement": "page", "limit": 2, "deadlineMs": 10_000}


@dataclass
class Scene:
    """A recommender, and a house that asks it; `clock_s` is turned by hand."""

    recommender: Recommender
    house: House
    tier1: Tier1
    clock_s: list[float]

    async def decide(self, **more: Any) -> dict[str, Any]:
        answer = await self.house.client.post("/v1/decide", json=BODY | more)
        assert answer.status_code == 200
        return dict(answer.json())

    def ask(self, url: str | None = None, timeout_s: float = 5.0, cache_s: float = 0.0) -> None:
        source = Source(url or self.recommender.url, "recovery", timeout_s, cache_s)
        self.tier1.use({"page": (source,)})


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    clock_s = [100.0]
    settings = Settings(
        tier1=Tier1Asked(failures=2, open_s=10, hosts=("127.0.0.1",), headers={"authorization": "Bearer t1"})
    )
    async with recommending() as recommender:
        tier1 = Tier1(settings.tier1, clock=lambda: clock_s[0])
        house = House(settings, tier1=tier1)
        made = Scene(recommender, house, tier1, clock_s)
        made.ask()
        yield made
        await tier1.close()
        await house.client.aclose()


async def test_suggestions_are_fetched_and_given_to_the_shard(scene: Scene) -> None:
    found = await scene.decide(userId="u", context={"locale": "de-DE"})
    assert [item["id"] for item in found["items"]] == ["r1", "r2"]
    assert found["degraded"] is None
    payload = scene.house.asks.payload("decide")
    assert payload["base"] == [{"id": "r1", "score": 0.4, "content": {"t": 1}}, {"id": "r2"}, {"id": "3"}]
    assert payload["source"] == "fetched"
    assert scene.recommender.asked == ["/recs?userId=u&anonymousId=v%201&placement=page&limit=2"]
    assert "authorization: bearer t1" in scene.recommender.headers.lower()


async def test_suggestions_in_the_request_win_also_when_there_are_none(scene: Scene) -> None:
    await scene.decide(base=[])
    await scene.decide(base=[{"id": "own"}])
    assert scene.recommender.asked == []
    assert scene.house.asks.payload("decide")["base"] == [{"id": "own"}]


async def test_without_consent_nobody_is_named_to_tier_1(scene: Scene) -> None:
    await scene.decide(context={"consent": {"categoryPreferences": {"personalisation": False}}})
    assert scene.recommender.asked == ["/recs?placement=page&limit=2"]


async def test_a_template_is_filled_with_what_is_known(scene: Scene) -> None:
    scene.ask(scene.recommender.url + "/{placement}?u={userId}&a={anonymousId}&d={device}&c={campaign}")
    await scene.decide(context={"userAgentData": {"mobile": True, "platform": "Android"}})
    assert scene.recommender.asked == ["/recs/page?u=&a=v%201&d=mobile&c=recovery"]


@pytest.mark.parametrize(
    ("behaviour", "told"),
    [
        ("err", "TIER1_ERROR"), ("redirect", "TIER1_ERROR"), ("hang up", "TIER1_ERROR"), ("no http", "TIER1_ERROR"),
        ("garbage", "TIER1_INVALID"), ("flood", "TIER1_INVALID"), ("odd", "TIER1_INVALID"),
        ("bomb", "TIER1_INVALID"), ("hang", "TIER1_TIMEOUT"),
    ],
)  # fmt: skip
async def test_whatever_tier_1_does_the_decision_arrives_and_the_shard_records_why(
    scene: Scene, behaviour: str, told: str
) -> None:
    scene.recommender.behave = behaviour
    scene.ask(timeout_s=0.02 if behaviour == "hang" else 5.0)
    found = await scene.decide(deadlineMs=10_000)
    assert (found["items"], found["recorded"]) == ([], True)
    payload = scene.house.asks.payload("decide")
    assert (payload["base"], payload["source"]) == ([], told)
    assert told in (await scene.house.client.get("/metrics")).text


async def test_a_tier_1_that_is_not_there_is_an_error(scene: Scene) -> None:
    scene.ask("http://127.0.0.1:1/recs")
    await scene.decide()
    assert scene.house.asks.payload("decide")["source"] == "TIER1_ERROR"


async def test_a_slow_tier_1_leaves_the_shard_half_of_the_deadline(scene: Scene) -> None:
    scene.recommender.behave = "hang"
    scene.ask(timeout_s=9.0)
    found = await scene.decide(deadlineMs=200)
    assert found["recorded"] is True
    assert scene.house.asks.payload("decide")["source"] == "TIER1_TIMEOUT"


async def test_when_shard_and_tier_1_both_fail_the_answer_names_both(scene: Scene) -> None:
    scene.recommender.behave = "err"
    scene.house.asks.fail["decide"] = RuntimeError("gone")
    found = await scene.decide()
    assert (found["degraded"], found["tier1"]["source"]) == (
        {"rung": "tier1", "reason": "SHARD_UNAVAILABLE"}, "TIER1_ERROR",
    )  # fmt: skip
    scene.recommender.behave = "well"
    found = await scene.decide()
    assert [item["id"] for item in found["items"]] == ["r1", "r2"]
    assert found["tier1"]["source"] == "fetched"


async def test_the_cache_answers_while_it_is_fresh_and_for_a_while_when_tier_1_fails(scene: Scene) -> None:
    scene.ask(cache_s=10)
    await scene.decide()
    await scene.decide()
    assert scene.house.asks.payload("decide")["source"] == "cached"
    assert len(scene.recommender.asked) == 1
    scene.clock_s[0] += 11
    scene.recommender.behave = "err"
    await scene.decide()
    payload = scene.house.asks.payload("decide")
    assert (payload["source"], payload["base"][0]["id"]) == ("stale", "r1")
    scene.clock_s[0] += 1000
    await scene.decide()
    assert scene.house.asks.payload("decide")["source"] == "TIER1_ERROR"


async def test_what_came_too_late_for_one_decision_is_there_for_the_next(scene: Scene) -> None:
    scene.ask(timeout_s=60.0, cache_s=10)
    scene.recommender.behave = "hang"
    await scene.decide(deadlineMs=60)
    assert scene.house.asks.payload("decide")["source"] == "TIER1_TIMEOUT"
    scene.recommender.behave = "well"
    scene.recommender.released.set()
    while scene.tier1._asking:
        await asyncio.wait(scene.tier1._asking.values())
    await scene.decide()
    assert scene.house.asks.payload("decide")["source"] == "cached"


async def test_the_same_question_at_once_is_asked_once(scene: Scene) -> None:
    await asyncio.gather(*(scene.decide() for _ in range(5)))
    assert len(scene.recommender.asked) == 1
    assert [p["source"] for _, op, p in scene.house.asks.log if op == "decide"] == ["fetched"] * 5


async def test_after_failures_in_a_row_nobody_is_asked_until_a_trial_succeeds(scene: Scene) -> None:
    scene.recommender.behave = "err"
    for n in range(4):
        await scene.decide(anonymousId=f"v{n}")
    assert len(scene.recommender.asked) == 2
    assert scene.house.asks.payload("decide")["source"] == "TIER1_OPEN"
    told = (await scene.house.client.get("/v1/tier1")).json()["sources"]
    assert [(row["breaker"], row["opened"], row["results"]) for row in told] == [
        ("open", 1, {"TIER1_ERROR": 2, "TIER1_OPEN": 2})
    ]
    scene.clock_s[0] += 10
    scene.recommender.behave = "well"
    await scene.decide()
    assert scene.house.asks.payload("decide")["source"] == "fetched"
    assert (await scene.house.client.get("/v1/tier1")).json()["sources"][0]["breaker"] == "closed"


async def test_agreement_is_counted_by_campaign_and_told(scene: Scene) -> None:
    decision = {"campaign": "recovery", "degraded": None, "reason": None}
    for agreement, reason in ((1.0, None), (0.5, None), (0.0, "DIVERGED"), (None, None)):
        told = {"mode": "apprentice", "agreement": agreement}
        scene.house.asks.replies["decide"] = {"decision": decision | {"tier1": told, "reason": reason}, "status": 200}
        await scene.decide()
    (row,) = (await scene.house.client.get("/v1/tier1")).json()["agreement"]
    assert row == {
        "campaign": "recovery", "mode": "apprentice", "decisions": 3, "agreement": 0.5,
        "same": pytest.approx(1 / 3), "fellBack": pytest.approx(1 / 3),
    }  # fmt: skip
    text = (await scene.house.client.get("/metrics")).text
    assert 'kairos_tier1_agreement_sum{campaign="recovery",mode="apprentice"} 1.5' in text


# -- the parts ---------------------------------------------------------------------------------------------


def test_a_breaker_opens_tries_one_and_waits_longer_each_time() -> None:
    breaker = Breaker(failures=2, open_s=5.0, longest_s=15.0)
    breaker.failed(0.0)
    assert breaker.allows(0.0)
    breaker.failed(0.0)
    assert (breaker.state(4.9), breaker.allows(4.9)) == ("open", False)
    assert (breaker.allows(5.0), breaker.allows(5.0)) == (True, False)
    breaker.failed(5.0)
    assert (breaker.allows(14.9), breaker.allows(15.0)) == (False, True)
    breaker.failed(15.0)
    assert (breaker.allows(29.9), breaker.allows(30.0)) == (False, True)
    breaker.succeeded()
    assert [breaker.allows(30.0) for _ in range(3)] == [True] * 3


def campaign(priority: int, **tier1: Any) -> dict[str, Any]:
    return {"priority": priority, "placements": ["page"], "offers": {"o": {"content": "x"}}, "tier1": tier1}


def test_the_highest_campaign_with_an_address_is_asked_and_only_hosts_that_are_allowed() -> None:
    book = load_book({"campaigns": {
        "low": campaign(1, url="http://low/r"), "high": campaign(9, url="https://high/r?key=s", timeout="80ms"),
        "none": campaign(20), "off": campaign(30, url="http://off/") | {"enabled": False},
    }})  # fmt: skip
    tier1 = Tier1(Tier1Asked())
    tier1.use(sources_of(book, frozenset()))
    first = tier1.source("page", None)
    assert first is not None
    assert (first.campaign, first.timeout_s, first.cache_s, first.name) == ("high", 0.08, 10.0, "https://high/r")
    named = tier1.source("page", "low")
    assert named is not None
    assert named.campaign == "low"
    assert tier1.source("page", "none") is None
    assert tier1.source("elsewhere", None) is None
    assert [s.campaign for s in sources_of(book, frozenset({"low"}))["page"]] == ["low"]


@pytest.mark.parametrize("body", [b"", b"{}", b"5", b"[1.5]", b'[{"id":""}]', b'[{"id":"a","score":"high"}]', b"[NaN]"])
def test_what_is_no_list_of_suggestions_is_invalid(body: bytes) -> None:
    with pytest.raises(NoSuggestions, match="TIER1_INVALID"):
        read_suggestions(body)


def test_lists_and_objects_of_ids_and_items_are_read() -> None:
    assert read_suggestions(b'{"base":["a",{"id":"b"},"a"]}') == [{"id": "a"}, {"id": "b"}]
    assert read_suggestions(b"[]") == []
    assert len(read_suggestions(orjson.dumps([f"i{n}" for n in range(900)]))) == 500


async def test_an_ingress_takes_the_sources_of_the_book_in_force_as_it_changes() -> None:
    stores, tier1 = memory_stores(), Tier1(Tier1Asked())
    await stores.table.create(8)
    assert await take_sources(stores.versions, tier1, (), "") == ""
    for n, url in enumerate(("http://one/", "http://two/")):
        data = {"campaigns": {"c": campaign(1, url=url)}}
        await stores.versions.put("book", f"b{n}", {}, orjson.dumps(data))
        assert await stores.versions.publish(n, {"book": f"b{n}", "model": ""})
        assert await take_sources(stores.versions, tier1, (), f"b{n - 1}") == f"b{n}"
        assert [s.url for s in tier1.sources["page"]] == [url]
    await tier1.close()


def test_keys_for_tier_1_want_the_names_of_those_who_may_get_them() -> None:
    with pytest.raises(InvalidInput, match="hosts"):
        load_settings(None, {"KAIROS_TIER1__HEADERS": "{authorization: x}"})
    found = load_settings(None, {"KAIROS_TIER1__HEADERS": "{a: x}", "KAIROS_TIER1__HOSTS": "recs,other"})
    assert found.tier1.hosts == ("recs", "other")
