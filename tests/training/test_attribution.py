"""Attribution: what came of a decision, believed only when its time is over, and corrected in both directions."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from engine.schema import MODEL_FEATURES
from tests.engine.builders import HOUR, MINUTE
from tests.training.journals import BOT, NO_TRAINING, A, B, N, Reader, Scribe, U, learned, written
from training.saved_state import to_bytes


@pytest.fixture
def shop() -> Scribe:
    return Scribe()


# -- maturing ----------------------------------------------------------------------------------------------


def test_an_example_is_told_at_once_and_never_a_negative_before_its_time(shop: Scribe) -> None:
    key = shop.decide(A)
    reader = Reader().read(shop.entries)
    first = reader[key]
    assert (first.revision, first.label, first.matured, first.track, first.took_us) == (1, 0, False, A, 120)
    assert (first.offer, first.propensity, first.campaign, first.model) == ("gift", 1.0, "main", "prior-1")
    reader.advance(shop.now_ms + 6 * MINUTE - 1)
    assert not reader[key].matured
    reader.advance(shop.now_ms + 6 * MINUTE)
    assert (reader[key].matured, reader[key].label) == (True, 0)


def test_one_partition_that_is_behind_holds_everything_up(shop: Scribe) -> None:
    key = shop.decide(A)
    reader = Reader().read(shop.entries)
    for partition in range(N - 1):
        reader.attribution.advance(partition, shop.now_ms + HOUR)
    assert not reader.keep()[key].matured
    reader.attribution.advance(N - 1, shop.now_ms + HOUR)
    assert reader.keep()[key].matured


def test_the_row_is_the_one_that_was_served(shop: Scribe) -> None:
    shown, none = shop.decide(A), shop.decide(B, os="android")
    reader = learned(shop)
    offer = dict(zip(MODEL_FEATURES, reader[shown].row, strict=True))
    assert (offer["offer_code"] > 0, offer["offer_value"], offer["device_code"]) == (True, 30.0, 1.0)
    assert (reader[none].offer, reader[none].row[-4:].tolist()) == (None, [0.0] * 4)
    assert np.isnan(reader[none].row[MODEL_FEATURES.index("gap_days")])


# -- conversions -------------------------------------------------------------------------------------------


def test_a_conversion_inside_the_window_is_a_label_with_its_worth(shop: Scribe) -> None:
    key = shop.decide(A)
    shop.wait(4 * MINUTE)
    shop.order(A, value=100.0)
    found = learned(shop)[key]
    assert (found.label, found.value) == (1, 30.0)  # margin: 0.3 of the revenue


@pytest.mark.parametrize("offset_ms", [-1, 5 * MINUTE + 1])
def test_a_conversion_outside_the_window_is_none(shop: Scribe, offset_ms: int) -> None:
    key = shop.decide(A)
    t_ms = shop.now_ms + offset_ms
    shop.wait(4 * MINUTE)
    shop.order(A, t_ms=t_ms)
    assert learned(shop)[key].label == 0


def test_another_visitors_conversion_is_none(shop: Scribe) -> None:
    key = shop.decide(A)
    shop.order(B)
    assert learned(shop)[key].label == 0


def test_a_conversion_that_arrives_late_corrects_upward(shop: Scribe) -> None:
    key = shop.decide(A)
    at_ms = shop.now_ms + MINUTE
    reader = Reader().read(shop.entries).advance(shop.now_ms + HOUR)
    assert (reader[key].label, reader[key].revision) == (0, 2)
    shop.wait(2 * HOUR)
    shop.order(A, t_ms=at_ms)
    reader.read(shop.entries[-1:])
    assert (reader[key].label, reader[key].matured, reader[key].revision) == (1, True, 3)


def test_the_same_order_told_twice_counts_once(shop: Scribe) -> None:
    key = shop.decide(A)
    shop.order(A, "o7", 100.0)
    shop.order(A, "o7", 100.0)
    assert learned(shop)[key].value == 30.0


def test_every_decision_of_the_window_is_credited(shop: Scribe) -> None:
    first = shop.decide(A)
    shop.wait(MINUTE)
    second = shop.decide(A)
    shop.wait(4 * MINUTE + 1)
    shop.order(A)
    reader = learned(shop)
    assert (reader[first].label, reader[second].label) == (0, 1)


def test_only_what_the_campaign_counts_is_a_conversion(shop: Scribe) -> None:
    order, click = shop.decide(A), shop.decide(A, placement="banner")
    shop.send(A, "offer_clicked", offer_id="gift", decision_id=click)
    shop.send(A, "product_added", items=[{"id": "p"}])
    reader = learned(shop)
    assert (reader[order].label, reader[click].label, reader[click].value) == (0, 1, 2.0)
    assert reader[click].propensity == pytest.approx(0.9)


def test_a_click_that_names_its_decision_counts_for_no_other(shop: Scribe) -> None:
    one, other = shop.decide(A, placement="banner"), shop.decide(A, placement="banner")
    shop.send(A, "offer_clicked", offer_id="gift", decision_id=one)
    reader = learned(shop)
    assert [reader[one].label, reader[other].label] == [1, 0]


# -- what takes it back ------------------------------------------------------------------------------------


def test_a_refund_reverses_the_label_and_a_partial_one_the_worth(shop: Scribe) -> None:
    key = shop.decide(A)
    shop.order(A, "o1", 100.0)
    reader = learned(shop)
    shop.wait(24 * HOUR)
    shop.send(A, "order_refunded", order_id="o1", value=40.0)
    reader.read(shop.entries[-1:])
    assert reader[key].label == 1
    assert reader[key].value == pytest.approx(18.0)
    shop.send(A, "order_refunded", order_id="o1", value=60.0)
    reader.read(shop.entries[-1:])
    assert (reader[key].label, reader[key].value, reader[key].matured) == (0, 0.0, True)


@pytest.mark.parametrize("kind", ["order_cancelled", "order_refunded"])
def test_a_cancellation_reverses_by_order_id_from_whichever_partition(shop: Scribe, kind: str) -> None:
    key = shop.decide(A)
    shop.order(A, "o1")
    shop.order(A, "o2", 50.0)
    reader = learned(shop)
    assert reader[key].value == 45.0
    shop.send("user:clerk", kind, order_id="o1")
    reader.read(shop.entries[-1:])
    assert (reader[key].label, reader[key].value) == (1, 15.0)


# -- engagement and rewards --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["offer_viewed", "offer_clicked", "offer_redeemed"])
def test_an_offer_event_shows_engagement_by_decision_or_by_offer(shop: Scribe, kind: str) -> None:
    by_id, by_offer, not_shown = shop.decide(A), shop.decide(B), shop.decide("anon:c", os="android")
    shop.send(A, kind, decision_id=by_id)
    shop.send(B, kind, offer_id="gift")
    shop.send("anon:c", kind, offer_id="gift")
    reader = learned(shop)
    assert [reader[k].engaged for k in (by_id, by_offer, not_shown)] == [True, True, False]
    assert [reader[k].label for k in (by_id, by_offer)] == [0, 0]


def test_a_reward_of_type_conversion_is_a_label_and_another_type_engagement(shop: Scribe) -> None:
    won, liked, nothing = shop.decide(A), shop.decide(B), shop.decide("anon:c")
    shop.wait(2 * HOUR)
    shop.reward(won, "conversion", 0.5)
    shop.reward(liked, "engagement", 1.0)
    shop.reward(nothing, "conversion", 0.0)
    reader = learned(shop)
    assert (reader[won].label, reader[won].value) == (1, 7.5)  # half the margin of the book's basket of 50
    assert (reader[liked].label, reader[liked].engaged) == (0, True)
    assert reader[nothing].label == 0


# -- visits ------------------------------------------------------------------------------------------------


def test_a_visit_without_a_decision_teaches_with_no_offer(shop: Scribe) -> None:
    key = shop.visit(A)
    shop.order(A)
    found = learned(shop)[key]
    assert (found.offer, found.label, found.model, found.row[-4:].tolist()) == (None, 1, "", [0.0] * 4)


def test_a_decision_soon_after_makes_it_no_visit_without_one(shop: Scribe) -> None:
    early, late = shop.visit(A), None
    shop.wait(4 * MINUTE)
    shop.decide(A)
    shop.wait(6 * MINUTE)
    late = shop.visit(A)
    shop.wait(6 * MINUTE)
    shop.decide(A)
    assert [early in learned(shop).window, late in learned(shop).window] == [False, True]


# -- links -------------------------------------------------------------------------------------------------


def test_a_conversion_after_adoption_finds_the_anonymous_decision(shop: Scribe) -> None:
    key = shop.decide(A)
    shop.wait(MINUTE)
    shop.link(A, U)
    shop.order(U)
    assert learned(shop)[key].label == 1


def test_a_device_of_a_user_converts_for_what_was_decided_for_the_user(shop: Scribe) -> None:
    shop.link(A, U)
    shop.wait(24 * HOUR)
    key = shop.decide(U)
    shop.order(A)
    assert learned(shop)[key].label == 1


def test_an_order_before_the_link_counts_when_the_link_comes_in_time(shop: Scribe) -> None:
    soon, late = shop.decide(A), shop.decide(B)
    shop.order(U, "o1")
    shop.order("user:v", "o2")
    shop.wait(2 * MINUTE)
    shop.link(A, U)
    shop.wait(5 * MINUTE)
    shop.link(B, "user:v")
    reader = learned(shop)
    assert [reader[soon].label, reader[late].label] == [1, 0]


def test_after_an_unlink_the_device_is_somebody_else(shop: Scribe) -> None:
    shop.link(A, U)
    shop.wait(MINUTE)
    shop.unlink(A)
    shop.wait(MINUTE)
    key = shop.decide(A)
    shop.order(U)
    assert learned(shop)[key].label == 0


# -- what never enters -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "more",
    [{"bot": True}, {"train": False}, {"personalise": False}, {"qa": True}, {"schema": "other"}, {"book": "gone"}],
)
def test_bots_qa_and_whoever_did_not_agree_never_enter(shop: Scribe, more: dict[str, Any]) -> None:
    shop.decide(A, **more)
    shop.order(A)
    reader = learned(shop)
    assert (len(reader.window), reader.told) == (0, [])
    assert reader.attribution.counts["left_out"] == 1


def test_what_was_decided_for_a_robot_before_it_was_found_out_teaches_nothing(shop: Scribe) -> None:
    taken, kept = shop.decide(A), shop.decide(B)
    shop.decide(A, bot=True)
    reader = learned(shop)
    assert [taken in reader.window, kept in reader.window] == [False, True]


def test_a_superseded_decision_is_withdrawn_also_when_that_is_read_first(shop: Scribe) -> None:
    key = shop.decide(A)
    shop.supersede(key)
    for entries in (shop.entries, shop.entries[::-1]):
        reader = Reader().read(entries).advance(shop.now_ms + HOUR)
        assert len(reader.window) == 0
        assert [e.withdrawn for e in reader.told][-1:] == [True]


@pytest.mark.parametrize("flags", [BOT, NO_TRAINING])
def test_a_conversion_that_may_not_be_learned_from_takes_its_example_along(shop: Scribe, flags: int) -> None:
    taken, kept = shop.decide(A), shop.decide(B)
    shop.order(A, flags=flags)
    shop.order(B, "o2")
    reader = learned(shop)
    assert [taken in reader.window, kept in reader.window] == [False, True]


def test_an_erased_visitor_is_forgotten_and_a_new_one_of_that_name_is_not(shop: Scribe) -> None:
    old, other = shop.decide(A), shop.decide(B)
    shop.wait(MINUTE)
    shop.erase(A)
    shop.wait(MINUTE)
    new = shop.decide(A)
    for entries in (shop.entries, [shop.entries[i] for i in (2, 0, 1, 3)]):
        reader = Reader().read(entries).advance(shop.now_ms + HOUR)
        assert [key in reader.window for key in (old, other, new)] == [False, True, True]
    assert A.encode() not in to_bytes(learned(_without_last(shop)).attribution, learned(_without_last(shop)).window, {})


def test_a_link_read_before_the_erasure_that_it_came_after_is_kept() -> None:
    shop = written([
        ("decide", B, "page"), ("erase", B, None), ("decide", B, "page"), ("order", "user:v", "o1"),
        ("link", B, "user:v"),
    ])  # fmt: skip
    theirs, mine = shop.entries[3:], shop.entries[:3]
    assert {e[0] for e in theirs}.isdisjoint(e[0] for e in mine)
    (found,) = Reader().read([*theirs, *mine]).advance(shop.now_ms + HOUR).matured().values()
    assert found.label == 1


def _without_last(shop: Scribe) -> Scribe:
    shorter = copy.copy(shop)
    shorter.entries = shop.entries[:-1]
    return shorter
