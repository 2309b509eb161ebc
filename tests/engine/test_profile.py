"""A profile is a set of tracks: the order of links does not matter, and nothing is fused."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.features import profile_features
from engine.profile import view
from engine.signals import Signal
from engine.track import Track
from tests.engine.builders import HOUR, T0, histories

NOW = T0 + 21 * HOUR


def track_of(name: str, signals: list[Signal]) -> Track:
    track = Track.fresh(name)
    for s in signals:
        track.observe(s, T0)
    return track


def seen(tracks: list[Track]) -> list[float]:
    return profile_features(view("user:u", tracks), NOW)


@given(histories(max_size=15), histories(max_size=15), histories(max_size=15), st.permutations([0, 1, 2]))
@settings(max_examples=100, deadline=None)
def test_the_view_does_not_depend_on_the_order_of_the_links(
    a: list[Signal], b: list[Signal], c: list[Signal], order: list[int]
) -> None:
    tracks = [track_of("user:u", a), track_of("anon:1", b), track_of("anon:2", c)]
    assert seen([tracks[i] for i in order]) == pytest.approx(seen(tracks), nan_ok=True, rel=0, abs=0)


@given(histories(max_size=20), histories(max_size=20))
@settings(max_examples=100, deadline=None)
def test_viewing_changes_no_track_so_that_a_merge_can_be_undone(a: list[Signal], b: list[Signal]) -> None:
    tracks = [track_of("user:u", a), track_of("anon:1", b)]
    before = [orjson.dumps(t.snapshot()) for t in tracks]
    view("user:u", tracks)
    assert [orjson.dumps(t.snapshot()) for t in tracks] == before


@given(histories(max_size=30), st.data())
@settings(max_examples=100, deadline=None)
def test_signals_split_over_two_devices_count_as_on_one(signals: list[Signal], data: st.DataObject) -> None:
    left = [s for s in signals if s.kind != "order_refunded" and data.draw(st.booleans())]
    right = [s for s in signals if s.kind != "order_refunded" and s not in left]
    one = profile_features(view("user:u", [track_of("user:u", left + right)]), NOW)
    two = seen([track_of("user:u", left), track_of("anon:1", right)])
    assert two == pytest.approx(one, nan_ok=True, rel=1e-9, abs=1e-9)


def test_a_single_track_is_its_own_view() -> None:
    track = track_of("anon:1", [])
    assert view("anon:1", [track]) is track
