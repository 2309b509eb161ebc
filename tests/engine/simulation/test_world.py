"""The simulated shop: the same seed gives the same world, and the world obeys its documented truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from statistics import mean

import pytest

from engine.events import parse_event
from engine.simulation import Ask, Send, Shown, Step, Truth, World
from engine.simulation.world import DAY_MS, rhythm

START_MS = 1_700_000_000_000


@dataclass
class Walk:
    """What happened in a world in which `offer` chose what to show."""

    sends: list[Send] = field(default_factory=list)
    asks: list[Ask] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)

    def visits_with(self, name: str) -> set[str]:
        return {_visit(s) for s in self.sends if s.event.get("event") == name}

    @property
    def abandoned_share(self) -> float:
        return 1 - len(self.visits_with("Order Completed")) / len(self.visits_with("Product Added"))


def _visit(send: Send) -> str:
    return str(send.event["messageId"]).rsplit("-", 1)[0]


def walk(
    seed: int, n_shoppers: int, offer: Callable[[Ask], Shown | str | None] = lambda _: None, truth: Truth | None = None
) -> Walk:
    seen, reply = Walk(), None
    steps = World(seed, truth).steps(START_MS, n_shoppers)
    while True:
        try:
            step = steps.send(reply)
        except StopIteration:
            return seen
        seen.steps.append(step)
        reply = None
        if isinstance(step, Send):
            seen.sends.append(step)
        else:
            seen.asks.append(step)
            reply = offer(step)


@pytest.fixture(scope="module")
def plain() -> Walk:
    """A world large enough for rates, in which nobody sees an offer."""
    return walk(2024, 4500)


def test_the_same_seed_gives_the_same_steps() -> None:
    assert walk(7, 60).steps == walk(7, 60).steps


def test_another_seed_gives_other_steps() -> None:
    assert walk(7, 5).steps != walk(8, 5).steps


def test_steps_come_in_order_of_time_and_no_message_id_twice() -> None:
    seen = walk(3, 200)
    times = [s.t_ms for s in seen.steps]
    assert times == sorted(times)
    ids = Counter(s.event["messageId"] for s in seen.sends)
    assert max(ids.values()) == 1


def test_42_percent_of_carts_are_abandoned_when_nobody_sees_an_offer(plain: Walk) -> None:
    assert len(plain.visits_with("Product Added")) > 4500
    assert abs(plain.abandoned_share - 0.42) < 0.02


def test_a_shoppers_fate_does_not_depend_on_how_the_world_is_walked() -> None:
    merged = walk(11, 20)
    alone = [list(life.steps()) for life in islice(World(11).lives(START_MS), 20)]
    assert sorted((s.t_ms, repr(s)) for s in merged.steps) == sorted((s.t_ms, repr(s)) for life in alone for s in life)


def test_every_event_is_segment_shaped_and_within_the_limits_of_the_contract(plain: Walk) -> None:
    for send in plain.sends:
        event = send.event
        assert event["type"] in {"page", "track", "identify"}
        assert event["anonymousId"]
        properties = event.get("properties", {})
        assert 0 <= properties.get("scroll_share", 0) <= 1
        assert properties.get("scroll_px", 0) >= 0
    kinds = {s.event.get("event", s.event["type"]) for s in plain.sends}
    assert kinds >= {
        "page", "identify", "Scroll Depth", "Heartbeat", "Hover", "Clicked", "Product Viewed", "Product Added",
        "Cart Viewed", "Checkout Started", "Order Completed", "Order Refunded",
    }  # fmt: skip


def test_the_engine_understands_every_event() -> None:
    for send in walk(5, 40).sends:
        signal = parse_event(send.event, received_ms=START_MS + 90 * DAY_MS, message_key=b"k").signal
        assert signal.kind != "custom", send.event
        assert signal.t_ms == send.t_ms


def test_several_devices_of_one_person_meet_in_one_user_id() -> None:
    devices: dict[str, set[str]] = {}
    for send in walk(5, 200).sends:
        if send.event["type"] == "identify":
            devices.setdefault(send.event["userId"], set()).add(send.event["anonymousId"])
    assert any(len(ids) == 2 for ids in devices.values())


def test_a_visitor_is_anonymous_until_it_identifies_itself() -> None:
    known: set[str] = set()
    anonymous_before = 0
    for send in walk(5, 200).sends:
        device = send.event["anonymousId"]
        if send.event["type"] == "identify":
            known.add(device)
        assert ("userId" in send.event) == (device in known)
        anonymous_before += device not in known
    assert known
    assert anonymous_before


def test_free_shipping_wins_iphones_at_the_checkout_and_a_discount_androids_with_a_cart_history(plain: Walk) -> None:
    truth = Truth()
    gains: dict[tuple[str, str, bool], list[float]] = {}
    for ask in plain.asks:
        if ask.request["placement"] != "cart_page" or truth.temper(ask.shopper).name != "persuadable":
            continue
        near = ask.state.checkout_step > 0 if ask.state.os == "ios" else ask.state.n_past_carts > 0
        for offer in ("free_shipping", "discount_10"):
            gains.setdefault((offer, ask.state.os, near), []).append(truth.uplift(ask.shopper, ask.state, offer))
    gain = {key: mean(values) for key, values in gains.items()}
    assert gain["free_shipping", "ios", True] > 2 * gain["discount_10", "ios", True]
    assert gain["free_shipping", "ios", True] > 2 * gain["free_shipping", "ios", False]
    assert gain["discount_10", "android", True] > 2 * gain["free_shipping", "android", True]
    assert gain["discount_10", "android", True] > 2 * gain["discount_10", "android", False]


def test_an_offer_drives_sleeping_dogs_away_and_moves_neither_sure_buyers_nor_lost_causes(plain: Walk) -> None:
    truth = Truth()
    gains: dict[str, list[float]] = {}
    for ask in plain.asks:
        if ask.request["placement"] == "cart_page":
            gain = truth.uplift(ask.shopper, ask.state, "free_shipping")
            gains.setdefault(truth.temper(ask.shopper).name, []).append(gain)
    assert mean(gains["sleeping"]) < -0.15
    assert abs(mean(gains["sure"])) < 0.02
    assert abs(mean(gains["lost"])) < 0.02
    assert mean(gains["persuadable"]) > 0.08


def test_the_right_offers_recover_carts_that_would_be_lost() -> None:
    def oracle(ask: Ask) -> str | None:
        best = max(("free_shipping", "discount_10"), key=lambda o: truth.uplift(ask.shopper, ask.state, o))
        return best if truth.uplift(ask.shopper, ask.state, best) > 0 else None

    truth = Truth()
    assert walk(9, 1000, oracle).abandoned_share < walk(9, 1000).abandoned_share - 0.05


def test_what_can_be_observed_tells_who_will_buy(plain: Walk) -> None:
    bought = plain.visits_with("Order Completed")
    deep: list[bool] = []
    shallow: list[bool] = []
    for ask in plain.asks:
        if ask.request["placement"] == "cart_page":
            visit = ask.request["pageViewId"].rsplit("-", 1)[0]
            (deep if ask.state.depth > 0.6 else shallow).append(visit in bought)
    assert mean(deep) > mean(shallow) + 0.1


def test_scrolls_are_noisy_and_some_are_fleeting() -> None:
    seen = walk(4, 200)
    fleeting = 0
    last: dict[str, tuple[int, float]] = {}
    for send in seen.sends:
        device = send.event["anonymousId"]
        if send.event.get("event") == "Scroll Depth":
            share = send.event["properties"]["scroll_share"]
            t_ms, before = last.get(device, (0, 0.0))
            fleeting += before >= 0.85 and share <= 0.1 and send.t_ms - t_ms < 1000
            last[device] = (send.t_ms, share)
    assert fleeting > 20


def test_a_shown_offer_is_seen_and_its_redemption_names_the_decision() -> None:
    seen = walk(5, 200, lambda ask: Shown("free_shipping", f"d-{ask.request['pageViewId']}"))
    viewed = [s.event["properties"] for s in seen.sends if s.event.get("event") == "Offer Viewed"]
    redeemed = [s.event["properties"] for s in seen.sends if s.event.get("event") == "Offer Redeemed"]
    assert len(viewed) == len(seen.asks)
    assert redeemed
    decisions = {v["decision_id"] for v in viewed}
    assert all(r["decision_id"] in decisions and r["offer_id"] == "free_shipping" for r in redeemed)


def test_shoppers_arrive_with_the_rhythm_of_the_day() -> None:
    hours = Counter(life.start_ms % DAY_MS // 3_600_000 for life in islice(World(1).lives(START_MS), 4000))
    assert hours[20] > 3 * hours[8]
    assert abs(mean(rhythm(h * 3_600_000) for h in range(24)) - 1) < 1e-9
