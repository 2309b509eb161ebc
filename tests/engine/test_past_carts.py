"""Carts left in earlier visits are counted, once each, on one track and over several."""

from __future__ import annotations

import orjson

from engine.features import INDEX, profile_features
from engine.profile import view
from engine.signals import Signal
from engine.track import DAY_MS, Track
from tests.engine.builders import MINUTE, T0, signal

ITEM = [{"id": "p1", "price": 10.0, "quantity": 1}]


def visits(*bought: bool, start_ms: int = T0) -> list[Signal]:
    """A visit every other day, each with something put into the cart, and an order where one is wanted."""
    found = []
    for n, order in enumerate(bought):
        t_ms = start_ms + 2 * n * DAY_MS
        found += [signal("page", t_ms, url="/a"), signal("product_added", t_ms + MINUTE, items=ITEM)]
        if order:
            found.append(signal("order_completed", t_ms + 2 * MINUTE, order_id=f"o{n}", value=10.0))
    return found


def folded(signals: list[Signal], name: str = "anon:a") -> Track:
    track = Track.fresh(name)
    for one in signals:
        track.observe(one, one.t_ms)
    return track


def n_past_carts(track: Track, now_ms: int) -> float:
    return profile_features(track, now_ms)[INDEX["n_past_carts"]]


def test_the_cart_of_this_visit_is_not_a_past_one() -> None:
    assert n_past_carts(folded(visits(False)), T0 + 2 * MINUTE) == 0


def test_a_cart_that_was_not_paid_for_counts_from_the_next_visit_on() -> None:
    track = folded([*visits(False, True, False), signal("page", T0 + 6 * DAY_MS, url="/a")])
    assert n_past_carts(track, T0 + 6 * DAY_MS) == 2


def test_a_visit_without_a_cart_is_no_cart_left() -> None:
    track = folded([signal("page", T0, url="/a"), signal("page", T0 + 2 * DAY_MS, url="/a")])
    assert n_past_carts(track, T0 + 2 * DAY_MS) == 0


def test_carts_left_survive_a_snapshot() -> None:
    track = folded(visits(False, False, False))
    stored = orjson.loads(orjson.dumps(track.snapshot()))
    assert n_past_carts(Track.restore(stored), T0 + 9 * DAY_MS) == 3


def test_carts_of_all_devices_of_a_profile_add_up() -> None:
    phone, desk = folded(visits(False)), folded(visits(False, start_ms=T0 + DAY_MS), "anon:b")
    assert n_past_carts(view("user:u", [phone, desk]), T0 + 9 * DAY_MS) == 2
