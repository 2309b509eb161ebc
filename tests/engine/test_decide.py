"""decide: pure, explained, recorded, and never without an answer."""

from __future__ import annotations

import copy
from random import Random
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.book import compile_book, load_book
from engine.decide import decide
from engine.decision import Decision
from engine.explain import explain
from engine.inputs import Inputs, Request, read_inputs
from engine.prior import PriorModel
from engine.profile import view
from engine.schema import MODEL_FEATURES, schema_hash
from engine.track import Track
from engine.world import World
from tests.engine.builders import T0, histories, signal

BOOK: dict[str, Any] = {
    "timezone": "UTC",
    "currency": "EUR",
    "geofences": {"store": {"lat": 52.52, "lon": 13.405, "radius_km": 5}},
    "campaigns": {
        "main": {
            "priority": 5,
            "placements": ["page"],
            "conversion": {"event": "Order Completed", "within": "5m", "value": "revenue"},
            "score": {"weights": {"default": {"recency": 0.3, "depth": 0.2, "conversion": 0.5}}},
            "segments": {"deep": {"all": [{"feature": "depth", "above": 0.5}]}},
            "offers": {
                "apple": {
                    "when": {"os": ["ios"]},
                    "content": {"text": "for {{ profile.name | default('you') }}"},
                    "value": 30,
                },
                "deep_only": {"when": {"segment": "deep"}, "content": {"text": "deep"}, "value": 40},
                "dear": {"content": {"text": "dear"}, "value": 1, "cost": 100},
            },
            "policy": {"kind": "epsilon_greedy", "epsilon": 0.1},
            "tier1": {"mode": "enhance"},
        }
    },
}  # fmt: skip


class Flat:
    """A model that says one probability without an offer and another with one."""

    version, kind = "flat-1", "lightgbm"

    def __init__(self, without: float, with_offer: float) -> None:
        self.schema_hash = schema_hash()
        self._p = without, with_offer
        self._offer = MODEL_FEATURES.index("offer_code")

    def predict_one(self, row: Any) -> float:
        return self._p[1] if row[self._offer] else self._p[0]

    def predict_many(self, rows: Any) -> Any:
        return np.array([self.predict_one(row) for row in rows])


def world(book: dict[str, Any] = BOOK, model: Any = None) -> World:
    return World(compile_book(load_book(book), "b1"), model or PriorModel())


def changed(**campaign: Any) -> dict[str, Any]:
    book = copy.deepcopy(BOOK)
    book["campaigns"]["main"].update(campaign)
    return book


def inputs(track: Track | None = None, **more: Any) -> Inputs:
    request = Request("page", limit=more.pop("limit", 1), base=more.pop("base", []))
    consent = more.pop("consent", {"personalisation": True, "training": True})
    context = {"os": "ios", "device": "mobile", **more.pop("context", {})}
    return read_inputs(track or Track.fresh("anon:a"), request, context, consent, T0)


def run(given_inputs: Inputs, in_world: World, seed: int = 1, **more: Any) -> Decision:
    return decide(given_inputs, in_world, now_ms=T0, rng=Random(seed), **more)


@given(histories(max_size=20), st.integers(0, 2**32), st.sampled_from(["ios", "android", "other"]), st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_a_decision_replays_identically_from_its_recorded_inputs(signals: Any, seed: int, os: str, limit: int) -> None:
    track = Track.fresh("anon:a")
    for s in signals:
        track.observe(s, T0)
    read = read_inputs(view("anon:a", [track]), Request("page", limit=limit), {"os": os}, {}, T0)
    stored = orjson.loads(orjson.dumps(read.to_list()))
    first = run(read, world(), seed)
    again = run(Inputs.from_list(stored), world(), seed)
    assert orjson.dumps(again.to_list()) == orjson.dumps(first.to_list())
    assert Decision.from_list(orjson.loads(orjson.dumps(first.to_list()))).to_list() == first.to_list()


@given(st.integers(0, 2**32), st.integers(1, 4))
@settings(max_examples=80, deadline=None)
def test_each_slot_draws_anew_from_the_remainder_with_propensities_that_sum_to_one(seed: int, limit: int) -> None:
    decision = run(inputs(limit=limit), world(), seed)
    seen: set[str] = set()
    for slot in decision.slots:
        assert sum(slot.propensities) == pytest.approx(1.0)
        assert not seen & set(slot.candidates)
        seen.add(slot.drawn)
    shown = [i.id for i in decision.items if i.kind == "offer"]
    assert shown == [s.drawn for s in decision.slots if s.drawn]


def test_an_offer_that_costs_more_than_it_brings_is_not_the_choice() -> None:
    decision = run(inputs(context={"os": "android"}), world(changed(policy={"kind": "greedy"})))
    assert (decision.items, decision.slots[0].drawn) == ([], "")


def test_a_sure_buyer_is_not_paid_to_buy() -> None:
    book = changed(policy={"kind": "greedy"}, offers={"discount": {"content": {"t": "x"}, "value": 30, "cost": 5}})
    persuadable, sure = Flat(0.1, 0.4), Flat(0.9, 0.92)
    assert [i.id for i in run(inputs(), world(book, persuadable)).items] == ["discount"]
    assert run(inputs(), world(book, sure)).items == []


def test_changing_the_weights_changes_who_is_targeted() -> None:
    track = Track.fresh("anon:a")
    track.observe(signal("page", T0 - 50_000), T0)
    track.observe(signal("scroll", T0 - 50_000, px=950.0), T0)
    by_score = {"keen": {"all": [{"feature": "score", "above": 0.5}]}}
    read = read_inputs(track, Request("page"), {}, {}, T0)
    deep = {"weights": {"default": {"recency": 0.1, "depth": 0.8, "conversion": 0.1}}}
    fresh = {"weights": {"default": {"recency": 0.8, "depth": 0.1, "conversion": 0.1}}}
    offers = {"o": {"content": {"t": "x"}}}
    assert run(read, world(changed(segments=by_score, score=deep, offers=offers))).segments == ["keen"]
    assert run(read, world(changed(segments=by_score, score=fresh, offers=offers))).segments == []


def test_of_campaigns_with_equal_priority_the_one_the_visitor_scores_highest_in_is_chosen() -> None:
    book = copy.deepcopy(BOOK)
    other = copy.deepcopy(book["campaigns"]["main"])
    other["score"] = {"weights": {"default": {"recency": 0.9, "depth": 0.0, "conversion": 0.1}}}
    book["campaigns"]["other"] = other
    track = Track.fresh("anon:a")
    track.observe(signal("page", T0), T0)
    assert run(read_inputs(track, Request("page"), {}, {}, T0), world(book)).campaign == "other"


def test_the_holdout_is_sticky_and_never_sees_offers() -> None:
    everyone = world(changed(holdout={"share": 0.5}))
    by_visitor = {}
    for i in range(200):
        read = read_inputs(Track.fresh(f"anon:{i}"), Request("page"), {"os": "ios"}, {}, T0)
        decision = run(read, everyone, seed=i)
        by_visitor[i] = decision.holdout
        if decision.holdout:
            assert all(item.kind == "base" for item in decision.items)
            assert all(v.reason in ("HOLDOUT", "CONDITION") for v in decision.verdicts)
        read.assignments = decision.assignments
        assert run(read, world(changed(holdout={"share": 0.01})), seed=i).holdout == decision.holdout
    assert 70 < sum(by_visitor.values()) < 130


@pytest.mark.parametrize(("p", "reason"), [(float("nan"), "MODEL_FAILED"), (1.7, "MODEL_FAILED")])
def test_a_model_that_talks_nonsense_is_replaced_by_the_next_rung(p: float, reason: str) -> None:
    read = inputs()
    decision = run(read, world(model=Flat(p, p)))
    assert (decision.rung, decision.reason, decision.conversion) == ("rules", reason, None)
    read.last_conversion = 0.2
    decision = run(read, world(model=Flat(p, p)))
    assert (decision.rung, decision.conversion) == ("precomputed", 0.2)
    assert decision.items[0].kind == "offer"


def test_the_last_rung_is_tier_1s_order() -> None:
    decision = run(inputs(base=[{"id": "b1"}, {"id": "b2"}], limit=2), world(), rung="tier1", why="SHARD_UNAVAILABLE")
    assert [i.id for i in decision.items] == ["b1", "b2"]
    assert (decision.rung, decision.reason, decision.plain) == ("tier1", "SHARD_UNAVAILABLE", "DEGRADED")


def test_every_offer_of_the_campaign_is_explained() -> None:
    read, w = inputs(context={"os": "android"}), world()
    told = explain(read, w, run(read, w), T0)
    reasons = {o["offer"]: o for o in told["offers"]}
    assert set(reasons) == {"apple", "deep_only", "dear"}
    assert reasons["apple"]["failed"]["feature"] == "os"
    assert reasons["dear"]["worth"] < 0
    assert told["segments"][0]["clauses"][0]["holds"] is False
    assert sum(told["score"]["terms"].values()) == pytest.approx(told["score"]["value"])


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("enhance", ["apple", "b1"]),
        ("override", ["apple", "b1"]),
        ("fill", ["b1", "b2"]),
        ("suppress", ["apple"]),
        ("apprentice", ["b1", "b2"]),
    ],
)
def test_how_offers_and_tier_1_share_the_slots(mode: str, expected: list[str]) -> None:
    book = changed(policy={"kind": "greedy"}, tier1={"mode": mode})
    decision = run(inputs(base=[{"id": "b1"}, {"id": "b2"}], limit=2), world(book, Flat(0.1, 0.3)))
    assert [i.id for i in decision.items] == expected
    assert decision.served == (["main.apple"] if "apple" in expected else [])


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        ({"device": "mobile", "network": "3g"}, ("mobile_first", "low_bandwidth")),
        ({"device": "desktop", "network": "wifi"}, ("standard", "rich")),
        ({"device": "desktop", "network": "wifi", "save_data": True}, ("standard", "low_bandwidth")),
        ({"device": "tablet"}, ("standard", "standard")),
    ],
)
def test_the_treatment_suits_device_and_network(context: dict[str, Any], expected: tuple[str, str]) -> None:
    read = read_inputs(Track.fresh("anon:a"), Request("page"), context, {}, T0)
    decision = run(read, world())
    assert (decision.layout, decision.media) == expected


def test_content_is_filled_from_the_profile() -> None:
    track = Track.fresh("anon:a")
    track.observe(signal("identify", traits={"name": "Ada"}), T0)
    decision = run(inputs(track), world(changed(policy={"kind": "greedy"}), Flat(0.1, 0.3)))
    assert decision.items[0].content == {"text": "for Ada"}


def test_inside_a_geofence_the_label_holds_and_outside_the_distance_counts() -> None:
    near = {"when": {"all": [{"feature": "geofence", "in": ["store"]}]}, "content": {"t": "near"}, "value": 10}
    book = changed(policy={"kind": "greedy"}, offers={"near": near})
    here = run(inputs(context={"lat": 52.53, "lon": 13.41}), world(book, Flat(0.1, 0.3)))
    away = run(inputs(context={"lat": 48.85, "lon": 2.35}), world(book, Flat(0.1, 0.3)))
    assert ([i.id for i in here.items], away.items) == (["near"], [])
