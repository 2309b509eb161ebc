"""A compiled book has everything a decision looks up, ready."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from engine.book import BookInvalid, CompiledBook, compile_book, load_book
from engine.score import Weights
from tests.engine.books import SMALL, book


def compiled(data: dict[str, Any]) -> CompiledBook:
    return compile_book(load_book(data), "b1-00000000")


def several(**campaigns: dict[str, Any]) -> CompiledBook:
    return compiled({"campaigns": {name: {"placements": ["home"], **parts} for name, parts in campaigns.items()}})


def test_campaigns_of_a_placement_come_by_priority() -> None:
    ready = several(low={"priority": 1}, high={"priority": 5}, also_low={"priority": 1})
    assert [campaign.name for campaign in ready.by_placement["home"]] == ["high", "also_low", "low"]


def test_a_campaign_that_is_not_enabled_answers_nothing_but_its_placement_stays_known() -> None:
    ready = several(off={"enabled": False, "placements": ["attic"]}, on={})
    assert set(ready.campaigns) == {"on"}
    assert ready.by_placement["attic"] == ()
    assert "attic" in ready.placements


def test_weights_of_stages_not_named_are_the_default_ones() -> None:
    weights = {"cart": {"recency": 1, "depth": 2, "conversion": 3}}
    campaign = several(c={"score": {"weights": weights}}).campaigns["c"]
    assert campaign.weights["cart"] == Weights(1, 2, 3)
    assert campaign.weights["lapsing"] == Weights(0.3, 0.2, 0.5)


def test_the_limit_for_lapsing_is_the_campaigns_own_or_the_books() -> None:
    data = book()
    data["lapsing"] = {"churn_above": 0.4}
    data["campaigns"]["d"] = {"placements": ["home"], "lapsing": {"churn_above": 0.9}}
    ready = compiled(data)
    assert ready.campaigns["c"].lapsing_above == 0.4
    assert ready.campaigns["d"].lapsing_above == 0.9
    assert compiled(SMALL).campaigns["c"].lapsing_above == 0.7


@pytest.mark.parametrize(
    ("value", "cart", "amount"),
    [("margin", 100.0, 25.0), ("margin", None, 10.0), ("margin", 0.0, 10.0), ("revenue", 80.0, 80.0), (7, 80.0, 7.0)],
)
def test_an_offer_is_worth_a_share_of_the_cart_or_a_fixed_amount(value: Any, cart: float | None, amount: float) -> None:
    data = book(offers={"gift": {"content": "x", "value": value}}) | {"margin_share": 0.25, "basket": 40}
    assert compiled(data).campaigns["c"].offers[0].value.amount(cart) == amount


def test_an_offer_without_when_is_for_everyone() -> None:
    ready = compiled(book(offers={"gift": {"content": "x"}})).campaigns["c"].offers[0]
    assert ready.condition.holds({}, False)


def test_segments_stand_after_those_they_name() -> None:
    segments = {
        "third": {"all": [{"feature": "segment", "in": ["second"]}]},
        "second": {"none": [{"feature": "segment", "in": ["first"]}]},
        "first": {"all": [{"feature": "n_pages", "above": 1}]},
    }
    ready = compiled(book(segments=segments, offers={})).campaigns["c"]
    assert [(s.name, s.refers) for s in ready.segments] == [("first", False), ("second", True), ("third", True)]


def test_epsilon_is_a_tenth_where_it_is_not_given_and_nothing_for_other_policies() -> None:
    ready = several(
        a={"policy": {"kind": "epsilon_greedy"}}, b={"policy": {"kind": "epsilon_greedy", "epsilon": 0.0}}, c={}
    )
    assert [ready.campaigns[name].epsilon for name in "abc"] == [0.1, 0.0, 0.0]


EXPERIMENTS = {
    "first": {"share": 0.25, "variants": {"control": {}, "looser": {"segments.keen.all[0].above": 0.65}}},
    "second": {"variants": {"control": {}, "greedy": {"policy.kind": "greedy"}, "dear": {"offers.gift.cost": 3}}},
}


def test_a_variant_changes_what_its_path_names_and_nothing_else() -> None:
    campaign = compiled(book(experiments=EXPERIMENTS)).campaigns["c"]
    first, second = campaign.experiments
    facts = {"scroll_share": 0.68}
    assert not campaign.segments[0].condition.holds(facts, False)
    assert not first.variants["control"].segments[0].condition.holds(facts, False)
    assert first.variants["looser"].segments[0].condition.holds(facts, False)
    assert second.variants["greedy"].policy == "greedy"
    assert second.variants["dear"].offers[0].cost == 3
    assert campaign.policy == second.variants["dear"].policy == "thompson"
    assert not first.variants["looser"].experiments


def test_an_experiment_without_a_share_gets_what_the_others_leave() -> None:
    first, second = compiled(book(experiments=EXPERIMENTS)).campaigns["c"].experiments
    assert (first.place.low, first.place.high) == (0.0, 0.25)
    assert (second.place.low, second.place.high) == (0.25, 1.0)


def test_a_visitor_is_in_one_experiment_and_its_variants_have_equal_parts() -> None:
    campaign = compiled(book(experiments=EXPERIMENTS)).campaigns["c"]
    counts: Counter[tuple[str, str]] = Counter()
    for i in range(120):
        for j in range(12):
            layer, place = i / 120, j / 12
            changed, experiment, variant = campaign.variant(lambda salt: layer if "layer" in salt else place)  # noqa: B023
            assert experiment is not None
            assert variant is not None
            assert experiment.variants[variant] is changed
            counts[experiment.name, variant] += 1
    assert counts == {
        ("first", "control"): 180, ("first", "looser"): 180,
        ("second", "control"): 360, ("second", "greedy"): 360, ("second", "dear"): 360,
    }  # fmt: skip


def test_a_visitor_outside_every_share_gets_the_campaign_itself() -> None:
    experiments = {"first": EXPERIMENTS["first"]}
    campaign = compiled(book(experiments=experiments)).campaigns["c"]
    assert campaign.variant(lambda salt: 0.9) == (campaign, None, None)


def test_the_horizon_of_churn_is_the_books_and_fourteen_days_unless_it_says_otherwise() -> None:
    base = {"campaigns": {"c": {"placements": ["p"]}}}
    assert compile_book(load_book(base), "b1").churn_horizon_ms == 14 * 86_400_000
    given = compile_book(load_book({**base, "lapsing": {"churn_above": 0.5, "horizon": "30d"}}), "b1")
    assert (given.churn_horizon_ms, given.lapsing_above) == (30 * 86_400_000, 0.5)
    with pytest.raises(BookInvalid):
        load_book({"campaigns": {"c": {"placements": ["p"], "lapsing": {"horizon": "3d"}}}})
