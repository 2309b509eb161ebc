"""The pace of learning: of a rush a fair sample of the profiles, and what was taken on before it loses nothing."""

from __future__ import annotations

import pytest

from engine.sticky import bucket
from tests.engine.builders import MINUTE
from tests.training.journals import Reader, Scribe
from training.pace import Pace
from training.saved_state import from_bytes, to_bytes


def passes(shop: Scribe, reader: Reader, pace: Pace, a_second: int, seconds: int, who: str = "anon") -> None:
    """So many decisions a second, each second read when it is over."""
    for second in range(seconds):
        n = len(shop.entries)
        for i in range(a_second):
            shop.decide(f"{who}:{second}-{i}")
        shop.wait(1_000)
        reader.read(shop.entries[n:]).advance(shop.now_ms)
        pace.look(reader.attribution)


@pytest.fixture
def shop() -> Scribe:
    return Scribe()


@pytest.fixture
def reader() -> Reader:
    return Reader()


@pytest.fixture
def pace() -> Pace:
    return Pace(most_per_s=20.0)


def test_of_a_rush_the_same_profiles_are_learned_from_and_of_quiet_times_all(
    shop: Scribe, reader: Reader, pace: Pace
) -> None:
    passes(shop, reader, pace, 10, 3)
    assert (reader.attribution.pace, len(reader.window)) == (1.0, 30)
    passes(shop, reader, pace, 100, 5, "rush")
    share = reader.attribution.pace
    assert share in (1 / 8, 1 / 16)
    n = len(reader.window)
    again = Reader()
    assert from_bytes(to_bytes(reader.attribution, reader.window, {}), again.attribution, 10_000) is not None
    assert again.attribution.pace == share
    shop.decide("rush:back")
    passes(shop, reader, pace, 100, 2, "on")
    new = {reader[key].track for key in list(reader.window)[n:]}
    assert new == {f"on:{s}-{i}" for s in range(2) for i in range(100) if bucket("learning", f"on:{s}-{i}") < share}
    passes(shop, reader, pace, 1, 6, "quiet")
    assert reader.attribution.pace == 1.0


def test_what_was_taken_on_before_a_rush_matures_with_what_came_of_it(shop: Scribe, reader: Reader, pace: Pace) -> None:
    passes(shop, reader, pace, 10, 2)
    before = {reader[key].track: key for key in reader.window}
    n = len(shop.entries)
    visits = {track: shop.visit(track) for track in before}
    reader.read(shop.entries[n:])
    passes(shop, reader, pace, 100, 3, "rush")
    share = reader.attribution.pace
    left_out = [track for track in before if bucket("learning", track) >= share]
    assert len(left_out) > 5
    n = len(shop.entries)
    buyer, returns = left_out[:2]
    shop.order(buyer)
    later = shop.decide(returns)
    reader.read(shop.entries[n:]).advance(shop.now_ms + 10 * MINUTE)
    matured = reader.matured()
    assert {before[track] for track in before} <= matured.keys()
    assert (matured[before[buyer]].label, matured[before[returns]].label) == (1, 0)
    # A visit is over with a decision, also with one that is not learned from itself.
    assert visits[buyer] in matured
    assert visits[returns] not in matured
    assert later not in reader.window


def test_a_rush_is_held_while_it_is_read(shop: Scribe, reader: Reader, pace: Pace) -> None:
    passes(shop, reader, pace, 10, 2)
    n = len(shop.entries)
    for i in range(400):
        shop.decide(f"rush:{i}")
    shop.wait(1_000)
    for start in range(n, len(shop.entries), 25):
        reader.read(shop.entries[start : start + 25])
        pace.hold(reader.attribution, shop.now_ms)
    held = reader.attribution.pace
    assert held < 1 / 8
    assert len(reader.window) < 20 + 400 // 4
    reader.advance(shop.now_ms)
    pace.look(reader.attribution)
    assert reader.attribution.pace == held


def test_a_backlog_read_at_once_was_no_rush(shop: Scribe, reader: Reader, pace: Pace) -> None:
    passes(shop, reader, pace, 10, 2)
    n = len(shop.entries)
    for i in range(300):
        shop.decide(f"anon:night-{i}")
        shop.wait(100)
    reader.read(shop.entries[n:])
    pace.hold(reader.attribution, shop.now_ms)
    reader.advance(shop.now_ms)
    pace.look(reader.attribution)
    assert reader.attribution.pace == 1.0
    assert len(reader.window) == 320
