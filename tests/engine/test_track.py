"""A track folds signals exactly once and in any order."""

from __future__ import annotations

import math
from random import Random

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.features import INDEX, profile_features
from engine.signals import Signal
from engine.track import DEDUP_MS, Track
from tests.engine.builders import HOUR, MINUTE, T0, histories, signal


def folded(signals: list[Signal], received_ms: int = T0) -> Track:
    track = Track.fresh("anon:a")
    for s in signals:
        track.observe(s, received_ms)
    return track


def feature(track: Track, name: str, now_ms: int = T0) -> float:
    return profile_features(track, now_ms)[INDEX[name]]


def test_a_duplicate_message_changes_nothing() -> None:
    track = folded([signal("page", message=7)])
    before = track.snapshot()
    assert track.observe(signal("page", message=7), T0 + 1) is False
    assert track.snapshot() == before


def test_a_message_may_take_effect_again_a_day_after_its_receipt() -> None:
    track = folded([signal("page", message=7)])
    assert track.observe(signal("page", message=7), T0 + DEDUP_MS) is True
    assert len(track.seen) == 1


@given(histories(), st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_any_order_of_arrival_gives_the_same_features(signals: list[Signal], seed: int) -> None:
    shuffled = list(signals)
    Random(seed).shuffle(shuffled)
    now = T0 + 21 * HOUR
    a, b = profile_features(folded(signals), now), profile_features(folded(shuffled), now)
    assert a == pytest.approx(b, rel=1e-9, abs=1e-9, nan_ok=True)
    assert folded(signals).n_sessions == folded(shuffled).n_sessions


@given(histories())
@settings(max_examples=100, deadline=None)
def test_a_snapshot_restores_bit_for_bit(signals: list[Signal]) -> None:
    track = folded(signals)
    stored = orjson.dumps(track.snapshot())
    assert orjson.dumps(Track.restore(orjson.loads(stored)).snapshot()) == stored


@given(histories(), st.data())
@settings(max_examples=100, deadline=None)
def test_a_snapshot_and_the_rest_is_the_whole(signals: list[Signal], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(signals)))
    restored = Track.restore(orjson.loads(orjson.dumps(folded(signals[:cut]).snapshot())))
    for s in signals[cut:]:
        restored.observe(s, T0)
    assert orjson.dumps(restored.snapshot()) == orjson.dumps(folded(signals).snapshot())


def test_half_an_hour_of_silence_ends_a_session() -> None:
    track = folded([signal("page", T0), signal("page", T0 + 30 * MINUTE), signal("page", T0 + 60 * MINUTE + 1)])
    assert track.n_sessions == 2


def test_a_late_signal_joins_two_sessions() -> None:
    track = folded([signal("page", T0), signal("page", T0 + 50 * MINUTE)])
    assert track.n_sessions == 2
    track.observe(signal("click", T0 + 25 * MINUTE), T0)
    assert track.n_sessions == 1


def test_old_sessions_become_moving_averages() -> None:
    track = folded([signal("page", T0 + day * 24 * HOUR, url="/x") for day in range(6)])
    assert track.n_sessions == 6
    assert len(track.sessions) <= 3
    assert feature(track, "past_pages", T0 + 5 * 24 * HOUR) == 1.0


def test_an_event_more_than_a_day_late_is_counted_and_left_out() -> None:
    track = folded([signal("page", T0 + 48 * HOUR), signal("page", T0)])
    assert (track.n_late, track.n_sessions) == (1, 1)


def test_recency_fades_within_a_minute_of_the_last_behaviour() -> None:
    track = folded([signal("page", T0), signal("identify", T0 + 20_000, traits={"a": 1})])
    assert feature(track, "recency", T0 + 30_000) == 0.5


def test_depth_is_that_of_the_current_page() -> None:
    track = folded([signal("page", T0), signal("scroll", T0 + 1000, px=900.0), signal("page", T0 + 2000)])
    assert feature(track, "depth", T0 + 3000) == 0.0
    track.observe(signal("scroll", T0 + 3000, px=400.0), T0)
    assert feature(track, "depth", T0 + 3000) == 0.4


def test_depth_without_pixels_is_share_times_height_or_the_share() -> None:
    tall = folded([signal("page", T0, height_px=4000.0), signal("scroll", T0 + 1, share=0.1)])
    assert feature(tall, "depth", T0 + 2) == pytest.approx(0.4)
    unknown = folded([signal("page", T0), signal("scroll", T0 + 1, share=0.7)])
    assert feature(unknown, "depth", T0 + 2) == 0.7


def test_the_cart_adds_removes_and_empties_with_the_order() -> None:
    track = folded(
        [
            signal("product_added", T0, items=[{"id": "a", "price": 10.0, "quantity": 3}]),
            signal("product_removed", T0 + 1, items=[{"id": "a", "quantity": 1}]),
            signal("product_added", T0 + 2, items=[{"id": "b", "price": 5.0}]),
        ]
    )
    assert (feature(track, "cart_value", T0 + 3), feature(track, "n_cart_items", T0 + 3)) == (25.0, 3.0)
    track.observe(signal("order_completed", T0 + 4, order_id="o", value=25.0), T0)
    assert feature(track, "n_cart_items", T0 + 5) == 0.0
    assert math.isnan(feature(track, "cart_age_s", T0 + 5))


def test_a_refunded_or_cancelled_order_is_not_a_purchase() -> None:
    track = folded(
        [
            signal("order_completed", T0, order_id="o1", value=20.0),
            signal("order_completed", T0 + 1, order_id="o2", value=30.0),
            signal("order_cancelled", T0 + 2, order_id="o1"),
            signal("order_refunded", T0 + 3, order_id="o2", value=10.0),
        ]
    )
    assert (feature(track, "n_purchases", T0 + 4), feature(track, "purchase_value", T0 + 4)) == (1.0, 20.0)


def test_scroll_share_averages_over_pages_so_that_one_deep_page_does_not_decide() -> None:
    pages = []
    for i, share in enumerate([0.1, 0.1, 0.9]):
        pages += [signal("page", T0 + i * 10_000), signal("scroll", T0 + i * 10_000 + 5000, share=share)]
    track = folded(pages)
    assert feature(track, "scroll_share_max", T0 + 26_000) == 0.9
    assert 0.3 < feature(track, "scroll_share", T0 + 26_000) < 0.45
