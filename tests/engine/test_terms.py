"""The terms of offers: windows by two clocks, periods, caps by what is counted, discounts, stages, explanations."""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.book import BookInvalid, compile_book, load_book
from engine.catalogue import Product
from engine.decision import Decision
from engine.explain import explain
from engine.explain_offers import TEXTS
from engine.inputs import Inputs
from engine.periods import DAY_MS, period_of
from engine.prior import PriorModel
from engine.supply import Forced, Supply
from engine.terms import CompiledDiscount
from engine.windows import Window, parse_local
from engine.world import World
from serving.books import SAMPLES, load_book_file
from tests.engine.books import book, offer
from tests.engine.builders import T0
from tests.engine.test_decide import BOOK, Flat, changed, inputs, run, world

BERLIN = ZoneInfo("Europe/Berlin")


def ms(text: str, zone: str = "Europe/Berlin") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


# -- windows -------------------------------------------------------------------------------------------


def window(**parts: Any) -> Window:
    data = offer(window=parts) | {"timezone": "Europe/Berlin"}
    terms = compile_book(load_book(data), "b").campaigns["c"].offers[0].terms
    assert terms is not None
    assert terms.window is not None
    return terms.window


@pytest.mark.parametrize(
    ("parts", "inside", "outside"),
    [
        ({"from": "2026-11-27", "until": "2026-11-30"}, "2026-11-30T23:59", "2026-12-01T00:00"),
        ({"from": "2026-11-27T18:00"}, "2026-11-27T18:00", "2026-11-27T17:59"),
        ({"hours": [9, 18]}, "2026-11-25T17:59", "2026-11-25T18:00"),
        ({"hours": [22, 6]}, "2026-11-25T03:00", "2026-11-25T12:00"),
        ({"hours": [8.5, 9]}, "2026-11-25T08:30", "2026-11-25T08:29"),
        ({"weekdays": ["mon", "tue"]}, "2026-11-24T12:00", "2026-11-25T12:00"),
        # The night of Friday ends on Saturday morning.
        ({"hours": [22, 6], "weekdays": ["fri"]}, "2026-11-28T05:00", "2026-11-27T05:00"),
    ],
)
def test_a_window_holds_by_the_clock_of_the_book(parts: dict[str, Any], inside: str, outside: str) -> None:
    assert window(**parts).refusal(ms(inside), {}) is None
    assert window(**parts).refusal(ms(outside), {})


@pytest.mark.parametrize(
    ("parts", "inside", "outside"),
    [
        # Clocks go from 3:00 back to 2:00 at 1:00 UTC: what has ended does not begin anew, what has begun goes on.
        ({"until": "2026-10-25T02:30"}, "2026-10-25T00:29", "2026-10-25T00:30 2026-10-25T01:10 2026-10-25T01:31"),
        ({"from": "2026-10-25T02:30"}, "2026-10-25T00:30 2026-10-25T01:10 2026-10-25T01:31", "2026-10-25T00:29"),
        # The 29th of March has 23 hours, and 2:30 is not among them.
        ({"from": "2026-03-29T02:30"}, "2026-03-29T01:30", "2026-03-29T00:59"),
        ({"until": "2026-03-29"}, "2026-03-29T21:59", "2026-03-29T22:00"),
        ({"until": "2026-10-25"}, "2026-10-25T22:59", "2026-10-25T23:00"),
        ({"hours": [1, 4]}, "2026-10-25T00:30 2026-10-25T01:30 2026-03-29T01:30", "2026-03-29T02:00 2026-10-25T03:00"),
    ],
)
def test_a_window_opens_and_closes_once_also_where_clocks_are_put_back_or_forward(
    parts: dict[str, Any], inside: str, outside: str
) -> None:
    assert [at for at in inside.split() if window(**parts).refusal(ms(at, "UTC"), {})] == []
    assert [at for at in outside.split() if not window(**parts).refusal(ms(at, "UTC"), {})] == []


def test_a_window_may_be_open_to_the_end_of_the_calendar() -> None:
    forever = window(**{"from": "0001-01-01", "until": "9999-12-31"})
    assert forever.refusal(T0, {}) is None


def test_a_window_may_go_by_the_visitors_clock_and_falls_back_to_the_books() -> None:
    evening = window(hours=[18, 22], clock="visitor")
    at = ms("2026-11-25T19:00", "America/New_York")
    assert evening.refusal(at, {"timezone": "America/New_York"}) is None
    assert evening.refusal(at, {}) is not None
    assert evening.refusal(at, {"timezone": "Nowhere/Else"}) is not None
    assert window(hours=[18, 22]).refusal(at, {"timezone": "America/New_York"}) is not None


@pytest.mark.parametrize("text", ["30.11.2026", "2026-13-01", "tomorrow", "2026-11-30T10:00+01:00"])
def test_what_is_no_local_date_is_none(text: str) -> None:
    assert parse_local(text) is None


# -- periods -------------------------------------------------------------------------------------------

moments = st.integers(1_600_000_000_000, 1_900_000_000_000)
lengths = st.sampled_from([3_600_000, 6 * 3_600_000, 7 * 3_600_000, DAY_MS, 7 * DAY_MS, 3 * DAY_MS])
zones = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"])


@given(moments, lengths, zones)
@settings(max_examples=200, deadline=None)
def test_periods_cover_time_without_gap_or_overlap(now_ms: int, per_ms: int, zone: str) -> None:
    period = period_of(now_ms, per_ms, ZoneInfo(zone))
    assert period.start_ms <= now_ms < period.end_ms
    assert period_of(period.start_ms, per_ms, ZoneInfo(zone)) == period
    assert period_of(int(period.end_ms) - 1, per_ms, ZoneInfo(zone)) == period
    assert period_of(int(period.end_ms), per_ms, ZoneInfo(zone)).start_ms == period.end_ms


def test_days_begin_at_local_midnight_and_weeks_on_monday_also_when_the_clock_is_changed() -> None:
    autumn = period_of(ms("2026-10-25T12:00"), DAY_MS, BERLIN)
    assert (autumn.start_ms, autumn.end_ms - autumn.start_ms) == (ms("2026-10-25T00:00"), 25 * 3_600_000)
    week = period_of(ms("2026-11-25T12:00"), 7 * DAY_MS, BERLIN)
    assert datetime.fromtimestamp(week.start_ms / 1000, BERLIN).strftime("%a %H:%M") == "Mon 00:00"


# -- budgets, caps, stages in a decision ---------------------------------------------------------------


def only_offer(**parts: Any) -> World:
    offers = {"o": {"content": {"t": "x"}, "value": 30, "cost": 1, **parts}}
    return world(changed(policy={"kind": "greedy"}, offers=offers, segments={}), Flat(0.1, 0.4))


def reason(decision: Decision) -> str:
    return next(v.reason for v in decision.verdicts if v.offer == "o")


def given_supply(**parts: Any) -> Inputs:
    read = inputs()
    read.supply = Supply(**parts)
    return read


@pytest.mark.parametrize(
    ("supply", "expected"),
    [(None, "BUDGET"), (Supply(), "BUDGET"), (Supply({"main.o": 0.0}), "BUDGET"), (Supply({"main.o": 1.0}), "CHOSEN")],
)
def test_a_budget_that_is_exhausted_or_not_known_keeps_the_offer_back(supply: Supply | None, expected: str) -> None:
    read = inputs()
    read.supply = supply
    assert reason(run(read, only_offer(budget={"max": 9, "per": "1d"}))) == expected


def test_money_left_must_pay_for_one_more() -> None:
    w = only_offer(cost=3, budget={"max": 9, "unit": "cost"})
    assert reason(run(given_supply(budgets={"main.o": 2.9}), w)) == "BUDGET"
    assert reason(run(given_supply(budgets={"main.o": 3.0}), w)) == "CHOSEN"


@pytest.mark.parametrize("parts", [{"budget": {"max": 9}}, {"redemption": {"valid": "1d"}}])
def test_an_answer_that_cannot_be_recorded_offers_nothing_budgeted_or_redeemed(parts: dict[str, Any]) -> None:
    read = given_supply(budgets={"main.o": 5.0})
    read.recordable = False
    assert reason(run(read, only_offer(**parts))) == "NOT_RECORDED"


@pytest.mark.parametrize(
    ("count", "counted", "served", "expected"),
    [
        ("servings", {}, [T0 - 1], "CAP"),
        ("impressions", {}, [T0 - 1], "CHOSEN"),
        ("impressions", {"o": [[T0 - 1], []]}, [], "CAP"),
        ("redemptions", {"o": [[T0 - 1], []]}, [T0 - 1], "CHOSEN"),
        ("redemptions", {"o": [[], [T0 - 1]]}, [], "CAP"),
        ("redemptions", {"o": [[], [T0 - 2 * DAY_MS]]}, [], "CHOSEN"),
    ],
)
def test_a_cap_counts_what_the_offer_says(
    count: str, counted: dict[str, Any], served: list[int], expected: str
) -> None:
    w = only_offer(caps={"per_profile": {"max": 1, "per": "1d", "count": count}})
    read = given_supply(counted=counted)
    read.served = {"main.o": served} if served else {}
    assert reason(run(read, w)) == expected


def test_staged_and_draft_offers_are_shown_to_nobody_and_explained() -> None:
    offers = {
        "o": {"content": "x", "value": 30},
        "later": {"content": "y", "value": 90, "stage": "staged"},
        "idea": {"content": "z", "value": 99, "stage": "draft"},
    }
    w = world(changed(policy={"kind": "greedy"}, offers=offers, segments={}), Flat(0.1, 0.4))
    read = inputs()
    decision = run(read, w)
    assert [i.id for i in decision.items] == ["o"]
    told = {o["offer"]: o["reason"] for o in explain(read, w, decision, T0)["offers"]}
    assert told == {"o": "CHOSEN", "later": "STAGED", "idea": "DRAFT"}
    read.supply = Supply(forced=Forced("preview"))
    assert [i.id for i in run(read, w).items] == ["later"]


def test_a_staged_campaign_decides_in_a_preview_alone() -> None:
    data = copy.deepcopy(BOOK)
    data["campaigns"]["next"] = copy.deepcopy(data["campaigns"]["main"]) | {"priority": 50, "stage": "staged"}
    data["campaigns"]["idea"] = copy.deepcopy(data["campaigns"]["main"]) | {"priority": 90, "stage": "draft"}
    w, read = world(data), inputs()
    assert run(read, w).campaign == "main"
    read.supply = Supply(forced=Forced("preview"))
    decision = run(read, w)
    assert (decision.campaign, decision.served, decision.memberships, decision.assignments) == ("next", [], None, {})
    assert explain(read, w, decision, T0)["offers"]


def test_every_offer_of_the_book_is_explained_also_those_of_campaigns_that_did_not_decide() -> None:
    data = copy.deepcopy(BOOK)
    low = copy.deepcopy(data["campaigns"]["main"]) | {"priority": 1}
    data["campaigns"] |= {"low": low, "away": copy.deepcopy(low) | {"placements": ["elsewhere"]}}
    w, read = world(data), inputs()
    told = explain(read, w, run(read, w), T0)
    others = {one["campaign"]: one["text"] for one in told["other_campaigns"]}
    assert others == {
        "low": "its priority 1 is below 5",
        "away": "it does not list the placement page",
    }
    assert all(one["offers"] == ["apple", "deep_only", "dear"] for one in told["other_campaigns"])
    assert {o["offer"] for o in told["offers"]} == {"apple", "deep_only", "dear"}
    shares = [o["propensity"] for o in told["offers"] if o["propensity"] is not None]
    assert shares
    assert all(o["reason"] in TEXTS for o in told["offers"])


# -- discounts and arbitration -------------------------------------------------------------------------


@given(st.floats(0.01, 500), st.none() | st.floats(0, 400), st.floats(0, 0.5), st.floats(0, 0.5), st.booleans())
@settings(max_examples=150, deadline=None)
def test_a_discount_never_leaves_its_limits(
    price: float, margin: float | None, low: float, more: float, of_margin: bool
) -> None:
    shares = (low, (low + low + more) / 2, low + more)
    found = CompiledDiscount(shares, of_margin, 0.3).steps(price, margin)
    base = (0.3 * price if margin is None else margin) if of_margin else price
    for step in found:
        assert 0 < step.amount <= price
        assert low * base - 0.006 <= step.amount <= (low + more) * base + 0.006
        assert step.price == pytest.approx(price - step.amount, abs=0.006)


class Bargains:
    """A model that gives a probability by what an offer costs."""

    version, kind = "bargains-1", "lightgbm"

    def __init__(self, sure: float, slope: float) -> None:
        from engine.schema import schema_hash

        self.schema_hash, self._sure, self._slope = schema_hash(), sure, slope

    def predict_one(self, row: Any) -> float:
        return min(0.99, self._sure + self._slope * float(row[-2]))

    def predict_many(self, rows: Any) -> Any:
        import numpy as np

        return np.array([self.predict_one(row) for row in rows])


def discounted(model: Any, **more: Any) -> tuple[World, Inputs]:
    off = {"discount": {"min": 0.1, "max": 0.4, "step": 0.1, "of": "price"}, "cost": 0, "value": 40, **more}
    w = world(changed(policy={"kind": "greedy"}, offers={"o": {"content": "x", **off}}, segments={}), model)
    return w, given_supply(products={"in_view": Product("mug", price=20.0, margin=12.0)})


@pytest.mark.parametrize(("slope", "amount"), [(0.05, 8.0), (0.03, 2.0)])
def test_the_step_that_is_worth_most_is_given(slope: float, amount: float) -> None:
    w, read = discounted(Bargains(0.1, slope))
    decision = run(read, w)
    worths = {a: (slope * a) * 40 - (0.1 + slope * a) * a for a in (2.0, 4.0, 6.0, 8.0)}
    best = max(worths, key=lambda a: worths[a])
    assert [item.discount for item in decision.items] == [best]
    assert (best == amount) or slope == 0.03


def test_of_what_the_prior_alone_believes_the_smallest_step_is_given() -> None:
    w, read = discounted(PriorModel())
    assert [item.discount for item in run(read, w).items] == [2.0]


def test_a_sure_buyer_gets_no_discount_and_a_hesitant_one_does() -> None:
    w, read = discounted(Bargains(0.95, 0.002))
    assert run(read, w).items == []
    w, read = discounted(Bargains(0.1, 0.05))
    assert [i.id for i in run(read, w).items] == ["o"]


def test_a_discount_that_the_budget_cannot_pay_is_not_given() -> None:
    w, read = discounted(Bargains(0.1, 0.05), budget={"max": 100, "unit": "cost"})
    assert read.supply is not None
    read.supply = replace(read.supply, budgets={"main.o": 5.0})
    (item,) = run(read, w).items
    assert item.discount == 4.0
    read.supply = replace(read.supply, budgets={"main.o": 1.0})
    assert reason(run(read, w)) == "BUDGET"


def test_without_a_price_there_is_no_discount() -> None:
    w, read = discounted(Bargains(0.1, 0.05))
    read.supply = None
    decision = run(read, w)
    assert (decision.items, reason(decision)) == ([], "STOCK")


# -- bad books -----------------------------------------------------------------------------------------

G = "campaigns.c.offers.gift"
BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "a period of a day and a half": (offer(budget={"max": 5, "per": "36h"}), f"{G}.budget.per", "wrong_period"),
    "a pace without a period": (offer(budget={"max": 5, "pace": "even"}), f"{G}.budget.pace", "no_period"),
    "an unknown pace": (offer(budget={"max": 5, "pace": "evn", "per": "1d"}), f"{G}.budget.pace", "unknown_value"),
    "a budget of half a serving": (offer(budget={"max": 0.5}), f"{G}.budget.max", "budget_too_small"),
    "money for less than one": (
        offer(cost=5, budget={"max": 4, "unit": "cost"}), f"{G}.budget.max", "budget_too_small",
    ),
    "money for what costs nothing": (offer(budget={"max": 4, "unit": "cost"}), f"{G}.budget.unit", "no_cost"),
    "a date in another form": (offer(window={"from": "27.11.2026"}), f"{G}.window.from", "wrong_date"),
    "a window that ends before it begins": (
        offer(window={"from": "2026-11-30", "until": "2026-11-27"}), f"{G}.window.until", "empty_window",
    ),
    "hours beyond the day": (offer(window={"hours": [9, 25]}), f"{G}.window.hours", "wrong_hours"),
    "hours of nothing": (offer(window={"hours": [9, 9]}), f"{G}.window.hours", "wrong_hours"),
    "a day nobody knows": (offer(window={"weekdays": ["mo"]}), f"{G}.window.weekdays[0]", "unknown_value"),
    "no day at all": (offer(window={"weekdays": []}), f"{G}.window.weekdays", "empty_window"),
    "another clock": (offer(window={"clock": "vistor"}), f"{G}.window.clock", "unknown_value"),
    "a discount upside down": (
        offer(discount={"min": 0.3, "max": 0.1, "step": 0.1}), f"{G}.discount.max", "discount_range",
    ),
    "a discount in a thousand steps": (
        offer(discount={"min": 0.0, "max": 1.0, "step": 0.001}), f"{G}.discount.step", "discount_range",
    ),
    "a discount beside a cost": (
        offer(cost=3, discount={"min": 0.1, "max": 0.2, "step": 0.1}), f"{G}.cost", "two_costs",
    ),
    "content with a discount that is not there": (
        offer(content="{{ discount.amount }}"), f"{G}.content", "template_discount",
    ),
    "content with a name the catalogue has not": (
        offer(content="{{ catalogue.titel }}"), f"{G}.content", "template_name",
    ),
    "a stage nobody knows": (offer(stage="life"), f"{G}.stage", "unknown_value"),
    "a campaign's stage nobody knows": (book(stage="drafts"), "campaigns.c.stage", "unknown_value"),
    "a cap counted by something else": (
        offer(caps={"per_profile": {"max": 1, "per": "1d", "count": "serving"}}),
        f"{G}.caps.per_profile.count", "unknown_value",
    ),
    "a token without an end": (offer(redemption={"valid": "0s"}), f"{G}.redemption.valid", "out_of_range"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_a_term_that_cannot_be_kept_is_named_with_place_found_and_expected(what: str) -> None:
    data, path, code = BAD[what]
    with pytest.raises(BookInvalid) as caught:
        load_book(data)
    (finding,) = caught.value.findings
    assert (finding.path, finding.code) == (path, code), finding.text()
    assert finding.expected
    assert finding.found


def test_redemptions_that_are_counted_and_never_handed_out_are_worth_a_warning() -> None:
    (warning,) = load_book(offer(budget={"max": 5, "unit": "redemptions"})).warnings
    assert warning.code == "no_redemption"


def test_the_sample_of_the_terms_has_each_of_them_at_work() -> None:
    campaign = compile_book(load_book_file(SAMPLES / "offer_terms.yaml"), "b1").campaigns["autumn"]
    terms = {o.name: o.terms for o in campaign.offers}
    shipping, night, personal, week = (terms[n] for n in ("free_shipping", "late_night", "personal", "next_week"))
    assert shipping is not None
    assert shipping.budget is not None
    assert (shipping.budget.unit, shipping.budget.even, shipping.counted) == ("cost", True, "impressions")
    assert night is not None
    assert night.window is not None
    assert night.window.visitors
    assert personal is not None
    assert personal.discount is not None
    assert (personal.discount.shares, personal.product, personal.redeem_ms) == (
        (0.1, 0.2, 0.3, 0.4), "in_view", 2 * DAY_MS,
    )  # fmt: skip
    assert week is not None
    assert week.staged
    assert campaign.drafts == ("idea",)
    assert datetime.fromtimestamp(0, UTC).year == 1970
