"""Tier 1 and Tier 2 in one answer: the five modes, the laws of the blend, agreement and divergence."""

from __future__ import annotations

import copy
import math
from itertools import pairwise
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.book import BookInvalid, load_book
from engine.decide import decide
from engine.decision import Decision, Verdict
from engine.explain import explain
from engine.harmony import IN_CART, VIEWED, blended, falling, logit, overlap
from engine.inputs import Inputs, Request, read_inputs
from engine.track import Track
from tests.engine.builders import T0, signal
from tests.engine.test_decide import BOOK, Flat, world

IDS = [f"i{n}" for n in range(8)]
MODEL = Flat(0.05, 0.3)


def visitor(*signals: Any) -> Track:
    track = Track.fresh("anon:v")
    for one in signals:
        track.observe(one, T0)
    return track


def asked(track: Track, ids: list[str], limit: int = 10, **more: Any) -> Inputs:
    base = [{"id": i} for i in ids]
    return read_inputs(track, Request("page", base=base, limit=limit, **more), {"os": "ios"}, {}, T0)


def answer(inputs: Inputs, offers: dict[str, Any] | None = None, model: Any = MODEL, **tier1: Any) -> Decision:
    book = copy.deepcopy(BOOK)
    book["campaigns"]["main"] |= {"tier1": tier1, "policy": {"kind": "greedy"}, "holdout": {"share": 0}}
    if offers is not None:
        book["campaigns"]["main"]["offers"] = offers
    return decide(inputs, world(book, model), now_ms=T0, rng=Random(1))


def ids(decision: Decision) -> list[str]:
    return [item.id for item in decision.items]


SHOPPER = visitor(
    signal("product_viewed", items=[{"id": "i3"}]),
    signal("product_added", items=[{"id": "i5", "price": 9.0, "quantity": 1}]),
)


def test_fill_puts_tier_1_first_and_offers_into_what_is_left() -> None:
    assert ids(answer(asked(SHOPPER, ["x", "y"], limit=3), mode="fill")) == ["x", "y", "apple"]
    assert ids(answer(asked(SHOPPER, ["x", "y"], limit=2), mode="fill")) == ["x", "y"]


def test_enhance_puts_offers_first_and_lifts_what_the_visitor_looked_at() -> None:
    found = answer(asked(SHOPPER, IDS, limit=9), mode="enhance")
    assert ids(found) == ["apple", "i0", "i5", "i3", "i1", "i2", "i4", "i6", "i7"]
    assert {item.reason for item in found.items[1:]} == {"BLENDED"}
    assert all(0.0 < (item.score or 0.0) < 1.0 for item in found.items[1:])
    assert found.harmony is not None
    assert 0.0 < found.harmony[1] < 1.0


def test_override_is_tier_2s_order_alone() -> None:
    assert ids(answer(asked(SHOPPER, IDS), offers={}, mode="override"))[:3] == ["i5", "i3", "i0"]


def test_suppress_shows_offers_instead_of_tier_1_where_there_are_any() -> None:
    assert ids(answer(asked(SHOPPER, IDS), mode="suppress")) == ["apple"]
    nothing = answer(asked(SHOPPER, IDS), offers={}, mode="suppress")
    assert (ids(nothing), {i.reason for i in nothing.items}) == (IDS, {"TIER1"})


def test_an_apprentice_serves_tier_1_unchanged_and_records_what_it_would_have_done() -> None:
    found = answer(asked(SHOPPER, IDS, limit=3), mode="apprentice")
    assert (ids(found), found.plain, found.served) == (IDS[:3], "APPRENTICE", [])
    assert found.harmony == ["apprentice", pytest.approx((0 + 1 / 2 + 1 / 3) / 3), None, ["apple", "i0", "i5"]]
    assert found.response("anon:v", "page", "d")["tier1"]["would"] == ["apple", "i0", "i5"]
    assert found.slots[0].drawn == "apple"
    alone = answer(asked(SHOPPER, [], limit=3), mode="apprentice")
    assert (ids(alone), alone.served, alone.harmony) == ([], [], ["apprentice", None, None, ["apple"]])


def test_beyond_the_divergence_allowed_tier_1_is_served_and_the_answer_says_so() -> None:
    inputs = asked(SHOPPER, IDS)
    free = answer(inputs, mode="override", divergence=1.0)
    assert free.harmony is not None
    divergence = free.harmony[2]
    assert 0.0 < divergence < 1.0
    assert ids(answer(inputs, mode="override", divergence=divergence)) == ids(free)
    held = answer(inputs, mode="override", divergence=round(divergence - 0.001, 6))
    assert (ids(held), held.plain, held.served, held.next_offer) == (IDS, "DIVERGED", [], "apple")
    assert held.harmony is not None
    assert held.harmony[3] == ids(free)
    assert "further from Tier 1" in explain(inputs, world(), held, T0)["text"]


def test_offers_in_front_are_no_divergence() -> None:
    found = answer(asked(visitor(), ["x", "y"], limit=2), mode="enhance", divergence=0.0)
    assert (ids(found), found.plain) == (["apple", "x"], None)


def test_an_offer_that_tier_1_suggests_is_shown_once_and_weighed_by_its_own_probability() -> None:
    assert ids(answer(asked(visitor(), ["x", "apple", "y"]), mode="enhance")) == ["apple", "x", "y"]
    dear = {"apple": {"content": "a", "value": 0.1, "cost": 50}}
    found = answer(asked(visitor(), ["x", "y", "apple"]), offers=dear, mode="enhance", weight=1.0)
    assert ids(found) == ["apple", "x", "y"]
    assert found.items[0].kind == "base"
    assert found.items[0].score == pytest.approx(0.3)


def test_without_a_probability_or_an_opinion_tier_1s_order_and_scores_stay() -> None:
    inputs = asked(visitor(), IDS)
    inputs.request.base[0]["score"] = 12.0
    plain = answer(inputs, offers={}, mode="enhance")
    assert (ids(plain), plain.items[0].score, plain.items[0].reason) == (IDS, 12.0, "TIER1")
    rules = answer(asked(SHOPPER, IDS), offers={}, model=Flat(math.nan, math.nan), mode="enhance")
    assert (ids(rules), rules.rung) == (IDS, "rules")


def test_a_decision_with_suggestions_is_recorded_and_replays_to_the_same() -> None:
    inputs = asked(SHOPPER, IDS, source="fetched")
    found = answer(inputs, mode="enhance")
    again = Inputs.from_list(orjson.loads(orjson.dumps(inputs.to_list())))
    assert (again.interest, again.request) == ({"i5": 2, "i3": 1}, inputs.request)
    repeated = answer(again, mode="enhance")
    assert orjson.dumps(repeated.to_list()) == orjson.dumps(found.to_list())
    assert Decision.from_list(orjson.loads(orjson.dumps(found.to_list()))).harmony == found.harmony


def test_offers_of_high_priority_come_first_whatever_was_drawn_first() -> None:
    offers = {
        "often": {"content": "often", "value": 40},
        "urgent": {"content": "urgent", "value": 30, "priority": 5},
        "late": {"content": "late", "value": 20, "priority": -1},
    }
    orders = set()
    for seed in range(12):
        book = copy.deepcopy(BOOK)
        book["campaigns"]["main"] |= {"offers": offers, "policy": {"kind": "epsilon_greedy", "epsilon": 1.0}}
        found = decide(asked(visitor(), []), world(book, MODEL), now_ms=T0, rng=Random(seed))
        drawn = [slot.drawn for slot in found.slots if slot.drawn]
        assert found.served == [f"main.{name}" for name in drawn]
        assert ids(found) == sorted(drawn, key=lambda name: -offers[name].get("priority", 0))
        orders.add(tuple(drawn))
    assert len(orders) > 2


def test_a_promotion_near_a_shop_is_for_those_inside_its_fence() -> None:
    book = copy.deepcopy(BOOK)
    book["geofences"] = {
        "city": {"lat": 52.52, "lon": 13.405, "radius_km": 30},
        "mall": {"polygon": [[52.50, 13.36], [52.50, 13.40], [52.53, 13.40], [52.53, 13.36]]},
    }
    book["campaigns"]["main"]["offers"] = {
        "at_the_mall": {"content": "come in", "value": 30, "when": {"geofence": "mall"}},
        "in_town": {"content": "visit us", "value": 20, "when": {"geofence": "city"}},
    }
    book["campaigns"]["main"]["policy"] = {"kind": "greedy"}
    for lat, lon, expected in (
        (52.51, 13.38, ["at_the_mall", "in_town"]), (52.51, 13.41, ["in_town"]), (48.1, 11.6, []), (None, None, []),
    ):  # fmt: skip
        place = {"lat": lat, "lon": lon, "device": "mobile", "network": "3g"}
        inputs = read_inputs(visitor(), Request("page", limit=5), place, {}, T0)
        found = decide(inputs, world(book, MODEL), now_ms=T0, rng=Random(1))
        assert ids(found) == expected
        assert (found.layout, found.media) == ("mobile_first", "low_bandwidth")


# -- the laws of the blend ---------------------------------------------------------------------------------

probabilities = st.floats(0.0, 1.0)
opinions = st.dictionaries(st.sampled_from(IDS), probabilities, min_size=1)
bases = st.lists(probabilities | st.none(), min_size=2, max_size=8)


def blend(
    scores: list[float | None], known: dict[str, float], weight: float, kind: str, none: float = 0.1
) -> list[str]:
    base = [{"id": IDS[n], **({} if s is None else {"score": s})} for n, s in enumerate(scores)]
    decision = Decision(conversion=none, verdicts=[Verdict(i, "NOT_DRAWN", p) for i, p in known.items()])
    inputs = read_inputs(visitor(), Request("page", base=base, limit=8), {}, {}, T0)
    return [item.id for item in blended(decision, inputs, weight, kind)]


@settings(max_examples=100, deadline=None)
@given(bases, opinions, st.sampled_from(["rank", "probability"]))
def test_at_weight_0_the_order_is_tier_1s_and_at_1_tier_2s(
    scores: list[float | None], known: dict[str, float], kind: str
) -> None:
    order = IDS[: len(scores)]
    assert blend(scores, known, 0.0, kind) == order
    of_tier_2 = {i: logit(known[i]) - logit(0.1) if i in known else 0.0 for i in order}
    assert blend(scores, known, 1.0, kind) == sorted(order, key=lambda i: -of_tier_2[i])


@settings(max_examples=150, deadline=None)
@given(bases, opinions, st.floats(0.0, 1.0), st.sampled_from(["rank", "probability"]), st.data())
def test_the_blend_is_monotone_in_both_opinions(
    scores: list[float | None], known: dict[str, float], weight: float, kind: str, data: st.DataObject
) -> None:
    n = data.draw(st.integers(0, len(scores) - 1))
    item, before = IDS[n], blend(scores, known, weight, kind)
    higher = data.draw(st.floats(known.get(item, 0.1), 1.0))
    assert blend(scores, known | {item: higher}, weight, kind).index(item) <= before.index(item)
    if kind == "probability" and None not in scores:
        raised = [*scores]
        raised[n] = data.draw(st.floats(scores[n] or 0.0, 1.0))
        assert blend(raised, known, weight, kind).index(item) <= before.index(item)


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=20))
def test_falling_never_rises_and_keeps_the_mean_and_what_falls_already(values: list[float]) -> None:
    found = falling(values)
    assert all(a >= b - 1e-9 for a, b in pairwise(found))
    assert sum(found) == pytest.approx(sum(values), abs=1e-6)
    assert falling(sorted(values, reverse=True)) == pytest.approx(sorted(values, reverse=True))


@given(st.permutations(IDS), st.permutations(IDS), st.integers(0, 8))
def test_overlap_is_symmetric_and_1_only_for_the_same_order(a: list[str], b: list[str], k: int) -> None:
    assert overlap(a[:k], b[:k]) == overlap(b[:k], a[:k])
    assert 0.0 <= overlap(a[:k], b) <= 1.0
    assert (overlap(a, b) == 1.0) is (a == b)


def test_a_product_in_the_cart_counts_more_than_one_viewed() -> None:
    assert IN_CART > VIEWED > 0
    assert asked(SHOPPER, ["i3", "i5", "i0"]).interest == {"i3": 1, "i5": 2}
    assert asked(SHOPPER, ["i0"]).interest is None
    assert asked(SHOPPER, []).interest is None


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("ftp://recs", "wrong_url"), ("recs.example/x", "wrong_url"), ("http://u:p@recs/x", "wrong_url"),
        ("http://{userId}.recs/x", "wrong_url"), ("http://recs/x?u={user}", "unknown_placeholder"),
        ("http://recs:99999/", "wrong_url"), ("http://recs/a b", "wrong_url"),
    ],
)  # fmt: skip
def test_an_address_that_cannot_be_asked_is_a_finding(url: str, code: str) -> None:
    campaign = {"placements": ["p"], "offers": {"o": {"content": "x"}}, "tier1": {"url": url}}
    with pytest.raises(BookInvalid) as raised:
        load_book({"campaigns": {"c": campaign}})
    assert [f.code for f in raised.value.findings] == [code]


def test_settings_of_tier_1_that_do_nothing_are_warned_of() -> None:
    campaign = {"placements": ["p"], "offers": {"o": {"content": "x"}}}
    for tier1, key in (
        ({"mode": "fill", "weight": 0.3}, "weight"), ({"mode": "suppress", "divergence": 0.3}, "divergence"),
        ({"mode": "enhance", "cache": "5s"}, "cache"),
    ):  # fmt: skip
        read = load_book({"campaigns": {"c": campaign | {"tier1": tier1}}})
        assert [w.path for w in read.warnings] == [f"campaigns.c.tier1.{key}"]
